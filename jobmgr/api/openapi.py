"""The OpenAPI 3.1 document, made of the table of routes and the structs on the wire."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from jobmgr import __version__
from jobmgr.api import idempotency
from jobmgr.api.guard import CHANGES, JSON_TYPE, NDJSON_TYPE, REFUSALS
from jobmgr.api.manner import PROBLEMS, Manner
from jobmgr.api.page import render
from jobmgr.api.route import Route
from jobmgr.domain.site import SITE_NAME
from jobmgr.domain.user import TOKEN_ID, USER_NAME
from jobmgr.errors import AccessDenied, InvalidRequest, JobmgrError, KeyReused, QueryTooSlow, StoreUnavailable
from jobmgr.wire.answers import EventAnswer
from jobmgr.wire.submission import JOB_ID, QUEUE_NAME, JobSubmission
from jobmgr.wire.together import TOGETHER
from jobmgr.wire.translation import encode

_TEMPLATE = "#/components/schemas/{name}"
_DESCRIPTION = """Jobs are stored and started at most once per attempt. Every path but /healthz asks for a direct
loopback connection of the service's own user, or for a token as `Authorization: Bearer TOKEN`: that of the service's
owner, an API token of a user (`POST /api/v1/tokens`), which may do what the user's role and its own scopes allow, or
that of a running job. `GET /api/v1/me` tells who one is. Errors are RFC 9457 problem documents with a stable `code`;
those of a field name it in `field`. Whole numbers are written without a fraction: 1, not 1.0. Routes outside of /api/v1
are those of pyedb's job manager, whose errors have `success` and `error` beside these two. Socket.IO is at /socket.io/
and sends job_queued, job_started, job_scheduled, job_completed, job_cancelled and limits_updated. A client that
connects with auth `{"rooms": ["events", "job:ID"]}`, or emits `subscribe` with `{"rooms": [...]}`, is sent `events`
instead: the events of all or of these jobs, in batches. A subscription is acknowledged with `{"rooms", "position"}` or
`{"error"}`."""
# What stands in paths, with what stands before it where that tells what it is.
_PATH_PARAMETERS: Mapping[str, dict[str, Any]] = {
    # To know no such job is an answer there.
    "cancel/{job_id}": {"type": "string", "minLength": 1},
    "{job_id}": {"type": "string", "pattern": f"^{JOB_ID}$"},
    "queues/{name}": {"type": "string", "pattern": f"^{QUEUE_NAME}$"},
    "sites/{name}": {"type": "string", "pattern": f"^{SITE_NAME}$"},
    "cluster/{name}": {"type": "string", "pattern": f"^{SITE_NAME}$"},
    "users/{name}": {"type": "string", "pattern": f"^{USER_NAME}$"},
    "{token_id}": {"type": "string", "pattern": f"^{TOKEN_ID}$"},
    "{path}": {"type": "string", "minLength": 1, "description": "relative to the run directory"},
}
_KEY_PARAMETER: dict[str, Any] = {
    "name": idempotency.HEADER,
    "in": "header",
    "required": False,
    "description": "sent again with the same key within 7 days, the same request changes nothing more and is "
    "answered alike; another one is refused",
    # A space before or behind it does not belong to the value of a header.
    "schema": {"type": "string", "maxLength": idempotency.MAX_LENGTH, "pattern": "^[!-~](?:[ -~]*[!-~])?$"},
}
_RANGE_PARAMETER: dict[str, Any] = {
    "name": "Range",
    "in": "header",
    "required": False,
    "description": "one range of bytes; what is none, or more than one, is as if it were not there",
    "schema": {"type": "string"},
}
# Headers that always come with answers of a status.
_HEADERS: Mapping[int, str] = {
    401: "WWW-Authenticate",
    416: "Content-Range",
    429: "Retry-After",
    503: "Retry-After",
}
_BYTES = {"type": "string", "format": "binary"}


@dataclass(frozen=True, slots=True)
class Documents:
    """The description of the API as it is sent: JSON, a page, and the page's content security policy."""

    openapi: bytes
    page: bytes
    page_policy: str


def describe(routes: Sequence[Route], *, asks_always: bool = False) -> Documents:
    """Both descriptions of `routes`, of a service that asks everybody for a token or not."""
    document = openapi_document(routes, asks_always=asks_always)
    page, policy = render(document)
    return Documents(encode(document), page, policy)


def openapi_document(routes: Sequence[Route], *, asks_always: bool = False) -> dict[str, Any]:
    """OpenAPI 3.1 as JSON values."""
    structs: set[type[msgspec.Struct]] = {EventAnswer, PROBLEMS.body}
    for route in routes:
        structs.add(route.manner.body)
        structs.update(route.own_bodies, _answers(route), filter(None, (route.query, route.body)))
    ordered = sorted(structs, key=lambda struct: struct.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_TEMPLATE)
    for struct, rule in TOGETHER.items():
        # Those, too, that stand in others.
        if struct.__name__ in schemas:
            schemas[struct.__name__] |= rule
    queries = {route.query.__name__ for route in routes if route.query is not None}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operation = _operation(route, schemas)
        operation["responses"] = _responses(route, _links(route, routes))
        paths.setdefault(_path(route), {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "jobmgr", "version": __version__, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in schemas.items() if name not in queries},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}] if asks_always else [{}, {"token": []}],
    }


def _path(route: Route) -> str:
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.path)


def _parameters_in(path: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", path)


def _operation_id(route: Route) -> str:
    words = [*filter(None, (route.manner.family, route.method.lower()))]
    return "_".join([*words, *re.findall(r"\w+", _path(route).removeprefix("/api/v1"))])


def _operation(route: Route, schemas: Mapping[str, Any]) -> dict[str, Any]:
    path = _path(route)
    operation: dict[str, Any] = {"operationId": _operation_id(route), "summary": route.summary}
    if route.is_open:
        operation["security"] = []
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _path_schema(path, name)}
        for name in _parameters_in(path)
    ]
    if route.query is not None:
        parameters += _query_parameters(schemas[route.query.__name__])
    if route.method in CHANGES:
        parameters.append(_KEY_PARAMETER)
    if route.is_ranged:
        parameters.append(_RANGE_PARAMETER)
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {JSON_TYPE: {"schema": _schema((route.body,))}},
        }
    if route.own_bodies:
        content = {
            JSON_TYPE: {"schema": _schema(route.own_bodies)},
            NDJSON_TYPE: {"schema": _schema((JobSubmission,))},
        }
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _path_schema(path: str, name: str) -> dict[str, Any]:
    place = f"{{{name}}}"
    return next(
        schema for before, schema in _PATH_PARAMETERS.items() if before.endswith(place) and before in path
    )


def _query_parameters(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    parameters = []
    for name, shape in schema["properties"].items():
        # "Not given" is what null stands for in the struct; in an address there is no null.
        options = [option for option in shape.get("anyOf", [shape]) if option.get("type") != "null"]
        plain = {key: value for key, value in options[0].items() if key != "description"}
        # Nor is there an empty value, or an empty list.
        if plain.get("type") == "array":
            plain = {key: value for key, value in plain.items() if key != "default"} | {"minItems": 1}
        elif plain.get("type") == "string":
            plain = {"minLength": 1, **plain}
        parameter = {"name": name, "in": "query", "required": name in schema["required"], "schema": plain}
        if description := options[0].get("description"):
            parameter["description"] = description
        if plain.get("type") == "array":
            parameter |= {"style": "form", "explode": False}
        parameters.append(parameter)
    return parameters


def _responses(route: Route, links: Mapping[str, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done"}
    if isinstance(route.answer, str):
        good["content"] = {
            route.answer: {} if route.answer in ("text/html", JSON_TYPE) else {"schema": _BYTES}
        }
    elif route.answer is not None:
        schema = _schema(_answers(route))
        good["content"] = {
            JSON_TYPE: {"schema": {"type": "array", "items": schema} if route.is_array else schema}
        }
        if route.has_csv:
            good["content"]["text/csv"] = {"schema": {"type": "string"}}
        if route.streams:
            good["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    if links:
        good["links"] = links
    responses = {str(route.status): good}
    if route.may_be_empty:
        responses["204"] = {"description": "Nothing yet"}
    if route.is_ranged:
        responses["206"] = {"description": "The part that was asked for", "content": good["content"]}
    for status, code in sorted(refusals(route)):
        _add(responses.setdefault(str(status), {}), status, code, route.manner)
    _add_unreadable(responses.setdefault("400", {}))
    return responses


def refusals(route: Route) -> set[tuple[int, str]]:
    """Status and code of everything that a route may answer instead of what it is for."""
    every: set[type[JobmgrError]] = {*route.errors, InvalidRequest}
    found: set[tuple[int, str]] = {(500, "internal_error")}
    if not route.is_open:
        every |= {AccessDenied, StoreUnavailable, QueryTooSlow}
        found |= {*REFUSALS}
    if "{" in route.path:
        found.add((404, "no_such_route"))
    if route.method in CHANGES:
        every.add(KeyReused)
        found |= {
            (400, "cut_off"),
            (415, "wrong_content_type"),
            (400, "malformed_body"),
            (408, "body_too_slow"),
            (413, "body_too_large"),
        }
    if route.is_ranged:
        found.add((416, "range_outside"))
    return found | {(route.manner.status_of(error), error.code) for error in every}


def _add(response: dict[str, Any], status: int, code: str, manner: Manner) -> None:
    told = response.get("description")
    response["description"] = f"{told}, `{code}`" if told else f"`{code}`"
    response.setdefault("content", {})[manner.media_type] = {"schema": _schema((manner.body,))}
    if header := _HEADERS.get(status):
        response["headers"] = {header: {"required": True, "schema": {"type": "string"}}}


def _add_unreadable(response: dict[str, Any]) -> None:
    # What cannot be read as a request is answered before anybody knows what it asks for.
    told = response.get("description")
    unreadable = "no HTTP, or an address or a header that is too long"
    response["description"] = f"{told}; {unreadable}" if told else unreadable
    response.setdefault("content", {})["text/plain"] = {"schema": {"type": "string"}}


def _links(route: Route, routes: Sequence[Route]) -> dict[str, Any]:
    """Which routes can be asked with what the answer of this one says, and how."""
    links: dict[str, Any] = {}
    for place, pointer in route.gives:
        (given,) = _parameters_in(place)
        # Of files every job has one of this name.
        known = {given: f"$response.body#{pointer}", "path": "stdout"}
        for other in routes:
            wanted = _parameters_in(_path(other))
            if place in _path(other) and known.keys() >= set(wanted):
                identity = _operation_id(other)
                parameters = {name: known[name] for name in wanted}
                links[identity] = {"operationId": identity, "parameters": parameters}
    return links


def _answers(route: Route) -> tuple[type[msgspec.Struct], ...]:
    if route.answer is None or isinstance(route.answer, str):
        return ()
    return route.answer if isinstance(route.answer, tuple) else (route.answer,)


def _schema(structs: Sequence[type[msgspec.Struct]]) -> dict[str, Any]:
    references = [{"$ref": _TEMPLATE.format(name=struct.__name__)} for struct in structs]
    return references[0] if len(references) == 1 else {"anyOf": references}

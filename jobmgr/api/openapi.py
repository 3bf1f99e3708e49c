"""The OpenAPI 3.1 document, made of the table of routes and the structs on the wire."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from jobmgr import __version__
from jobmgr.api import idempotency
from jobmgr.api.guard import CHANGES, JSON_TYPE, NDJSON_TYPE
from jobmgr.api.manner import PROBLEMS, Manner
from jobmgr.api.page import render
from jobmgr.api.route import Route
from jobmgr.errors import KeyReused
from jobmgr.wire.answers import EventAnswer
from jobmgr.wire.submission import JOB_ID, JobSubmission
from jobmgr.wire.translation import encode

_TEMPLATE = "#/components/schemas/{name}"
_DESCRIPTION = """Jobs are stored and started at most once per attempt. Every path but /healthz asks for a direct
loopback connection of the service's own user, or for its token. Errors are RFC 9457 problem documents with a stable
`code`; those of a field name it in `field`. Routes outside of /api/v1 are those of pyedb's job manager, whose errors
have `success` and `error` beside these two. Socket.IO is at /socket.io/ and sends job_queued, job_started,
job_scheduled, job_completed, job_cancelled and limits_updated. A client that connects with auth
`{"rooms": ["events", "job:ID"]}`, or emits `subscribe` with `{"rooms": [...]}`, is sent `events` instead: the events of
all or of these jobs, in batches. A subscription is acknowledged with `{"rooms", "position"}` or `{"error"}`."""
_PATH_PARAMETERS: Mapping[str, dict[str, Any]] = {
    "job_id": {"type": "string", "pattern": JOB_ID},
    "name": {"type": "string", "minLength": 1, "maxLength": 128},
    "token_id": {"type": "string", "minLength": 1, "maxLength": 128},
    "path": {"type": "string", "description": "relative to the run directory"},
}
_KEY_PARAMETER: dict[str, Any] = {
    "name": idempotency.HEADER,
    "in": "header",
    "required": False,
    "description": "sent again with the same key within 7 days, the same request changes nothing more and is "
    "answered alike; another one is refused",
    "schema": {"type": "string", "minLength": 1, "maxLength": idempotency.MAX_LENGTH, "pattern": "^[ -~]+$"},
}
_BYTES = {"type": "string", "format": "binary"}


@dataclass(frozen=True, slots=True)
class Documents:
    """The description of the API as it is sent: JSON, a page, and the page's content security policy."""

    openapi: bytes
    page: bytes
    page_policy: str


def describe(routes: Sequence[Route]) -> Documents:
    """Both descriptions of `routes`."""
    document = openapi_document(routes)
    page, policy = render(document)
    return Documents(encode(document), page, policy)


def openapi_document(routes: Sequence[Route]) -> dict[str, Any]:
    """OpenAPI 3.1 as JSON values."""
    structs: set[type[msgspec.Struct]] = {EventAnswer, PROBLEMS.body}
    for route in routes:
        structs.add(route.manner.body)
        structs.update(route.own_bodies, _answers(route), filter(None, (route.query, route.body)))
    ordered = sorted(structs, key=lambda struct: struct.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_TEMPLATE)
    queries = {route.query.__name__ for route in routes if route.query is not None}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, path, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "jobmgr", "version": __version__, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in schemas.items() if name not in queries},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(route: Route, path: str, schemas: Mapping[str, Any]) -> dict[str, Any]:
    words = [*filter(None, (route.manner.family, route.method.lower()))]
    words += [*re.findall(r"\w+", path.removeprefix("/api/v1"))]
    operation: dict[str, Any] = {"operationId": "_".join(words), "summary": route.summary}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_PARAMETERS[name]}
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    if route.query is not None:
        parameters += _query_parameters(schemas[route.query.__name__])
    if route.method in CHANGES:
        parameters.append(_KEY_PARAMETER)
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
    operation["responses"] = _responses(route)
    return operation


def _query_parameters(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    parameters = []
    for name, shape in schema["properties"].items():
        # "Not given" is what null stands for in the struct; in an address there is no null.
        options = [option for option in shape.get("anyOf", [shape]) if option.get("type") != "null"]
        plain = {key: value for key, value in options[0].items() if key != "description"}
        parameter = {"name": name, "in": "query", "required": name in schema["required"], "schema": plain}
        if description := options[0].get("description"):
            parameter["description"] = description
        if plain.get("type") == "array":
            parameter |= {"style": "form", "explode": False}
        parameters.append(parameter)
    return parameters


def _responses(route: Route) -> dict[str, Any]:
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
    responses = {str(route.status): good}
    if route.may_be_empty:
        responses["204"] = {"description": "Nothing yet"}
    keyed = (KeyReused,) if route.method in CHANGES else ()
    for error in (*route.errors, *keyed):
        code, status = error.code, str(route.manner.status_of(error))
        there = responses.get(status)
        names = f"{there['description']}, `{code}`" if there else f"`{code}`"
        responses[status] = _problem(names, route.manner)
    responses["default"] = _problem("Any other problem", PROBLEMS)
    return responses


def _problem(description: str, manner: Manner) -> dict[str, Any]:
    return {"description": description, "content": {manner.media_type: {"schema": _schema((manner.body,))}}}


def _answers(route: Route) -> tuple[type[msgspec.Struct], ...]:
    if route.answer is None or isinstance(route.answer, str):
        return ()
    return route.answer if isinstance(route.answer, tuple) else (route.answer,)


def _schema(structs: Sequence[type[msgspec.Struct]]) -> dict[str, Any]:
    references = [{"$ref": _TEMPLATE.format(name=struct.__name__)} for struct in structs]
    return references[0] if len(references) == 1 else {"anyOf": references}

"""The description of the API, checked against the API."""

from __future__ import annotations

import inspect
import re
from html.parser import HTMLParser
from typing import Any

import aiohttp
import jsonschema
import pytest

from jobmgr.api.app import make_app
from jobmgr.api.browser import Browsers
from jobmgr.api.guard import Guard, own_uid
from jobmgr.api.openapi import openapi_document
from jobmgr.api.routes import ROUTES
from jobmgr.service import JobManager
from jobmgr.store.listing import ORDERS
from tests.api.conftest import OWNER, TOKEN, Api, serving

BEARER = {"Authorization": f"Bearer {TOKEN}"}
JOB = {"command": ["sh", "-c", "echo out; exit 1"], "tags": ["t"], "extended_properties": {"a": 1}}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document(ROUTES)


def test_beginning_of_the_description_tells_how_tokens_are_shown_and_had(document: dict[str, Any]) -> None:
    said = " ".join(document["info"]["description"].split())

    assert "`Authorization: Bearer TOKEN`" in said
    assert "API token of a user (`POST /api/v1/tokens`)" in said


def conforms(document: dict[str, Any], value: Any, schema: dict[str, Any]) -> None:
    """Check a value against a schema of the document."""
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def answer_schema(document: dict[str, Any], path: str, method: str, status: str, media_type: str) -> Any:
    return document["paths"][path][method]["responses"][status]["content"][media_type]["schema"]


def test_every_route_is_described_once(document: dict[str, Any]) -> None:
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    routed = [(route.method, re.sub(r":[^}]*", "", route.path)) for route in ROUTES]

    assert sorted(described) == sorted(routed)
    operations = [
        operation["operationId"] for methods in document["paths"].values() for operation in methods.values()
    ]
    assert len(set(operations)) == len(ROUTES)


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    references = set(re.findall(r"'\$ref': '([^']*)'", str(document)))

    names = {reference.removeprefix("#/components/schemas/") for reference in references}
    assert names <= set(document["components"]["schemas"])
    assert {"JobAnswer", "JobSubmission", "ProblemAnswer"} <= names


def test_path_parameters_are_declared(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            declared = {item["name"] for item in operation.get("parameters", []) if item["in"] == "path"}
            assert declared == set(re.findall(r"\{(\w+)\}", path))


def test_schemas_are_valid(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_problems_of_a_route_are_listed_by_code(document: dict[str, Any]) -> None:
    responses = document["paths"]["/api/v1/jobs/{job_id}/retry"]["post"]["responses"]

    assert responses["404"]["description"] == "`job_not_found`, `no_such_route`"
    assert responses["409"]["description"] == "`illegal_transition`, `key_reused`"
    assert set(responses["409"]["content"]) == {"application/problem+json"}


def test_query_parameters_are_described(document: dict[str, Any]) -> None:
    parameters = document["paths"]["/api/v1/jobs"]["get"]["parameters"]

    (total,) = [parameter for parameter in parameters if parameter["name"] == "total"]
    assert total["schema"] == {"type": "boolean", "default": False}
    assert (total["in"], total["required"]) == ("query", False)
    assert "10,000" in total["description"]
    (order,) = [parameter for parameter in parameters if parameter["name"] == "order"]
    assert set(order["schema"]["enum"]) == set(ORDERS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JobSubmission", {"command": ["a"], "resources": {"memory": "1GB", "memory_per_cpu": "1GB"}}),
        ("SiteAsked", {"kind": "slurm", "host": "login"}),
        ("LimitsChange", {}),
        ("UserChange", {}),
    ],
)
def test_fields_that_do_not_go_together_do_not_conform(
    document: dict[str, Any], name: str, value: dict[str, Any]
) -> None:
    with pytest.raises(jsonschema.ValidationError):
        conforms(document, value, document["components"]["schemas"][name])


def test_links_lead_to_routes_and_give_all_that_is_in_their_paths(document: dict[str, Any]) -> None:
    operations = {
        operation["operationId"]: operation
        for methods in document["paths"].values()
        for operation in methods.values()
    }
    linked: set[str] = set()

    for operation in operations.values():
        for response in operation["responses"].values():
            for link in response.get("links", {}).values():
                linked.add(link["operationId"])
                there = operations[link["operationId"]].get("parameters", [])
                wanted = {item["name"] for item in there if item["in"] == "path"}
                assert set(link["parameters"]) == wanted

    assert linked == {
        identity
        for path, methods in document["paths"].items()
        if "{" in path
        for identity in (operation["operationId"] for operation in methods.values())
    }


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Forwarded-For": "10.0.0.1"}, 401),
        ({"Authorization": "Bearer nonsense"}, 401),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Host": "elsewhere.example"}, 421),
    ],
)
async def test_what_is_refused_of_every_route_is_described(
    api: Api, document: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if operation.get("security") == []:
                continue
            answer = await api.request(method.upper(), re.sub(r"{\w+}", "x", path), headers=headers)
            assert answer.status == status, (method, path)
            content = operation["responses"][str(status)]["content"][answer.headers["Content-Type"]]
            conforms(document, answer.json, content["schema"])


async def test_document_says_whether_everybody_needs_a_token(manager: JobManager) -> None:
    asks = {}
    for uid in (own_uid(), None):
        guard = Guard(TOKEN, uid, loopback=True, browsers=Browsers(), owner=OWNER)
        async with serving(make_app(manager, guard)) as url, aiohttp.ClientSession() as session:
            api = Api(manager, url, session)
            asks[uid is None] = (await api.get("/openapi.json", headers=BEARER)).json

    assert asks[False]["security"] == [{}, {"token": []}]
    assert asks[True]["security"] == [{"token": []}]
    assert asks[True]["paths"]["/healthz"]["get"]["security"] == []


async def test_answers_are_as_described(api: Api, document: dict[str, Any]) -> None:
    submission = document["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    conforms(document, JOB, submission)
    conforms(document, {"jobs": [JOB]}, submission)
    job = await api.run(*JOB["command"])
    one = "/api/v1/jobs/{job_id}"

    for path in (
        "/api/v1/jobs",
        "/api/v1/jobs?total=true",
        one,
        f"{one}/attempts",
        f"{one}/events",
        f"{one}/why",
        f"{one}/files",
        "/api/v1/events",
        "/api/v1/queues",
        "/api/v1/limits",
        "/pool/limits",
        "/healthz",
        "/readyz",
    ):
        answer = await api.get(path.format(job_id=job.job_id))
        assert answer.status == 200
        schema = answer_schema(document, path.partition("?")[0], "get", "200", "application/json")
        conforms(document, answer.json, schema)
    problem = await api.get(f"{one}/why".format(job_id="nope"))
    conforms(
        document,
        problem.json,
        answer_schema(document, f"{one}/why", "get", "404", "application/problem+json"),
    )


async def test_document_is_served(api: Api, document: dict[str, Any]) -> None:
    answer = await api.get("/openapi.json")

    assert answer.json["openapi"] == "3.1.0"
    assert answer.json["paths"].keys() == document["paths"].keys()


async def test_page_needs_nothing_else(api: Api) -> None:
    found: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

    answer = await api.get("/docs")
    Reader().feed(answer.body.decode())

    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in found}
    assert not [attributes for _, attributes in found if "src" in attributes or "style" in attributes]
    links = {attributes["href"] for tag, attributes in found if tag == "a"}
    anchors = {f"#{attributes['id']}" for _, attributes in found if "id" in attributes}
    assert links <= anchors | {"/openapi.json"}
    assert b"/api/v1/jobs/{job_id}/cancel" in answer.body
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert "style-src 'sha256-" in answer.headers["Content-Security-Policy"]


def test_handlers_take_what_their_routes_declare() -> None:
    for route in ROUTES:
        taken = inspect.signature(route.handler).parameters
        declared = {
            name: shape.__name__ for name in ("query", "body") if (shape := getattr(route, name)) is not None
        }
        assert {name: taken[name].annotation for name in list(taken)[1:]} == declared, route.path

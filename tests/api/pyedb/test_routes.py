"""The table of routes: what it promises is what is answered, and the page about it is up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
from aiohttp import web

from jobmgr.api.app import make_app
from jobmgr.api.browser import Browsers
from jobmgr.api.guard import Guard, own_uid
from jobmgr.api.openapi import openapi_document
from jobmgr.api.pyedb.routes import ROUTES
from jobmgr.api.routes import ROUTES as ALL
from jobmgr.service import JobManager
from tests.api.conftest import OWNER, TOKEN, Api, serving
from tests.api.pyedb.conftest import Lab, refused

ROOT = Path(__file__).parents[3]
# Routes of pyedb 0.64.0 that are no pages or files.
REFERENCE = {
    ("GET", "/jobs"),
    ("GET", "/api/jobs"),
    ("GET", "/resources"),
    ("GET", "/api/resources"),
    ("GET", "/queue"),
    ("GET", "/api/queue"),
    ("POST", "/jobs/submit"),
    ("POST", "/api/submit"),
    ("POST", "/jobs/{job_id}/cancel"),
    ("POST", "/api/cancel/{job_id}"),
    ("POST", "/jobs/{job_id}/priority"),
    ("PUT", "/pool/limits"),
    ("GET", "/scheduler/partitions"),
    ("GET", "/api/cluster_partitions"),
    ("GET", "/api/scheduler_type"),
    ("GET", "/system/status"),
    ("POST", "/system/start_monitoring"),
    ("GET", "/api/me"),
    ("GET", "/api/jobs/{job_id}/log"),
}


def test_every_route_of_the_reference_is_there() -> None:
    assert {(route.method, route.path) for route in ROUTES} >= REFERENCE
    assert set(ROUTES) <= set(ALL)


def test_page_about_them_is_up_to_date() -> None:
    printed = subprocess.run(
        [sys.executable, "docs/pyedb_routes.py"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        text=True,
    ).stdout

    assert (ROOT / "docs" / "pyedb-routes.md").read_text() == printed


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document(ALL)


def conforms(document: dict[str, Any], value: Any, operation: dict[str, Any], status: str) -> None:
    schema = operation["responses"][status]["content"]["application/json"]["schema"]
    jsonschema.validate(
        value,
        {**schema, "components": document["components"]},
        cls=jsonschema.Draft202012Validator,
    )


@pytest.mark.usefixtures("programs")
async def test_answers_are_as_described(lab: Lab, document: dict[str, Any]) -> None:
    submitted = await lab.submit()
    await lab.ended()
    paths = document["paths"]
    conforms(document, submitted.json, paths["/jobs/submit"]["post"], "200")

    for route in ROUTES:
        if route.method == "GET" and route.path not in ("/api/jobs/{job_id}/log", "/scheduler/partitions"):
            answer = await lab.api.get(route.path)
            assert answer.status == 200, (route.path, answer)
            conforms(document, answer.json, paths[route.path]["get"], "200")
    for path, body in (("/jobs/{job_id}/cancel", None), ("/jobs/{job_id}/priority", {"priority": 1})):
        answer = await lab.api.post(path.format(job_id="nobody"), json=body)
        assert answer.status == 404
        conforms(document, answer.json, paths[path]["post"], "404")


async def test_changes_are_answered_as_described(lab: Lab, document: dict[str, Any]) -> None:
    await lab.close()
    for job_id in ("J1", "J2"):
        await lab.submit(jobid=job_id)
    bodies = {
        "/jobs/submit": {"config": lab.config(jobid="J3")},
        "/api/submit": {"config": lab.config(jobid="J4")},
        "/jobs/{job_id}/priority": {"priority": 3},
        "/pool/limits": {"max_concurrent_jobs": 3},
    }
    # Two ways to cancel, and each is asked for a job that waits.
    ids = {"/api/cancel/{job_id}": "J2"}

    for route in sorted(ROUTES, key=lambda route: "cancel" in route.path):
        if route.method != "GET":
            path = route.path.format(job_id=ids.get(route.path, "J1"))
            answer = await lab.api.request(route.method, path, json=bodies.get(route.path))
            assert (answer.status, answer.json.get("success")) == (200, True), (path, answer)
            conforms(document, answer.json, document["paths"][route.path][route.method.lower()], "200")


@pytest.mark.parametrize(("method", "path"), [("POST", "/jobs/submit"), ("PUT", "/pool/limits")])
async def test_what_every_change_may_be_refused_for_is_described(
    lab: Lab, document: dict[str, Any], method: str, path: str
) -> None:
    key = {"Idempotency-Key": "of another change"}
    await lab.api.post("/jobs/submit", json={"config": lab.config()}, headers=key)

    malformed = await lab.api.request(method, path, data=b"{", headers={"Content-Type": "application/json"})
    other = {"config": lab.config(jobid="J2")} if path == "/jobs/submit" else {"max_concurrent_jobs": 3}
    reused = await lab.api.request(method, path, json=other, headers=key)

    operation = document["paths"][path][method.lower()]
    for answer, code in ((malformed, "malformed_body"), (reused, "key_reused")):
        assert (answer.status, answer.json["code"]) == (400, code)
        assert f"`{code}`" in operation["responses"]["400"]["description"]
        conforms(document, answer.json, operation, "400")


async def test_strangers_are_met_by_the_same_guard_in_the_manner_of_the_routes(lab: Lab) -> None:
    for route in ROUTES:
        answer = await lab.api.request(
            route.method,
            route.path.format(job_id="J1"),
            headers={"Origin": "http://elsewhere", "Content-Type": "application/json"},
        )
        refused(answer, 403, "wrong_origin")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/queue", {"X-Forwarded-For": "10.0.0.1"}, 401, "token_required"),
        ("GET", "/queue", {"Host": "evil.example"}, 421, "wrong_host"),
        ("GET", "/jobs/J1/nothing", {}, 404, "no_such_route"),
        ("GET", "/api/jobs/J1", {}, 404, "no_such_route"),
        ("DELETE", "/pool/limits", {}, 405, "method_not_allowed"),
        ("POST", "/jobs/submit", {"Content-Encoding": "gzip"}, 415, "wrong_content_encoding"),
    ],
)
async def test_what_is_refused_before_a_route_is_told_in_their_manner(
    lab: Lab, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await lab.api.request(method, path, headers=headers)

    refused(answer, status, code)
    assert ("Allow" in answer.headers, "WWW-Authenticate" in answer.headers) == (status == 405, status == 401)


async def test_a_bug_is_told_in_their_manner(manager: JobManager) -> None:
    async def broken(_request: web.Request) -> web.Response:
        raise RuntimeError("the secret of the house")

    app = make_app(manager, Guard(TOKEN, own_uid(), loopback=True, browsers=Browsers(), owner=OWNER))
    app.router.add_get("/jobs/{id}/broken", broken)
    async with serving(app) as url, aiohttp.ClientSession() as session:
        answer = await Api(manager, url, session).get("/jobs/7/broken")

    refused(answer, 500, "internal_error")


async def test_other_paths_keep_the_manner_of_ours(lab: Lab) -> None:
    for path in ("/nothing", "/api/v1/nothing", "/api/v2/jobs", "/api"):
        (await lab.api.get(path)).problem(404, "no_such_route")

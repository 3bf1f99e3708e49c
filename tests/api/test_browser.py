"""What pages may do: those of this service, and those of sites that are allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from jobmgr.api.server import Server
from jobmgr.service import JobManager
from tests.api.conftest import TOKEN, Api

SITE = "https://site.example"
JOB = {"command": ["true"], "draft": True}


@pytest_asyncio.fixture
async def open_api(manager: JobManager) -> AsyncIterator[Api]:
    """A service whose name is jobs.example too, and which pages of one site may use."""
    async with (
        Server(
            manager,
            host="127.0.0.1",
            port=0,
            token=TOKEN,
            allowed_hosts=["jobs.example"],
            allowed_origins=[SITE],
        ) as server,
        aiohttp.ClientSession() as session,
    ):
        yield Api(manager, server.url, session)


async def test_page_of_an_allowed_site_reads_and_changes(open_api: Api) -> None:
    headers = {"Origin": SITE, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}

    stored = await open_api.post("/api/v1/jobs", json=JOB, headers=headers)
    read = await open_api.get("/api/v1/jobs", headers=headers)
    missing = await open_api.get("/api/v1/jobs/none", headers=headers)

    assert (stored.status, read.status, missing.status) == (201, 200, 404)
    for answer in (stored, read, missing):
        assert answer.headers["Access-Control-Allow-Origin"] == SITE
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Origin" in answer.headers["Vary"]
        shown = answer.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"Link", "X-Log-Size", "X-Next-Cursor"} <= set(shown)


async def test_page_of_an_allowed_site_may_ask_first(open_api: Api) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}

    answer = await open_api.request("OPTIONS", "/api/v1/jobs", headers={"Origin": SITE, **asked})

    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == SITE
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert {"Authorization", "Content-Type", "Idempotency-Key"} <= set(
        answer.headers["Access-Control-Allow-Headers"].split(", ")
    )


async def test_question_of_a_page_needs_no_token_and_its_request_does(manager: JobManager) -> None:
    server = Server(
        manager, host="127.0.0.1", port=0, token=TOKEN, allowed_origins=[SITE], require_token=True
    )
    headers = {"Origin": SITE, "Access-Control-Request-Method": "GET"}
    async with server, aiohttp.ClientSession() as session:
        api = Api(manager, server.url, session)

        assert (await api.request("OPTIONS", "/api/v1/jobs", headers=headers)).status == 204
        refused = await api.get("/api/v1/jobs", headers={"Origin": SITE})
        shown = await api.get("/api/v1/jobs", headers={"Authorization": f"Bearer {TOKEN}"})

    refused.problem(401, "token_required")
    # Without it the page could not even read why.
    assert refused.headers["Access-Control-Allow-Origin"] == SITE
    assert shown.status == 200


async def test_page_of_an_allowed_site_is_told_what_happens(open_api: Api) -> None:
    url = f"{open_api.url}/socket.io/?EIO=4&transport="
    async with open_api.session.get(f"{url}polling", headers={"Origin": SITE}) as response:
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (200, SITE)
    async with open_api.session.ws_connect(f"{url}websocket", origin=SITE) as websocket:
        assert (await websocket.receive_str()).startswith("0{")
    stream = open_api.session.get(
        f"{open_api.url}/api/v1/events", headers={"Origin": SITE, "Accept": "text/event-stream"}
    )
    async with stream as response:
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (200, SITE)


async def test_pages_of_other_sites_are_not_let_in_beside_an_allowed_one(open_api: Api) -> None:
    for origin in ("https://other.example", f"{SITE}.evil", "http://site.example", f"{SITE}:8443"):
        answer = await open_api.get("/api/v1/jobs", headers={"Origin": origin})
        answer.problem(403, "wrong_origin")
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Origin" in answer.headers["Vary"]


async def test_service_is_known_by_the_name_that_it_has_elsewhere(open_api: Api) -> None:
    page = {"Host": "jobs.example", "Origin": "https://jobs.example", "Sec-Fetch-Site": "same-origin"}

    assert (await open_api.post("/api/v1/jobs", json=JOB, headers=page)).status == 201
    (await open_api.get("/api/v1/jobs", headers={"Host": "other.example"})).problem(421, "wrong_host")
    # One of its names is not the other: what else the proxy serves there is not this service.
    (await open_api.get("/api/v1/jobs", headers={"Origin": "https://jobs.example"})).problem(
        403, "wrong_origin"
    )


@pytest.mark.parametrize("path", ["/docs", "/api/v1/jobs"])
async def test_link_of_another_site_may_be_followed(api: Api, path: str) -> None:
    headers = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
        "Referer": "https://elsewhere.example/",
    }

    assert (await api.get(path, headers=headers)).status == 200


async def test_without_allowed_sites_nothing_is_said_of_them(api: Api) -> None:
    answer = await api.get("/api/v1/jobs", headers={"Origin": api.url})

    assert answer.status == 200
    assert not {"Vary", "Access-Control-Allow-Origin"} & set(answer.headers)

"""What one user tries with the jobs of another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from jobmgr.api.app import make_app
from jobmgr.api.browser import Browsers
from jobmgr.api.guard import Guard, own_uid
from jobmgr.api.route import Route
from jobmgr.api.routes import ROUTES
from jobmgr.api.server import Server
from jobmgr.domain.access import Principal, Verb
from jobmgr.domain.user import User
from jobmgr.service import JobManager
from jobmgr.store import users
from tests.api.conftest import TOKEN, Answer, serving
from tests.api.test_access import OF_A_JOB, Client, House, by_token, name_of
from tests.api.test_users import House as Office
from tests.api.test_users import bearer
from tests.security.guards import CONFINED_EVENTS, CONFINED_LISTS, ONE_DECISION, THIS_MATE, rests_on


@pytest_asyncio.fixture
async def house(manager: JobManager) -> AsyncIterator[House]:
    guard = Guard(TOKEN, own_uid(), True, Browsers(), Principal.owner(manager.user), by_token)
    async with serving(make_app(manager, guard)) as url, aiohttp.ClientSession() as session:
        found = House(manager, url, session)
        await found.submitted("ann", job_id="anns", name="her secret", draft=True)
        yield found


def told(answer: Answer) -> bool:
    return b"secret" in answer.body or b'"anns"' in answer.body


@rests_on(ONE_DECISION)
async def test_job_is_neither_read_nor_changed(house: House) -> None:
    for route in OF_A_JOB:
        answer = await house.ask("zoe", route, "anns")
        assert not told(answer) or b"there is no job" in answer.body, route
    assert (await house.manager.get("anns")).v == 1


@rests_on(CONFINED_LISTS)
async def test_lists_do_not_hold_it(house: House) -> None:
    for path in ("/api/v1/jobs", "/api/v1/jobs?user=ann", "/api/v1/jobs?ids=anns", "/jobs", "/api/jobs"):
        assert not told(await house.by("zoe", "GET", path)), path


@rests_on(CONFINED_EVENTS)
async def test_events_do_not_tell_of_it(house: House) -> None:
    assert not told(await house.by("zoe", "GET", "/api/v1/events"))


@rests_on(CONFINED_EVENTS)
async def test_stream_does_not_tell_of_it(house: House) -> None:
    headers = {"Accept": "text/event-stream", "Authorization": "Bearer zoe"}
    await house.submitted("zoe", job_id="zoes", draft=True)
    async with house.session.get(f"{house.url}/api/v1/events", headers=headers) as response:
        await response.content.readuntil(b"\n\n")
        await house.by("ann", "POST", "/api/v1/jobs/anns/cancel")
        await house.by("zoe", "POST", "/api/v1/jobs/zoes/cancel")
        async with asyncio.timeout(30):
            first = await response.content.readuntil(b"\n\n")

    assert b"anns" not in first


@rests_on(CONFINED_EVENTS)
async def test_socket_does_not_tell_of_it(house: House) -> None:
    await house.submitted("zoe", job_id="zoes", draft=True)
    client = Client()
    await client.client.connect(
        house.url, headers={"Authorization": "Bearer zoe"}, auth={"rooms": ["events"]}
    )
    await house.by("ann", "POST", "/api/v1/jobs/anns/cancel")
    await house.by("zoe", "POST", "/api/v1/jobs/zoes/cancel")
    async with asyncio.timeout(30):
        await client.ended.wait()
    await client.client.disconnect()

    assert "anns" not in str(client.told)


@pytest_asyncio.fixture
async def office(database_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    """A service, on each database, with users who show API tokens."""
    async with (
        JobManager(database=database_url, work_dir=tmp_path / "work") as manager,
        Server(manager, host="127.0.0.1", port=0, token=TOKEN) as server,
        aiohttp.ClientSession() as session,
    ):
        yield Office(manager, server.url, session)


@rests_on(THIS_MATE)
async def test_mate_is_not_told_of_who_had_the_name_before(office: Office) -> None:
    alice = await office.add("alice", groups=["lab"])
    await office.add("carol", groups=["board"])
    await office.submit("true", job_id="merger", name="secret", user="carol", draft=True)
    await office.post("/api/v1/jobs/merger/cancel")
    for path in ("jobs/merger", "users/carol"):
        assert (await office.request("DELETE", f"/api/v1/{path}")).status == 204
    await office.add("carol", groups=["lab"])
    await office.submit("true", job_id="hers", user="carol", draft=True)

    page = await office.by(alice, "GET", "/api/v1/events")
    headers = {**bearer(alice), "Accept": "text/event-stream"}
    async with (
        asyncio.timeout(30),
        office.session.get(f"{office.url}/api/v1/events?after=0", headers=headers) as stream,
    ):
        streamed = await stream.content.readuntil(b'"hers"')

    assert {event["job_id"] for event in page.json["events"]} == {"hers"}
    assert b"merger" not in streamed


@rests_on(ONE_DECISION)
async def test_job_that_waits_does_not_tell_of_what_it_waits_for(house: House) -> None:
    # An admin let it wait for that; as well the two may have been in one group then.
    await house.manager.submit(["true"], user="zoe", job_id="zoes", depends_on=[{"job_id": "anns"}])

    (reason,) = (await house.by("zoe", "GET", "/api/v1/jobs/zoes/why")).json["reasons"]

    assert (reason["code"], "anns" in reason["message"]) == ("dependency", False)


@rests_on(CONFINED_LISTS)
async def test_spec_does_not_tell_what_a_job_waits_for(house: House) -> None:
    await house.manager.submit(["true"], user="zoe", job_id="zoes", depends_on=[{"job_id": "anns"}])

    answer = await house.by("zoe", "GET", "/api/v1/jobs/zoes/spec")

    assert answer.status == 200
    assert not told(answer)


@rests_on(ONE_DECISION)
async def test_refusal_to_retry_does_not_tell_what_a_job_waited_for(house: House) -> None:
    await house.manager.submit(["true"], user="zoe", job_id="zoes", depends_on=[{"job_id": "anns"}])
    await house.by("ann", "POST", "/api/v1/jobs/anns/cancel")

    answer = await house.by("zoe", "POST", "/api/v1/jobs/zoes/retry")

    assert "retry that first" in answer.problem(409, "illegal_transition")
    assert b"anns" not in answer.body


@rests_on(ONE_DECISION)
async def test_nobody_becomes_another_by_saying_so(house: House) -> None:
    jobs: list[Any] = [{"command": ["true"], "user": "ann"}, {"command": ["true"], "user": "root"}]
    for job in jobs:
        assert (await house.by("zoe", "POST", "/api/v1/jobs", json=job)).status == 403


@rests_on(ONE_DECISION)
async def test_user_does_not_look_after_the_service(house: House) -> None:
    for method, path, body in (
        ("PATCH", "/api/v1/limits", {"max_concurrent_jobs": 1}),
        ("PATCH", "/pool/limits", {"max_concurrent_jobs": 1}),
        ("PATCH", "/api/v1/queues/default", {"paused": True}),
    ):
        assert (await house.by("zoe", method, path, json=body)).status == 403


_GOVERNING = [route for route in ROUTES if route.takes is Verb.GOVERN]
_ASKED: dict[tuple[str, str], Any] = {
    ("PUT", "/api/v1/users/{name}"): {"role": "admin"},
    ("PATCH", "/api/v1/users/{name}"): {"role": "admin"},
    ("POST", "/api/v1/tokens"): {"user": "ben"},
}


@rests_on(ONE_DECISION)
@pytest.mark.parametrize("route", _GOVERNING, ids=name_of)
async def test_user_does_not_look_after_users_tokens_and_audit(house: House, route: Route) -> None:
    await house.manager.database.write(users.put, User("ben"))
    body = _ASKED.get((route.method, route.path))
    path = route.path.replace("{name}", "ben")

    answer = await house.by("zoe", route.method, path, **({} if body is None else {"json": body}))

    # Any refusal: without the guard it has to be done, not refused for another reason.
    assert answer.status >= 400

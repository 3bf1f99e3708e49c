"""Events over REST: pages, and the stream that can be resumed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from jobmgr.api.app import make_app
from jobmgr.api.browser import Browsers
from jobmgr.api.guard import Guard, own_uid
from jobmgr.api.server import Server
from jobmgr.api.stream import MAX_TEXTS, Streams
from jobmgr.domain.access import Hearing, Sight
from jobmgr.domain.job import Event
from jobmgr.service import JobManager
from tests.api.conftest import OWNER, TIMEOUT_S, TOKEN, Api, eventually, serving

EVERYTHING = Hearing(everything=True)
STREAM = {"Accept": "text/event-stream"}
DRAFT = {"command": ["true"], "draft": True}


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream."""

    id: str
    event: str
    data: Any


async def messages(response: aiohttp.ClientResponse) -> AsyncIterator[Message]:
    """The messages of a stream as they come."""
    fields: dict[str, str] = {}
    async for line in response.content:
        name, colon, value = line.decode().rstrip("\n").partition(": ")
        if colon and name:
            fields[name] = value
        elif not line.strip() and "data" in fields:
            yield Message(fields["id"], fields.pop("event"), json.loads(fields.pop("data")))


async def take(response: aiohttp.ClientResponse, count: int) -> list[Message]:
    """The next `count` messages."""
    found: list[Message] = []
    async with asyncio.timeout(TIMEOUT_S):
        async for message in messages(response):
            found.append(message)
            if len(found) == count:
                return found
    raise AssertionError(f"the stream ended after {found}")


async def test_page_goes_on_where_the_last_one_ended(api: Api) -> None:
    await api.post("/api/v1/jobs", json={"jobs": [DRAFT] * 5})

    seen: list[int] = []
    after = "0"
    while page := (await api.get(f"/api/v1/events?limit=2&after={after}")).json["events"]:
        seen += [event["seq"] for event in page]
        after = str(page[-1]["seq"])
    last = (await api.get("/api/v1/events")).json

    assert seen == sorted(set(seen)) == [event["seq"] for event in last["events"]]
    assert last["next_after"] == f"{last['epoch']}:{last['seq']}"
    assert last["seq"] == seen[-1]


async def test_event_tells_what_changed(api: Api) -> None:
    job = await api.run("sh", "-c", "exit 4", name="n")

    events = (await api.get(f"/api/v1/jobs/{job.job_id}/events")).json["events"]

    assert [event["kind"] for event in events] == ["submitted", "claimed", "started", "failed"]
    assert [event["v"] for event in events] == [1, 2, 3, 4]
    assert (events[0]["name"], events[0]["status"]) == ("n", "queued")
    assert (events[3]["status"], events[3]["exit_code"]) == ("failed", 4)
    assert {event["job_id"] for event in events} == {job.job_id}


async def test_events_of_one_job_only(api: Api) -> None:
    await api.submit("true", job_id="one", draft=True)
    await api.submit("true", job_id="two", draft=True)

    page = (await api.get("/api/v1/events?job=two")).json

    assert [event["job_id"] for event in page["events"]] == ["two"]
    (await api.get("/api/v1/events?job=three")).problem(404, "job_not_found")


@pytest.mark.parametrize("headers", [{}, STREAM])
async def test_position_that_cannot_be_resumed_is_gone(api: Api, headers: dict[str, str]) -> None:
    epoch = (await api.manager.event_position()).epoch

    for after in ("another-epoch:1", f"{epoch}:999999", "999999"):
        answer = await api.get(f"/api/v1/events?after={after}", headers=headers)
        answer.problem(410, "events_gone")
        assert answer.json["epoch"] == epoch
        assert answer.json["seq"] == (await api.manager.event_position()).seq


@pytest.mark.parametrize("after", ["x", "-1", "1.5", ":1", "e:", "e:x", "1" * 30, "e:-1", ""])
async def test_position_that_is_none_is_named(api: Api, after: str) -> None:
    for headers in ({}, STREAM):
        answer = await api.get(f"/api/v1/events?after={after}", headers=headers)
        answer.problem(422, "invalid_request", "after")
        assert (f"{after!r} is not" if after else "is empty") in answer.json["detail"]
    answer = await api.get("/api/v1/events", headers={**STREAM, "Last-Event-ID": after or "x"})
    answer.problem(422, "invalid_request", "Last-Event-ID")


async def test_stream_sends_what_happens_from_now_on(api: Api) -> None:
    await api.submit("true", job_id="before", draft=True)

    async with api.session.get(f"{api.url}/api/v1/events", headers=STREAM) as response:
        await api.submit("true", job_id="after", draft=True)
        (message,) = await take(response, 1)

    assert response.headers["Content-Type"] == "text/event-stream"
    assert (message.event, message.data["job_id"], message.data["status"]) == (
        "submitted",
        "after",
        "pending",
    )
    position = await api.manager.event_position()
    assert message.id == str(position) == f"{position.epoch}:{message.data['seq']}"


async def test_stream_resumes_without_gap_or_repetition(api: Api) -> None:
    start = await api.manager.event_position()
    await api.post("/api/v1/jobs", json={"jobs": [DRAFT] * 50})

    seen: list[int] = []
    last = str(start)
    for _ in range(5):
        headers = {**STREAM, "Last-Event-ID": last}
        # The header counts, not the address with which a browser once began.
        async with api.session.get(f"{api.url}/api/v1/events?after={start}", headers=headers) as response:
            for message in await take(response, 10):
                seen.append(message.data["seq"])
                last = message.id

    assert seen == list(range(start.seq + 1, start.seq + 51))


async def test_stream_misses_nothing_while_much_happens(api: Api) -> None:
    start = await api.manager.event_position()

    async def submit_all() -> None:
        for _ in range(40):
            await api.post("/api/v1/jobs", json={"jobs": [DRAFT] * 5})

    async with api.session.get(f"{api.url}/api/v1/events?after={start.seq}", headers=STREAM) as response:
        task = asyncio.create_task(submit_all())
        found = await take(response, 200)
        await task

    assert [message.data["seq"] for message in found] == list(range(start.seq + 1, start.seq + 201))


async def test_stream_of_one_job(api: Api) -> None:
    await api.submit("true", job_id="other", draft=True)
    await api.submit("true", job_id="mine", draft=True)

    async with api.session.get(f"{api.url}/api/v1/events?after=0&job=mine", headers=STREAM) as response:
        await api.post("/api/v1/jobs/other/cancel")
        await api.post("/api/v1/jobs/mine/cancel")
        found = await take(response, 2)

    assert [(message.event, message.data["job_id"]) for message in found] == [
        ("submitted", "mine"),
        ("cancelled", "mine"),
    ]


async def test_idle_stream_is_kept_alive_and_its_position_moves(manager: JobManager) -> None:
    app = make_app(
        manager,
        Guard(TOKEN, own_uid(), loopback=True, browsers=Browsers(), owner=OWNER),
        streams=Streams(heartbeat_s=0.05),
    )
    async with serving(app) as url, aiohttp.ClientSession() as session:
        await session.post(f"{url}/api/v1/jobs", json={**DRAFT, "job_id": "mine"})
        async with session.get(f"{url}/api/v1/events?job=mine", headers=STREAM) as response:
            await session.post(f"{url}/api/v1/jobs", json=DRAFT)
            position = str(await manager.event_position())
            async with asyncio.timeout(TIMEOUT_S):
                while (line := await response.content.readline()).strip() != f"id: {position}".encode():
                    assert not line.startswith(b"data")


async def test_shutdown_ends_streams_at_once(manager: JobManager, monkeypatch: pytest.MonkeyPatch) -> None:
    # They are not waited for until they are cut.
    monkeypatch.setattr("jobmgr.api.server._SHUTDOWN_S", 10 * TIMEOUT_S)
    server = Server(manager, host="127.0.0.1", port=0, token=TOKEN)
    async with server, aiohttp.ClientSession() as session:
        streams = [await session.get(f"{server.url}/api/v1/events", headers=STREAM) for _ in range(5)]
        async with asyncio.timeout(TIMEOUT_S):
            await server.__aexit__(None, None, None)
        bodies = [await response.read() for response in streams]

    assert all(b"id: " in body for body in bodies)


async def test_client_that_hangs_up_leaves_nothing_behind(manager: JobManager) -> None:
    app = make_app(
        manager,
        Guard(TOKEN, own_uid(), loopback=True, browsers=Browsers(), owner=OWNER),
        streams=Streams(heartbeat_s=0.05),
    )

    async def nobody_follows() -> bool:
        return manager.feed.followers == 0

    async with serving(app) as url:
        async with aiohttp.ClientSession() as session:
            for _ in range(5):
                response = await session.get(f"{url}/api/v1/events", headers=STREAM)
                await response.content.readline()
                response.close()
        await eventually(nobody_follows)


def test_batch_is_encoded_once_for_all_who_follow() -> None:
    streams = Streams()
    events = [Event(seq, datetime.now(UTC), "queued", "a", "u", 1, {}) for seq in range(MAX_TEXTS + 2)]
    made = [streams.text(events[seq : seq + 2], "x", EVERYTHING) for seq in range(MAX_TEXTS + 1)]

    assert streams.text(events[-2:], "x", EVERYTHING) is made[-1]
    assert streams.text(events[-2:], "y", EVERYTHING) is not made[-1]
    assert streams.text(events[-2:-1], "x", EVERYTHING) != made[-1]
    assert streams.text(events[:2], "x", EVERYTHING) is not made[0]
    # Who hears otherwise is told something else of the same batch, and takes no text from the others.
    others = [Hearing(sight=Sight(frozenset({f"other {number}"}))) for number in range(MAX_TEXTS)]
    assert [streams.text(events[-2:], "x", other) for other in others] == [b""] * MAX_TEXTS
    assert streams.text(events[-2:], "x", EVERYTHING) is made[-1]


async def test_followers_are_given_the_same_batch(api: Api) -> None:
    position = await api.manager.event_position()
    one, other = api.manager.follow(position), api.manager.follow(position)
    begun = [await anext(one), await anext(other)]

    await api.submit("true", draft=True)

    assert begun == [[], []]
    async with asyncio.timeout(TIMEOUT_S):
        assert await anext(one) is await anext(other)

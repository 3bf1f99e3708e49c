"""Rooms of Socket.IO: all events of a tick in one message, or those of single jobs only."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import socketio

from tests.api.conftest import TIMEOUT_S, Api, eventually

DRAFT = {"command": ["true"], "draft": True}


class Member:
    """A client that may be in rooms: the events it was told in batches, and the names of all other messages."""

    def __init__(self, transports: Sequence[str] = ("websocket",)) -> None:
        self.transports = transports
        self.client = socketio.AsyncClient(reconnection=False)
        self.batches: list[dict[str, Any]] = []
        self.others: list[str] = []
        self.client.on("events", self._keep)
        self.client.on("*", self._keep_name)

    async def _keep(self, batch: dict[str, Any]) -> None:
        self.batches.append(batch)

    async def _keep_name(self, name: str, _data: Any) -> None:
        self.others.append(name)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for batch in self.batches for event in batch["events"]]

    async def told(self, count: int) -> list[dict[str, Any]]:
        """The events, once there are `count`."""

        async def enough() -> bool:
            return len(self.events) >= count

        await eventually(enough)
        return self.events

    async def connect(self, api: Api, auth: dict[str, Any] | None = None) -> None:
        await self.client.connect(api.url, auth=auth, transports=list(self.transports))

    async def subscribe(self, *asked: Any) -> Any:
        return await self.client.call("subscribe", *asked, timeout=TIMEOUT_S)


@pytest_asyncio.fixture(params=[["websocket"], ["polling"], ["polling", "websocket"]], ids="-".join)
async def member(request: pytest.FixtureRequest) -> AsyncIterator[Member]:
    found = Member(request.param)
    yield found
    await found.client.disconnect()


async def test_room_of_all_events_is_told_what_the_log_says_and_nothing_singly(
    api: Api, member: Member
) -> None:
    start = await api.manager.event_position()
    await member.connect(api, {"rooms": ["events"]})
    await api.post("/api/v1/jobs", json={"jobs": [DRAFT] * 300})
    await api.run("true")

    page = (await api.get(f"/api/v1/events?after={start}")).json
    told = await member.told(len(page["events"]))

    assert told == page["events"]
    assert {batch["epoch"] for batch in member.batches} == {page["epoch"]}
    assert len(member.batches) < len(told)
    assert member.others == []


async def test_room_of_a_job_is_told_its_events_only(api: Api, member: Member) -> None:
    for job_id in ("mine", "yours", "theirs"):
        await api.submit("true", job_id=job_id, draft=True)
    await member.connect(api, {"rooms": ["job:mine", "job:yours"]})
    watcher = Member()
    await watcher.connect(api, {"rooms": ["events"]})

    for job_id in ("theirs", "yours", "mine"):
        await api.post(f"/api/v1/jobs/{job_id}/cancel")
    await watcher.told(3)
    told = await member.told(2)

    assert sorted((event["job_id"], event["kind"]) for event in told) == [
        ("mine", "cancelled"),
        ("yours", "cancelled"),
    ]
    assert [event["job_id"] for event in watcher.events] == ["theirs", "yours", "mine"]
    assert member.others == []
    await watcher.client.disconnect()


async def test_subscription_replaces_what_was_told_before(api: Api, member: Member) -> None:
    await api.submit("true", job_id="mine", draft=True)
    await member.connect(api)
    before = await member.subscribe({"rooms": ["events"]})
    await api.submit("true", job_id="all", draft=True)
    await member.told(1)
    of_one = await member.subscribe({"rooms": ["job:mine"]})
    await api.post("/api/v1/jobs/all/cancel")
    await api.post("/api/v1/jobs/mine/cancel")
    told = await member.told(2)

    assert (before["rooms"], of_one["rooms"]) == (["events"], ["job:mine"])
    assert [(event["job_id"], event["kind"]) for event in told] == [
        ("all", "submitted"),
        ("mine", "cancelled"),
    ]
    assert member.others == []


class Counted:
    """A database, and how often it was read."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.readings = 0

    def __getattr__(self, name: str) -> Any:
        self.readings += name in ("read", "ask")
        return getattr(self._database, name)


async def test_many_rooms_are_one_reading(api: Api, member: Member) -> None:
    job_ids = (await api.post("/api/v1/jobs", json={"jobs": [DRAFT] * 100})).json["job_ids"]
    await member.connect(api)
    database: Any = Counted(api.manager.parts.database)
    api.manager.parts.database = database

    answer = await member.subscribe({"rooms": [f"job:{job_id}" for job_id in job_ids]})
    missing = await member.subscribe({"rooms": [f"job:{job_ids[0]}", "job:none"]})

    assert len(answer["rooms"]) == 100
    assert missing["error"]["code"] == "job_not_found"
    assert database.readings < 10


async def test_who_asks_for_no_room_is_told_nothing(api: Api, member: Member) -> None:
    watcher = Member()
    await watcher.connect(api, {"rooms": ["events"]})
    await member.connect(api)
    assert (await member.subscribe({"rooms": []}))["rooms"] == []
    await api.submit("true", job_id="first", draft=True)
    await watcher.told(1)

    await member.subscribe({"rooms": ["events"]})
    await api.submit("true", job_id="second", draft=True)
    told = await member.told(1)

    assert [event["job_id"] for event in told] == ["second"]
    assert member.others == []
    await watcher.client.disconnect()


async def test_all_that_comes_after_the_position_of_the_answer_is_told(api: Api, member: Member) -> None:
    await member.connect(api)
    submitting = asyncio.create_task(submit_many(api, 30))
    answers = [await member.subscribe({"rooms": ["events"]}) for _ in range(3)]
    await submitting

    page = (await api.get(f"/api/v1/events?after={answers[0]['position']}")).json["events"]
    await member.told(len(page))

    wanted = [event["seq"] for event in page]
    assert [event["seq"] for event in member.events][-len(wanted) :] == wanted


async def submit_many(api: Api, count: int) -> None:
    for _ in range(count):
        await api.post("/api/v1/jobs", json=DRAFT)


BAD = {
    "nothing": (None, "invalid_request", None, "object"),
    "no object": ("events", "invalid_request", None, "object"),
    "no rooms": ({}, "invalid_request", "rooms", "required"),
    "no list": ({"rooms": "events"}, "invalid_request", "rooms", "array"),
    "no name": ({"rooms": ["events", 7]}, "invalid_request", "rooms[1]", "str"),
    "another field": ({"rooms": [], "room": 1}, "invalid_request", "room", "known ones: rooms"),
    "another room": (
        {"rooms": ["events", "jobs"]},
        "invalid_request",
        "rooms[1]",
        "known ones: events, job:ID",
    ),
    "no id": ({"rooms": ["job:"]}, "invalid_request", "rooms[0]", "known ones: events, job:ID"),
    "an id that is none": ({"rooms": ["job:\0"]}, "invalid_request", "rooms[0]", "known ones"),
    "too many": ({"rooms": ["events"] * 101}, "invalid_request", "rooms", "100"),
    "no such job": ({"rooms": ["events", "job:x"]}, "job_not_found", None, "'x'"),
}


@pytest.mark.parametrize("name", BAD)
async def test_subscription_that_is_wrong_is_answered_and_changes_nothing(api: Api, name: str) -> None:
    asked, code, field, said = BAD[name]
    member = Member()
    await member.connect(api)

    problem = (await member.subscribe(asked))["error"]
    await api.submit("true")

    async def is_told() -> bool:
        return "job_completed" in member.others

    await eventually(is_told)
    assert (problem["code"], problem.get("field")) == (code, field)
    assert said in problem["detail"]
    assert member.batches == []
    await member.client.disconnect()


async def test_connection_that_asks_for_no_room_there_is_is_refused_with_the_reason(api: Api) -> None:
    member = Member()
    refused: list[Any] = []

    async def keep(error: Any) -> None:
        refused.append(error)

    member.client.on("connect_error", keep)

    with pytest.raises(socketio.exceptions.ConnectionError):
        await member.connect(api, {"rooms": ["job:x"]})

    assert refused[0]["data"]["code"] == "job_not_found"
    assert refused[0]["message"] == refused[0]["data"]["detail"]


async def test_connection_may_say_other_things_of_itself(api: Api) -> None:
    member = Member()
    await member.connect(api, {"token": "x"})

    await api.submit("true")

    async def is_told() -> bool:
        return "job_completed" in member.others

    await eventually(is_told)
    await member.client.disconnect()


async def test_client_that_reads_nothing_is_disconnected_and_others_miss_nothing(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    member = Member()
    await member.connect(api, {"rooms": ["events"]})
    submitted = 0
    with socket.socket() as deaf:
        # A small window, so that little is kept by the kernel.
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.to_thread(open_websocket, deaf, int(api.url.rpartition(":")[2]))

        while "lags too far behind" not in caplog.text:
            await api.post("/api/v1/jobs", json={"jobs": [{**DRAFT, "name": "n" * 400}] * 2000})
            submitted += 2000
            await member.told(submitted)
            assert submitted < 100_000

    seqs = [event["seq"] for event in member.events]
    assert len(seqs) == submitted
    assert seqs == sorted(set(seqs))
    await member.client.disconnect()


async def test_what_is_posted_is_heard_when_all_of_it_is_there(api: Api) -> None:
    job_id = await api.submit("true", draft=True)
    polling = f"{api.url}/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession() as session:
        opened = json.loads((await (await session.get(polling)).text())[1:])
        turn = f"{polling}&sid={opened['sid']}"
        await session.post(turn, data="40")
        await session.get(turn)

        async def pieces() -> AsyncIterator[bytes]:
            yield b'420["subscribe",{"rooms":["job:'
            await asyncio.sleep(0.1)
            yield f'{job_id}"]}}]'.encode()

        length = len(f'420["subscribe",{{"rooms":["job:{job_id}"]}}]')
        posted = await session.post(turn, data=pieces(), headers={"Content-Length": str(length)})
        told = await (await session.get(turn)).text()

    assert posted.status == 200
    assert json.loads(told.removeprefix("430"))[0]["rooms"] == [f"job:{job_id}"], told


async def test_too_much_in_one_turn_is_refused_at_once(api: Api) -> None:
    polling = f"{api.url}/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession() as session:
        opened = json.loads((await (await session.get(polling)).text())[1:])
        turn = f"{polling}&sid={opened['sid']}"

        # Nobody reads what waits for this session.
        answer = await session.post(turn, data=b"42" + b"x" * 64 * 1024)
        then = await session.post(turn, data="40")

    assert (answer.status, (await answer.json())["code"]) == (413, "body_too_large")
    assert then.status == 200


async def test_order_is_kept_when_a_client_that_reads_late_gets_its_websocket(api: Api) -> None:
    member = Member()
    await member.connect(api, {"rooms": ["events"]})
    connector = aiohttp.TCPConnector(socket_factory=with_small_window)
    async with aiohttp.ClientSession(connector=connector) as session:
        polling = f"{api.url}/socket.io/?EIO=4&transport=polling"
        opened = json.loads((await (await session.get(polling)).text())[1:])
        await session.post(f"{polling}&sid={opened['sid']}", data='40{"rooms":["events"]}')
        # More than the kernel keeps for it waits in the queue, part of it already with the one who writes.
        for count in range(2000, 12_000, 2000):
            await api.post("/api/v1/jobs", json={"jobs": [{**DRAFT, "name": "n" * 400}] * 2000})
            await member.told(count)
        websocket_url = f"{api.url}/socket.io/?EIO=4&transport=websocket&sid={opened['sid']}"
        async with session.ws_connect(websocket_url, max_msg_size=0) as websocket:
            await websocket.send_str("2probe")
            assert await websocket.receive_str() == "3probe"
            await websocket.send_str("5")
            for count in range(10_001, 10_006):
                await api.post("/api/v1/jobs", json=DRAFT)
                await member.told(count)

            told: list[int] = []
            async with asyncio.timeout(TIMEOUT_S):
                while len(told) < 10_005:
                    text = await websocket.receive_str()
                    if text.startswith("42"):
                        told += [event["seq"] for event in json.loads(text[2:])[1]["events"]]

    assert told == [event["seq"] for event in member.events]
    await member.client.disconnect()


def with_small_window(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return made


def open_websocket(deaf: socket.socket, port: int) -> None:
    """Connect and join, and never read again."""
    deaf.connect(("127.0.0.1", port))
    deaf.sendall(
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        % port
    )
    received = b""
    while b"maxPayload" not in received:
        received += deaf.recv(4096)
    joining = b'40{"rooms":["events"]}'
    deaf.sendall(bytes((0x81, 0x80 | len(joining), 0, 0, 0, 0)) + joining)
    while b'40{"sid"' not in received:
        received += deaf.recv(4096)

"""A process of watchers: so many on server-sent events, and as many on Socket.IO, of one service.

`python -m benchmarks.watching URL EACH ROOM` says `ready` when all are connected. Those on Socket.IO are in ROOM
(`events`), or get single messages if that is empty. On its input it is told the number of the last event that concerns
it; when all have got that, or nothing comes any more, it says as JSON what they saw.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
import msgspec
import uvloop

from benchmarks.table import quantile
from benchmarks.transcript import Framing, Reader, Sse, Transcript, WebSocket, payload

_CONNECTS_WITHIN_S = 60.0
_COMES_WITHIN_S = 15.0
_LOOK_S = 0.05
# What becomes a message of Socket.IO, of what happens to jobs that need nothing and complete.
_MESSAGES = {"submitted": "job_queued", "started": "job_started", "completed": "job_completed"}
_OF_A_BULK = ("submitted", "job_queued")
_STREAM = "Accept: text/event-stream"
_UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}"
)
_WELCOMES = (b"200", b"101")
_PING, _PONG, _JOIN = b"2", b"3", b"40"

Fact = tuple[str, str]


class Seen(msgspec.Struct):
    """What the watchers of one kind saw: how many got each event once, in seconds how far they were behind."""

    watchers: int
    complete: int
    behind_s: float
    behind_p99_s: float


class _Connection(asyncio.Protocol):
    """One watcher: asks, and reads for ever."""

    def __init__(self, reader: Reader, request: bytes) -> None:
        self.ready = asyncio.get_running_loop().create_future()
        self._reader = reader
        self._request = request
        self._header: bytes | None = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are not registered as what they are.
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        at = time.time()
        if self._header is not None:
            header, end, data = (self._header + data).partition(b"\r\n\r\n")
            if not end:
                self._header = header
                return
            assert header.split()[1] in _WELCOMES, header
            self._header = None
            self.answered()
        for frame in self._reader.feed(data, at):
            self.told(frame)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionError("the service hung up"))

    def answered(self) -> None:
        """The answer has begun."""
        self.ready.set_result(None)

    def told(self, frame: bytes) -> None:
        """What keeps the connection alive needs no answer here."""

    def send(self, text: bytes) -> None:
        """Send a short text frame, masked with zeros as a client may. Source: RFC 6455, 5.3."""
        assert self._transport is not None
        self._transport.write(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)


class _Socket(_Connection):
    """Joins when Engine.IO has opened, and answers its pings. Source: Engine.IO protocol 4, Socket.IO protocol 5."""

    def __init__(self, reader: Reader, request: bytes, room: str) -> None:
        super().__init__(reader, request)
        self._join = _JOIN + (msgspec.json.encode({"rooms": [room]}) if room else b"")

    def answered(self) -> None:
        pass

    def told(self, frame: bytes) -> None:
        packet = payload(frame)
        if packet.startswith(b"0"):
            self.send(self._join)
        elif packet.startswith(_JOIN):
            self.ready.set_result(None)
        elif packet == _PING:
            self.send(_PONG)


@dataclass(frozen=True, slots=True)
class _Crowd:
    """Watchers of one kind."""

    transcript: Transcript
    readers: Sequence[Reader]

    async def told(self, facts_of: Callable[[bytes], list[Fact]], count: int) -> list[list[Fact]]:
        """What each frame said, once all have so many facts, or nothing comes any more."""
        deadline = time.monotonic() + _COMES_WITHIN_S
        told: list[list[Fact]] = []
        while sum(map(len, told)) < count or not all(one.is_complete for one in self.readers):
            if fresh := [facts_of(frame) for frame in self.transcript.frames(len(told))]:
                told += fresh
                deadline = time.monotonic() + _COMES_WITHIN_S
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_LOOK_S)
        return told

    def seen(
        self, expected: Sequence[Fact], told: Sequence[list[Fact]], committed: Mapping[Fact, float]
    ) -> Seen:
        """What they saw of the facts `expected` of them; `told` is what each frame said."""
        # Whoever has the same as the one who was ahead has everything, if that one has.
        has_everything = sorted(chain.from_iterable(told)) == sorted(expected)
        behind = [
            arrived - committed[fact]
            for reader in self.readers
            for arrived, facts in zip(reader.arrivals(), told, strict=False)
            for fact in facts
            if fact in committed
        ]
        return Seen(
            watchers=len(self.readers),
            complete=sum(reader.is_complete for reader in self.readers) if has_everything else 0,
            behind_s=max(behind, default=0.0),
            behind_p99_s=quantile(behind, 0.99) if behind else 0.0,
        )


async def _watch(url: str, each: int, room: str) -> dict[str, Seen]:
    async with aiohttp.ClientSession(url) as session:
        now = await _page(session, limit="1")
        after = f"{now['epoch']}:{now['seq']}"
        events = f"/api/v1/events?after={after}"
        streams = await _crowd(
            url, each, Sse(), lambda one: _Connection(one, _get(url, events, "1.0", _STREAM))
        )
        path = "/socket.io/?EIO=4&transport=websocket"
        sockets = await _crowd(
            url, each, WebSocket(), lambda one: _Socket(one, _get(url, path, "1.1", _UPGRADE), room)
        )
        print("ready", flush=True)
        last = int(await asyncio.to_thread(sys.stdin.readline))
        happened = [event async for event in _happened(session, after, last)]
    seen_by_sockets = _seen_in_batches if room else _seen_singly
    return {
        "SSE": await _seen_by_streams(streams, happened),
        "Socket.IO": await seen_by_sockets(sockets, happened),
    }


async def _crowd(
    url: str, each: int, framing: Framing, connection: Callable[[Reader], _Connection]
) -> _Crowd:
    transcript = Transcript(framing)
    readers = [Reader(transcript) for _ in range(each)]
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_CONNECTS_WITHIN_S):
        for reader in readers:
            _, made = await loop.create_connection(
                partial(connection, reader), address.hostname, address.port
            )
            await made.ready
    return _Crowd(transcript, readers)


def _get(url: str, path: str, version: str, *headers: str) -> bytes:
    """A request as it is sent. Version 1.0 is answered without chunks."""
    lines = [f"GET {path} HTTP/{version}", f"Host: {urlsplit(url).netloc}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


async def _happened(session: aiohttp.ClientSession, after: str, last: int) -> AsyncIterator[dict[str, Any]]:
    """The events up to number `last`, as a page of the API has them."""
    seq = 0
    while seq < last:
        page = await _page(session, after=after, limit="1000")
        for event in page["events"]:
            seq = event["seq"]
            yield event
        after = page["next_after"]


async def _page(session: aiohttp.ClientSession, **query: str) -> dict[str, Any]:
    async with session.get("/api/v1/events", params=query) as answer:
        answer.raise_for_status()
        page: dict[str, Any] = await answer.json()
        return page


async def _seen_by_streams(crowd: _Crowd, happened: Sequence[Mapping[str, Any]]) -> Seen:
    return await _seen_of_all(
        crowd, happened, lambda frame: [_fact(msgspec.json.decode(frame.partition(b"\ndata: ")[2]))]
    )


async def _seen_in_batches(crowd: _Crowd, happened: Sequence[Mapping[str, Any]]) -> Seen:
    return await _seen_of_all(
        crowd, happened, lambda frame: [_fact(event) for event in _message(frame)[1]["events"]]
    )


async def _seen_of_all(
    crowd: _Crowd, happened: Sequence[Mapping[str, Any]], facts_of: Callable[[bytes], list[Fact]]
) -> Seen:
    committed = {_fact(event): _at(event) for event in happened}
    told = await crowd.told(facts_of, len(committed))
    return crowd.seen(list(committed), told, _not_in_bulk(committed))


async def _seen_singly(crowd: _Crowd, happened: Sequence[Mapping[str, Any]]) -> Seen:
    committed = {
        (_MESSAGES[event["kind"]], event["job_id"]): _at(event)
        for event in happened
        if event["kind"] in _MESSAGES
    }

    def facts_of(frame: bytes) -> list[Fact]:
        name, about = _message(frame)
        return [(name, about["job_id"])]

    told = await crowd.told(facts_of, len(committed))
    return crowd.seen(list(committed), told, _not_in_bulk(committed))


def _message(frame: bytes) -> tuple[str, Any]:
    """Name and data of a Socket.IO event."""
    name, data = msgspec.json.decode(payload(frame)[2:])
    return name, data


def _fact(event: Mapping[str, Any]) -> Fact:
    return event["kind"], str(event["seq"])


def _at(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["at"]).timestamp()


def _not_in_bulk(committed: Mapping[Fact, float]) -> dict[Fact, float]:
    # `at` is when the transaction began, which for a bulk is long before its commit.
    return {fact: at for fact, at in committed.items() if fact[0] not in _OF_A_BULK}


if __name__ == "__main__":
    print(msgspec.json.encode(uvloop.run(_watch(sys.argv[1], int(sys.argv[2]), sys.argv[3]))).decode())

"""Socket.IO: the event log as messages to everybody who is connected."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import engineio
import msgspec
import socketio
from aiohttp import web

from jobmgr.api.feed import feed
from jobmgr.api.guard import SOCKET_PATH
from jobmgr.api.messages import Message, enqueues, message
from jobmgr.domain.job import Event, EventPosition, Job, JobFilter
from jobmgr.domain.queue import Tally
from jobmgr.errors import EventsGone, StoreUnavailable
from jobmgr.manager.manager import Manager

logger = logging.getLogger(__name__)

# With more unsent messages than that a client is waited for, and then disconnected: nothing is buffered without end.
MAX_BACKLOG = 2000
_BEAT_S = 30.0
_RETRY_S = 1.0
_GOODBYE_S = 0.5
_PATIENCE_S = 2.0


class Sockets:
    """All Socket.IO clients of an application. The event log is followed only while there is one."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        # The guard has judged Host, Origin and token before a handshake gets here, so nothing is left to allow.
        self._server = socketio.AsyncServer(
            async_mode="aiohttp",
            cors_allowed_origins=[],
            max_http_buffer_size=64 * 1024,
            json=SimpleNamespace(dumps=_dumps, loads=json.loads),
        )
        self._server.on("connect", self._connect)
        self._server.on("disconnect", self._disconnect)
        self._clients: dict[str, Any] = {}
        self._open: dict[asyncio.Task[Any], asyncio.Transport] = {}
        self._somebody = asyncio.Event()
        self._nobody = asyncio.Event()
        self._position: EventPosition | None = None

    def attach(self, app: web.Application) -> None:
        """Serve at the usual path, from the application's start to its shutdown."""
        app.router.add_get(SOCKET_PATH, self._handle, allow_head=False)
        app.router.add_post(SOCKET_PATH, self._handle)
        app.cleanup_ctx.append(self._life)
        # Open websockets are open requests, for which aiohttp's shutdown waits: they end first.
        app.on_shutdown.append(self._say_goodbye)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        task, transport = asyncio.current_task(), request.transport
        assert task is not None
        if transport is not None:
            self._open[task] = transport
        try:
            response: web.StreamResponse = await self._server.handle_request(request)
        finally:
            self._open.pop(task, None)
        return response

    async def _life(self, _app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _say_goodbye(self, _app: web.Application) -> None:
        for client in list(self._server.eio.sockets.values()):
            await _end(client)
        if self._open:
            await asyncio.wait(self._open, timeout=_GOODBYE_S)
        for transport in self._open.values():
            transport.abort()
        await self._server.shutdown()

    async def _connect(self, sid: str, _environ: dict[str, Any]) -> None:
        # Taken before the client learns that it is connected: it misses nothing from then on.
        position = await self._manager.event_position()
        if not self._clients:
            self._position = position
        self._clients[sid] = self._server.eio.sockets.get(self._server.manager.eio_sid_from_sid(sid, "/"))
        self._nobody.clear()
        self._somebody.set()

    async def _disconnect(self, sid: str, _reason: str) -> None:
        client = self._clients.pop(sid, None)
        if client is not None:
            # What waits for its next packet is told that none will come; a long poll would hang on else.
            client.queue.put_nowait(None)
        if not self._clients:
            self._somebody.clear()
            self._nobody.set()

    async def _run(self) -> None:
        while True:
            await self._somebody.wait()
            try:
                await self._follow()
            except EventsGone as gone:
                self._position = EventPosition(gone.epoch, gone.seq)
                self._send([("reset", {"epoch": gone.epoch, "seq": gone.seq})])
            except StoreUnavailable:
                await asyncio.sleep(_RETRY_S)
            except Exception:  # boundary: one bad event must not silence Socket.IO until the next restart
                logger.exception(
                    "Socket.IO lost its place in the event log; it goes on from the newest event"
                )
                await asyncio.sleep(_RETRY_S)
                self._position = None

    async def _follow(self) -> None:
        position = self._position or await self._manager.event_position()
        following = feed(self._manager, position, self._nobody, _BEAT_S, self._clients.__len__)
        async with contextlib.aclosing(following) as batches:
            async for batch in batches:
                if batch:
                    await self._publish(batch)
                    # Where to go on if the reading breaks off.
                    self._position = EventPosition(position.epoch, batch[-1].seq)

    async def _publish(self, batch: Sequence[Event]) -> None:
        await self._let_clients_read()
        entering = [event for event in batch if enqueues(event)]
        queued = await self._count_queued() if entering else 0
        jobs = await self._jobs(entering)
        self._send(found for event in batch if (found := message(event, jobs, queued)))

    def _send(self, messages: Iterable[Message]) -> None:
        """Queue messages for all clients: encoded once, and without the task per client and message of `emit`."""
        packets = [self._packet(*message) for message in messages]
        for client in self._clients.values():
            for packet in packets:
                client.queue.put_nowait(packet)

    def _packet(self, name: str, data: dict[str, Any]) -> Any:
        text = self._server.packet_class(socketio.packet.EVENT, data=[name, data]).encode()
        return engineio.packet.Packet(engineio.packet.MESSAGE, text)

    async def _count_queued(self) -> int:
        return sum(queue.counts.get(Tally.QUEUED, 0) for queue in await self._manager.queues())

    async def _jobs(self, entering: Sequence[Event]) -> dict[str, Job]:
        # A submission says all there is to say in its event.
        ids = sorted({event.job_id for event in entering if event.job_id and "queue" not in event.data})
        found: dict[str, Job] = {}
        for start in range(0, len(ids), 500):
            page = await self._manager.list(JobFilter(ids=tuple(ids[start : start + 500])), limit=500)
            found.update({job.job_id: job for job in page.jobs})
        return found

    async def _let_clients_read(self) -> None:
        """Go no faster than the clients read, for a while; who reads nothing is disconnected then."""
        behind = self._behind()
        if not behind:
            return
        reading = [asyncio.create_task(client.queue.join()) for client in behind]
        await asyncio.wait(reading, timeout=_PATIENCE_S)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for client in self._behind():
            logger.warning(
                "a Socket.IO client lags %d messages behind and is disconnected", client.queue.qsize()
            )
            await _end(client)

    def _behind(self) -> list[Any]:
        return [client for client in self._server.eio.sockets.values() if client.queue.qsize() > MAX_BACKLOG]


async def _end(client: Any) -> None:
    """End the connection of an Engine.IO client without waiting for it to read what it was sent."""
    while not client.queue.empty():
        client.queue.get_nowait()
    await client.close(wait=False, abort=True)


def _dumps(value: object, **_options: object) -> str:
    return msgspec.json.encode(value).decode()

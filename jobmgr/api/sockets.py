"""Socket.IO: the event log as messages to everybody who is connected."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import socketio
from aiohttp import web

from jobmgr.api.feed import feed
from jobmgr.api.messages import enqueues, message
from jobmgr.domain.job import Event, EventPosition, Job, JobFilter
from jobmgr.domain.queue import Tally
from jobmgr.errors import EventsGone, StoreUnavailable
from jobmgr.manager.manager import Manager

logger = logging.getLogger(__name__)

# A client with more than so many unsent messages is disconnected instead of buffered for without end.
MAX_BACKLOG = 5000
_BEAT_S = 30.0
_RETRY_S = 1.0
_GOODBYE_S = 2.0


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
        self._clients: set[str] = set()
        self._somebody = asyncio.Event()
        self._nobody = asyncio.Event()
        self._position: EventPosition | None = None

    def attach(self, app: web.Application) -> None:
        """Serve at the usual path, from the application's start to its shutdown."""
        self._server.attach(app)
        app.cleanup_ctx.append(self._life)
        # Open websockets are open requests, for which aiohttp's shutdown waits: they end first.
        app.on_shutdown.append(self._say_goodbye)

    async def _life(self, _app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _say_goodbye(self, _app: web.Application) -> None:
        clients = list(self._server.eio.sockets.values())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await asyncio.gather(*(client.close() for client in clients), return_exceptions=True)
        await self._server.shutdown()

    async def _connect(self, sid: str, _environ: dict[str, Any]) -> None:
        # Taken before the client learns that it is connected: it misses nothing from then on.
        position = await self._manager.event_position()
        if not self._clients:
            self._position = position
        self._clients.add(sid)
        self._nobody.clear()
        self._somebody.set()

    async def _disconnect(self, sid: str, _reason: str) -> None:
        self._clients.discard(sid)
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
                await self._server.emit("reset", {"epoch": gone.epoch, "seq": gone.seq})
            except StoreUnavailable as error:
                logger.warning("Socket.IO waits for the database: %s", error)
                await asyncio.sleep(_RETRY_S)
            except Exception:  # boundary: one bad event must not silence Socket.IO until the next restart
                logger.exception(
                    "Socket.IO lost its place in the event log; it goes on from the newest event"
                )
                await asyncio.sleep(_RETRY_S)
                self._position = None

    async def _follow(self) -> None:
        position = self._position or await self._manager.event_position()
        async with contextlib.aclosing(feed(self._manager, position, self._nobody, _BEAT_S)) as batches:
            async for batch in batches:
                if batch:
                    await self._publish(batch)
                    # Where to go on if the reading breaks off.
                    self._position = EventPosition(position.epoch, batch[-1].seq)

    async def _publish(self, batch: Sequence[Event]) -> None:
        await self._drop_laggards()
        entering = [event for event in batch if enqueues(event)]
        queued = await self._count_queued() if entering else 0
        jobs = await self._jobs(entering)
        for event in batch:
            found = message(event, jobs, queued)
            if found is not None:
                await self._server.emit(*found)

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

    async def _drop_laggards(self) -> None:
        for sid, client in list(self._server.eio.sockets.items()):
            if client.queue.qsize() > MAX_BACKLOG:
                logger.warning(
                    "a Socket.IO client lags %d messages behind and is disconnected", client.queue.qsize()
                )
                await client.close(wait=False, abort=True)
                self._server.eio.sockets.pop(sid, None)


def _dumps(value: object, **_options: object) -> str:
    return msgspec.json.encode(value).decode()

"""Socket.IO: the event log as messages to everybody who is connected, or as batches to who asks for rooms."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import engineio
import socketio
from aiohttp import web

from jobmgr.api.body import expect_later, invite, too_slow
from jobmgr.api.frames import Frames, Message
from jobmgr.api.guard import SOCKET_PATH, not_known
from jobmgr.api.idempotency import manager_of
from jobmgr.api.inbox import Inbox
from jobmgr.api.keys import CALLER, LIMITS
from jobmgr.api.listener import PATIENCE_S, Listener, end
from jobmgr.api.messages import enqueues, message, starts
from jobmgr.api.packets import Babble, loads
from jobmgr.api.problems import Refusal, describe
from jobmgr.api.pyedb.machine import resources_answer
from jobmgr.api.refusals import Refusals
from jobmgr.api.rooms import Rooms, parse_rooms
from jobmgr.api.throttle import Throttle
from jobmgr.api.tick import Tick
from jobmgr.domain import access
from jobmgr.domain.access import Hearing, Principal, Verb
from jobmgr.domain.job import Event, EventPosition, Job, JobFilter
from jobmgr.domain.queue import Tally
from jobmgr.errors import EventsGone, JobmgrError, JobNotFound, StoreUnavailable
from jobmgr.manager.feed import Following
from jobmgr.manager.manager import Manager
from jobmgr.wire.translation import encode

logger = logging.getLogger(__name__)

_RETRY_S = 1.0
_GOODBYE_S = 0.5
_MAX_PACKET_BYTES = 64 * 1024
# In one turn of polling; who polls sends all that gathered while the turn before was under way. The library takes 16.
_MAX_PACKETS = 4000


class Sockets:
    """All Socket.IO clients of an application. The event log is followed only while there is one."""

    def __init__(self, manager: Manager, throttle: Throttle, refusals: Refusals) -> None:
        self._manager = manager
        self._throttle = throttle
        self._refusals = refusals
        self._babble = Babble(self._asking)
        # The guard has judged Host, Origin and token before a handshake gets here, so nothing is left to allow.
        self._server = socketio.AsyncServer(
            async_mode="aiohttp",
            cors_allowed_origins=[],
            max_http_buffer_size=_MAX_PACKET_BYTES,
            # What a client asks is done in the order in which it asks, and a flood of it one at a time.
            async_handlers=False,
            json=SimpleNamespace(dumps=_dumps, loads=loads),
            logger=self._babble.library,
            engineio_logger=self._babble.library,
        )
        engineio.payload.Payload.max_decode_packets = _MAX_PACKETS
        self._arrived = self._server.eio.handlers["connect"]
        self._server.eio.on("connect", self._arrive)
        self._server.on("connect", self._connect)
        self._server.on("subscribe", self._subscribe)
        self._server.on("disconnect", self._disconnect)
        self._listeners: dict[str, Listener] = {}
        self._websockets: dict[str, web.Request] = {}
        self._open: dict[asyncio.Task[Any], web.Request] = {}
        self._somebody = asyncio.Event()
        self._following: Following | None = None
        self._position: EventPosition | None = None

    def attach(self, app: web.Application) -> None:
        """Serve at the usual path, from the application's start to its shutdown."""
        app.router.add_get(SOCKET_PATH, self._handle, allow_head=False, expect_handler=expect_later)
        app.router.add_post(SOCKET_PATH, self._handle, expect_handler=expect_later)
        app.cleanup_ctx.append(self._life)
        # Open websockets are open requests, for which aiohttp's shutdown waits: they end first.
        app.on_shutdown.append(self._say_goodbye)
        app.on_cleanup.append(self._babble.close)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        sid = _sid(request)
        if sid is not None and not self._may_go_on(sid, request[CALLER].principal):
            return _no_session(sid)
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = request
        try:
            # Only what is posted has a body; Engine.IO would wait for it without end.
            wait_s = None if request.method == "GET" else request.app[LIMITS].body_s
            with self._upgrading(request):
                async with asyncio.timeout(wait_s):
                    await _await_body(request)
                    if self._is_closed(sid):
                        return _no_session(sid)
                    response: web.StreamResponse = await self._server.handle_request(request)
        except TimeoutError:
            raise too_slow() from None
        finally:
            self._open.pop(task, None)
        return response

    def _may_go_on(self, sid: str, asks: Principal) -> bool:
        """Whether this Engine.IO session came from a handshake of who asks now.

        It stands in addresses, and those in the logs of proxies: who knows it is not who opened it. The owner may:
        clients that poll (python-socketio 5) show their token in the handshake only, which on the owner's machine is
        enough, and their later requests are the owner's.
        """
        if asks == Principal.owner(self._manager.user):
            return True
        # Here from before the client is told its session until it ends.
        environ = self._server.environ.get(sid)
        return environ is not None and environ["aiohttp.request"][CALLER].principal == asks

    def _is_closed(self, sid: str | None) -> bool:
        """Whether this session has ended, which Engine.IO says in an exception to who posts to it."""
        client = self._server.eio.sockets.get(sid)
        return client is not None and client.closed

    @contextlib.contextmanager
    def _upgrading(self, request: web.Request) -> Iterator[None]:
        """Keep the request that gives a client, who polled before, its WebSocket."""
        client = self._server.eio.sockets.get(_sid(request))
        # Of a client that has one already Engine.IO refuses another.
        if client is None or client.upgraded or not _is_upgrade(request):
            yield
            return
        self._websockets[client.sid] = request
        try:
            yield
        finally:
            if self._websockets.get(client.sid) is request:
                del self._websockets[client.sid]

    async def _life(self, _app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _say_goodbye(self, _app: web.Application) -> None:
        for client in list(self._server.eio.sockets.values()):
            await end(client)
        if self._open:
            await asyncio.wait(self._open, timeout=_GOODBYE_S)
        for request in self._open.values():
            _abort(request)
        await self._server.shutdown()

    def _asking(self) -> web.Request | None:
        """The request that this task answers, the whole life of a WebSocket being one."""
        task = asyncio.current_task()
        return None if task is None else self._open.get(task)

    async def _arrive(self, sid: str, environ: dict[str, Any]) -> None:
        """Engine.IO has a new client, which is told nothing yet."""
        await self._arrived(sid, environ)
        client, first = self._server.eio.sockets[sid], environ["aiohttp.request"]
        websocket = self._websocket(client, first)
        Inbox(client, first, websocket, self._throttle, self._refusals, self._babble)

    async def _connect(self, sid: str, environ: dict[str, Any], auth: object) -> None:
        first: web.Request = environ["aiohttp.request"]
        manager = manager_of(first)
        try:
            if not await manager.is_current():
                raise not_known()
            access.check(first[CALLER].principal, Verb.READ)
            # Whom this refuses may ask again on the same connection, as often as a client subscribes.
            self._throttle.check_rate(first[CALLER].principal)
            rooms = (
                await _rooms(manager, {"rooms": auth["rooms"]})
                if isinstance(auth, dict) and "rooms" in auth
                else None
            )
            # Taken before the client learns that it is connected: it misses nothing from then on.
            position = await manager.event_position()
        except JobmgrError as error:
            self._refusals.note(first, error)
            raise socketio.exceptions.ConnectionRefusedError(str(error), describe(error)) from error
        listener = self._listener(sid, first, manager, rooms)
        if not self._listeners:
            self._position = position
        self._listeners[sid] = listener
        self._somebody.set()

    def _listener(self, sid: str, first: web.Request, manager: Manager, rooms: Rooms | None) -> Listener:
        client = self._server.eio.sockets.get(self._server.manager.eio_sid_from_sid(sid, "/"))
        if client is None or client.closed:
            raise socketio.exceptions.ConnectionRefusedError("the connection is gone")
        return Listener(client, manager, rooms, self._websocket(client, first))

    def _websocket(self, client: Any, first: web.Request) -> Callable[[], web.Request | None]:
        return lambda: first if _is_upgrade(first) else self._websockets.get(client.sid)

    async def _subscribe(self, sid: str, asked: object = None, *_others: object) -> dict[str, Any]:
        """Tell the client what happens in these rooms, and nothing else; answers what its callback is called with."""
        listener = self._listeners.get(sid)
        if listener is None:
            return {}
        try:
            if not await listener.manager.is_current():
                await listener.end()
                return {}
            if listener.manager.caller is not None:
                self._throttle.check_rate(listener.manager.caller.principal)
            listener.rooms = rooms = await _rooms(listener.manager, asked)
            # What comes after it was not sent to anybody yet.
            position = self._position or await self._manager.event_position()
            return {"rooms": rooms.names, "position": str(position)}
        except JobmgrError as error:
            return {"error": describe(error)}

    async def _disconnect(self, sid: str, _reason: str) -> None:
        listener = self._listeners.pop(sid, None)
        if listener is not None:
            listener.left()
        if not self._listeners:
            self._somebody.clear()
            if self._following is not None:
                self._following.end()

    async def _run(self) -> None:
        while True:
            await self._somebody.wait()
            try:
                await self._follow()
            except EventsGone as gone:
                self._position = EventPosition(gone.epoch, gone.seq)
                reset = Frames([("reset", {"epoch": gone.epoch, "seq": gone.seq})])
                for listener in self._listeners.values():
                    listener.send(reset)
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
        self._following = self._manager.follow(position, readers=lambda: len(self._listeners))
        if not self._listeners:
            # They left meanwhile, and could not end what had not begun.
            return
        async with contextlib.aclosing(self._following) as batches:
            async for batch in batches:
                if batch:
                    await self._publish(position.epoch, batch)
                    # Where to go on if the reading breaks off.
                    self._position = EventPosition(position.epoch, batch[-1].seq)

    async def _publish(self, epoch: str, batch: Sequence[Event]) -> None:
        await self._let_clients_read()
        await self._dismiss()
        hearings = {each.hearing for each in self._listeners.values()}
        singly = {each.hearing for each in self._listeners.values() if each.rooms is None}
        # What is read for messages is the same for all who hear of the event, so it is read once.
        messages = await self._messages(batch) if singly else {}
        ticks: dict[Hearing, Tick] = {}
        for hearing in hearings:
            if heard := hearing.heard(batch):
                told = [messages[event.seq] for event in heard if event.seq in messages]
                ticks[hearing] = Tick(epoch, heard, told if hearing in singly else ())
        for listener in self._listeners.values():
            # Of somebody who came meanwhile and hears otherwise the position is newer than this batch.
            if tick := ticks.get(listener.hearing):
                for frames in tick.frames(listener.rooms):
                    listener.send(frames)

    async def _dismiss(self) -> None:
        """End the connections of those who may not listen any more."""
        for listener in list(self._listeners.values()):
            if not await listener.manager.is_current():
                await listener.end()
        # Also those who are connected and never say what they want.
        for request in list(self._open.values()):
            if not await manager_of(request).is_current():
                _abort(request)

    async def _messages(self, batch: Sequence[Event]) -> dict[int, Message]:
        """The messages of a batch by the numbers of their events."""
        entering = [event for event in batch if enqueues(event)]
        queued = await self._count_queued() if entering else 0
        jobs = await self._jobs(entering)
        resources = resources_answer(self._manager.resources()) if any(map(starts, batch)) else None
        return {event.seq: found for event in batch if (found := message(event, jobs, queued, resources))}

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
        reading = [asyncio.create_task(listener.catch_up()) for listener in behind]
        await asyncio.wait(reading, timeout=PATIENCE_S)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for listener in self._behind():
            logger.warning("a Socket.IO client lags too far behind and is disconnected")
            await listener.end()

    def _behind(self) -> list[Listener]:
        return [listener for listener in self._listeners.values() if listener.is_behind]


async def _rooms(manager: Manager, asked: object) -> Rooms:
    rooms = parse_rooms(asked)
    wanted = sorted(rooms.job_ids)
    if not wanted:
        return rooms
    page = await manager.list(JobFilter(ids=tuple(wanted)), limit=len(wanted))
    seen = {job.job_id for job in page.jobs}
    for job_id in wanted:
        if job_id not in seen:
            raise JobNotFound(job_id)
    return rooms


async def _await_body(request: web.Request) -> None:
    """Wait until all of what is posted is here: Engine.IO would take the first piece of it for the whole.

    Raises Refusal if it is too large, which Engine.IO says only after the client has read all that waits for it.
    """
    if request.method != "GET":
        if (request.content_length or 0) > _MAX_PACKET_BYTES:
            raise Refusal(413, "body_too_large", f"more than {_MAX_PACKET_BYTES // 1024} KiB in one turn")
        await invite(request)
        await request.content.wait_eof()


def _sid(request: web.Request) -> str | None:
    """The Engine.IO session that a request goes on with.

    Raises Refusal if that depends on how often the address is decoded: it has to be the one that Engine.IO takes.
    """
    found = parse_qs(request.query_string).get("sid", [None])
    if parse_qs(request.rel_url.raw_query_string).get("sid", [None]) != found:
        raise Refusal(
            400, "ambiguous_session", "`sid` is encoded more often than once; send it as it was told"
        )
    return found[0]


def _no_session(sid: str | None) -> web.Response:
    # As Engine.IO answers for a session that there is not.
    return web.Response(status=400, text=json.dumps(f"Invalid session {sid}"))


def _is_upgrade(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _dumps(value: object, **_options: object) -> str:
    return encode(value).decode()

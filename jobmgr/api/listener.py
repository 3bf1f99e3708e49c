"""One connected Socket.IO client: what it wants to be told, and how that is written to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from jobmgr.api.frames import Frames
from jobmgr.api.rooms import Rooms
from jobmgr.manager.manager import Manager

# With more unsent messages, or bytes on a WebSocket, a client is waited for, and then disconnected: nothing is buffered
# without end.
MAX_BACKLOG = 2000
MAX_BACKLOG_BYTES = 1024 * 1024
PATIENCE_S = 2.0


class Listener:
    """A client, whose verbs are those of `manager`. `websocket` answers the request that carries its WebSocket, None
    while it has none.

    Engine.IO takes messages from a queue per client and writes each in a frame of its own. Where a hundred clients
    are told hundreds of events per second, that is most of the service's work. So once a client has its WebSocket
    and nothing of ours waits in its queue, all frames of a tick go to its transport in one write. aiohttp writes
    whole frames too, so the two do not mix; and frames that are not compressed may stand between those that are
    (RFC 7692, 6).
    """

    def __init__(
        self,
        socket: Any,
        manager: Manager,
        rooms: Rooms | None,
        websocket: Callable[[], web.Request | None],
    ) -> None:
        self.manager = manager
        self.hearing = manager.hearing
        self.rooms = rooms
        self._socket = socket
        self._websocket = websocket
        self._request: web.Request | None = None
        self._held: list[bytes] | None = None

    def send(self, frames: Frames) -> None:
        """Send without waiting, in order."""
        if self._request is not None:
            _write(self._request, frames.data)
        elif self._held is not None:
            self._held.append(frames.data)
        elif self._socket.upgraded and (request := self._websocket()) is not None:
            self._held = [frames.data]
            self._socket.queue.put_nowait(_HandOver(lambda: self._take_over(request)))
        else:
            for packet in frames.packets:
                self._socket.queue.put_nowait(packet)

    def _take_over(self, request: web.Request) -> None:
        held, self._held = self._held, None
        self._request = request
        _write(request, b"".join(held or ()))

    @property
    def is_behind(self) -> bool:
        """Whether too much was sent that it has not read."""
        unread = sum(map(len, self._held or ()))
        if self._request is not None and self._request.transport is not None:
            unread += self._request.transport.get_write_buffer_size()
        return unread > MAX_BACKLOG_BYTES or self._socket.queue.qsize() > MAX_BACKLOG

    async def catch_up(self) -> None:
        """Wait until it has read what it was sent, or most of it."""
        await self._socket.queue.join()
        if self._request is not None:
            await self._request.writer.drain()

    def left(self) -> None:
        """The client is gone: what waits for its next packet is told that none will come; a poll would hang on else."""
        self._socket.queue.put_nowait(None)

    async def end(self) -> None:
        """End its connection without waiting for it to read what it was sent."""
        request = self._request or self._websocket()
        await end(self._socket)
        if request is not None and request.transport is not None:
            request.transport.abort()


class _HandOver:
    """A packet that tells when it is written to a WebSocket: then all that was queued before it has been."""

    def __init__(self, written: Callable[[], None]) -> None:
        self._written = written

    def encode(self, b64: bool = False) -> str:  # noqa: FBT001, FBT002 -- as Engine.IO calls its packets
        """Called when the packet is written, by itself or (`b64`) in the answer to a poll."""
        if not b64:
            self._written()
        return "6"  # Nothing, in Engine.IO: it is read and ignored.


def _write(request: web.Request, data: bytes) -> None:
    transport = request.transport
    if transport is not None and not transport.is_closing():
        transport.write(data)


async def end(socket: Any) -> None:
    """End the connection of an Engine.IO client without waiting for it to read what it was sent."""
    while not socket.queue.empty():
        socket.queue.get_nowait()
    await socket.close(wait=False, abort=True)

"""What one Socket.IO client sends: it is understood, or the connection ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from jobmgr.api.listener import end
from jobmgr.api.packets import Babble, understand


class Inbox:
    """Stands before what Engine.IO does with the packets of `client`, whose connection `first` began.

    `websocket` answers the request that carries its WebSocket, None while it has none.
    """

    def __init__(
        self,
        client: Any,
        first: web.Request,
        websocket: Callable[[], web.Request | None],
        babble: Babble,
    ) -> None:
        self._client = client
        self._first = first
        self._websocket = websocket
        self._babble = babble
        # Engine.IO makes its clients itself, of one class; these three are all that it asks them to hear.
        self._receive, client.receive = client.receive, self.receive
        self._get, client.handle_get_request = client.handle_get_request, self.get
        self._post, client.handle_post_request = client.handle_post_request, self.post

    async def receive(self, packet: Any) -> None:
        """Take one packet."""
        # What had come before the connection was ended is still read.
        if self._client.closed:
            return
        try:
            understand(packet)
        except ValueError as error:
            await self._refuse(error)
            return
        await self._receive(packet)

    async def get(self, environ: Any) -> Any:
        """Answer a poll, or hear a WebSocket to its end.

        Raises ConnectionResetError if what came there is no packet.
        """
        try:
            return await self._get(environ)
        except ValueError as error:
            await self._refuse(error)
            raise ConnectionResetError("what came is no packet") from error

    async def post(self, environ: Any) -> None:
        """Take the packets of one turn of polling."""
        try:
            await self._post(environ)
        except (ValueError, KeyError) as error:
            await self._refuse(error)

    async def _refuse(self, error: Exception) -> None:
        self._babble.note(self._websocket() or self._first, error)
        await self._end()

    async def _end(self) -> None:
        request = self._websocket()
        await end(self._client)
        # What waits for its next packet is told that none will come.
        self._client.queue.put_nowait(None)
        if request is not None and request.transport is not None:
            request.transport.abort()

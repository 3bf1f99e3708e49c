"""What one Socket.IO client sends: not too much, and understood, and its answers are read, or the connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web

from jobmgr.api.keys import CALLER
from jobmgr.api.listener import MAX_BACKLOG, MAX_BACKLOG_BYTES, PATIENCE_S, end
from jobmgr.api.packets import Babble, understand
from jobmgr.api.problems import Refusal
from jobmgr.api.refusals import Refusals
from jobmgr.api.throttle import Throttle

logger = logging.getLogger(__name__)

# With more messages that it did not read yet a client is heard no faster than it reads. Who polls gets all at once.
_MOST_UNREAD = 16
_MOST_UNREAD_POLLING = MAX_BACKLOG


class Inbox:
    """Stands before what Engine.IO does with the packets of `client`, whose connection `first` began.

    `websocket` answers the request that carries its WebSocket, None while it has none.
    """

    def __init__(
        self,
        client: Any,
        first: web.Request,
        websocket: Callable[[], web.Request | None],
        throttle: Throttle,
        refusals: Refusals,
        babble: Babble,
    ) -> None:
        self._client = client
        self._first = first
        self._websocket = websocket
        self._throttle = throttle
        self._refusals = refusals
        self._babble = babble
        self._unanswered = 0
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
            self._throttle.check_packet(self._first[CALLER].principal)
            understand(packet)
        except Refusal as error:
            self._refusals.note(self._first, error)
            await self._end()
        except ValueError as error:
            await self._refuse(error)
        else:
            await self._receive(packet)
            await self._let_read(packet)

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

    async def _let_read(self, packet: Any) -> None:
        """Go no faster than the answers are read, and end with who lets them gather.

        An answer may be as long as what it answers, so that is what is counted of those that wait.
        """
        queue = self._client.queue
        if queue.qsize() > (_MOST_UNREAD if self._client.upgraded else _MOST_UNREAD_POLLING):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await queue.join()
        # What is no text is the data of a packet that is not answered.
        asked = len(packet.data) if isinstance(packet.data, str) else 0
        self._unanswered = 0 if queue.empty() else self._unanswered + asked
        if not self._client.closed and (queue.qsize() > MAX_BACKLOG or self._unanswered > MAX_BACKLOG_BYTES):
            logger.warning("a Socket.IO client does not read what it is sent and is disconnected")
            await self._end()

    async def _end(self) -> None:
        request = self._websocket()
        await end(self._client)
        # What waits for its next packet is told that none will come.
        self._client.queue.put_nowait(None)
        if request is not None and request.transport is not None:
            request.transport.abort()

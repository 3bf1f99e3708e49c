"""The service's end of its connections to keepers and wardens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from jobmgr.executors.messages import Inbox, Message, pack

logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 10.0
_ANSWER_TIMEOUT_S = 10.0


class Link(asyncio.Protocol):
    """One connection. Messages go to `on_message`; `on_lost` is called once when the other end is gone.

    `token` is the attempt this link is busy with, `idle_since` (loop time) counts while it has none.
    """

    def __init__(self, on_message: Callable[[Link, Message], None], on_lost: Callable[[Link], None]) -> None:
        self.token: str | None = None
        self.idle_since = 0.0
        self._on_message = on_message
        self._on_lost = on_lost
        self._inbox = Inbox()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Message] | None = None
        self._is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        try:
            messages = self._inbox.feed(data)
        except ValueError as error:
            logger.warning("a holder of attempts is let go, it speaks another language: %s", error)
            if self._transport is not None:
                self._transport.abort()
            return
        for message in messages:
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(message)
            self._on_message(self, message)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the event loop's signature
        """Called by the event loop."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the holder is gone"))
        if not self._is_closed:
            self._is_closed = True
            self._on_lost(self)

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be said any more."""
        return self._is_closed

    def send(self, message: Message) -> None:
        """Hand a message to the event loop; a broken link shows by `on_lost`."""
        if self._transport is not None and not self._is_closed:
            self._transport.write(pack(message))

    async def ask(self, message: Message) -> Message:
        """The next message after this one is sent. Raises OSError (also when none comes in time)."""
        self._answer = asyncio.get_running_loop().create_future()
        self.send(message)
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                return await self._answer
        except TimeoutError as error:
            raise TimeoutError(f"no answer within {_ANSWER_TIMEOUT_S:g} s") from error
        finally:
            self._answer = None

    def close(self) -> None:
        """Let go; `on_lost` is not called for it."""
        self._is_closed = True
        if self._transport is not None:
            self._transport.close()


async def connect(
    path: str, on_message: Callable[[Link, Message], None], on_lost: Callable[[Link], None]
) -> Link:
    """Connect to the holder that listens there. Raises OSError (also when it does not answer in time)."""
    loop = asyncio.get_running_loop()
    link = Link(on_message, on_lost)
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            await loop.create_unix_connection(lambda: link, path)
    except TimeoutError as error:
        raise TimeoutError(f"no connection to {path} within {_CONNECT_TIMEOUT_S:g} s") from error
    return link

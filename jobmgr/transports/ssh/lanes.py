"""How many commands go over one connection at once, and who waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_MOST_WAITING = 1000


class QueueFull(Exception):
    """More commands wait for their turn than can be served in any reasonable time."""


class Lanes:
    """At most `width` at once, in order of arrival."""

    def __init__(self, width: int) -> None:
        self._most = width
        self._width = width
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def lane(self) -> AsyncIterator[None]:
        """Have one of them. Raises QueueFull."""
        await self._enter()
        try:
            yield
        finally:
            self._busy -= 1
            self._wake()

    def narrow(self) -> bool:
        """One was refused: as many as are taken besides it are all there are. False if that is none."""
        others = self._busy - 1
        self._width = max(min(self._width, others), 1)
        return others > 0

    def widen(self) -> None:
        """With a new connection, all are tried again."""
        self._width = self._most
        self._wake()

    async def _enter(self) -> None:
        if self._busy < self._width and not self._waiting:
            self._busy += 1
            return
        if len(self._waiting) >= _MOST_WAITING:
            raise QueueFull
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            # The turn may have come in the same moment; then it is passed on.
            if turn.done() and not turn.cancelled():
                self._busy -= 1
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self._busy < self._width:
            turn = self._waiting.popleft()
            if not turn.done():
                self._busy += 1
                turn.set_result(None)

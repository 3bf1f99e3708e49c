"""Turns: how many reads of one who asks the database works on at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass, field

# Half of the readers that a service has of SQLite (`store.backend.READERS`): nobody takes them all.
AT_ONCE = 2


@dataclass(slots=True)
class _Line:
    asked: int = 0
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))


class Turns:
    """A line for each who reads: AT_ONCE are served, the others wait in the order in which they came."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, _Line] = {}

    def waiting(self, who: Hashable) -> int:
        """How many reads of `who` wait."""
        line = self._lines.get(who)
        return 0 if line is None else max(0, line.asked - AT_ONCE)

    @contextlib.asynccontextmanager
    async def turn(self, who: Hashable) -> AsyncIterator[None]:
        """A place for one read of `who`, as soon as there is one."""
        line = self._lines.setdefault(who, _Line())
        line.asked += 1
        try:
            async with line.places:
                yield
        finally:
            line.asked -= 1
            if not line.asked:
                del self._lines[who]

"""Which API tokens there are: for one that is shown for the first time where many wrong ones come from."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from jobmgr.domain import user
from jobmgr.store import api_tokens
from jobmgr.store.engine import Database

PAUSE_S = 1.0


class Register:
    """The hashes of all API tokens that are good for something, read at most once in `PAUSE_S` whatever is asked."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._hashes: frozenset[str] = frozenset()
        self._read_at = -math.inf
        self._reading = asyncio.Lock()

    async def holds(self, shown: str) -> bool:
        """Whether this is one of them, as of a moment ago. Raises StoreUnavailable."""
        if user.id_of(shown) is None:
            return False
        async with self._reading:
            if self._clock() - self._read_at >= PAUSE_S:
                # Also if it fails: whoever floods must not have a database asked that is away.
                self._read_at = self._clock()
                self._hashes = await self._database.read(api_tokens.hashes)
        return user.digest(shown) in self._hashes

"""How long a service that went away is waited for."""

from __future__ import annotations

import asyncio
import logging
import random
import time

from jobmgr.errors import JobmgrError, ServiceUnreachable, StoreUnavailable, TooManyRequests

logger = logging.getLogger(__name__)
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0

# What passes by itself: the service restarts, or waits for its database.
TRANSIENT = (ServiceUnreachable, StoreUnavailable)


class Patience:
    """Pauses between tries to reach a service, longer each time; gives up after `limit_s` of silence."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._lost_at: float | None = None
        self._pause_s = FIRST_PAUSE_S

    def answered(self) -> None:
        """The service is there; whether it stays is another matter, so the pauses remain as they are."""
        self._lost_at = None

    def recovered(self) -> None:
        """All is well again."""
        self._lost_at = None
        self._pause_s = FIRST_PAUSE_S

    async def wait_after(self, error: JobmgrError) -> None:
        """Pause before the next try, also as long as the service said; raises `error` if this goes on for too long."""
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = now
            logger.warning("%s; trying again for %g s", error, self._limit_s)
        if now - self._lost_at >= self._limit_s:
            raise error
        await self.pause((error.retry_after_s or 0.0) if isinstance(error, TooManyRequests) else 0.0)

    async def pause(self, at_least_s: float = 0.0) -> None:
        """Pause before the next try, longer than the last time."""
        # Spread out, so that many clients do not all return in the same instant.
        await asyncio.sleep(at_least_s + self._pause_s * random.uniform(0.75, 1.25))
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

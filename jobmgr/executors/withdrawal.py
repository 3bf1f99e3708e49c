"""Taking back what waits in a queue for attempts that are over, as a requeued run: it would be refused at its gate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from jobmgr.dialects.dialect import Listing, Phase
from jobmgr.errors import SiteUnreachable
from jobmgr.executors.breaker import Breaker
from jobmgr.executors.handing import Desk
from jobmgr.executors.live import Live
from jobmgr.executors.pace import Pace
from jobmgr.executors.scheduler import Scheduler

_ROUNDS = 12
_WAITS = frozenset({Phase.PENDING, Phase.HELD, Phase.UNKNOWN})
_IS_GONE = frozenset({Phase.ENDED, Phase.MISSING})


class Withdrawal:
    """Takes many back together: who has ids is looked at with one query, who has none looked up with another."""

    def __init__(
        self,
        scheduler: Scheduler,
        desk: Desk,
        cancel: Callable[[Sequence[str]], None],
        pace: Pace,
        breaker: Breaker,
    ) -> None:
        self._scheduler = scheduler
        self._desk = desk
        self._cancel = cancel
        self._pace = pace
        self._breaker = breaker

    async def run(self, lives: Sequence[Live]) -> None:
        """Until none of them waits or runs any more, or for a number of rounds."""
        known = [live for live in lives if live.ids]
        pause_s = self._pace.ask_first_s
        names = sorted({live.name for live in lives if not live.ids})
        for _ in range(_ROUNDS):
            listings = [await self._desk.listing(names)] if names else []
            if known:
                listings.append(await self._look(known))
            wanted = {(live.name, live.index) for live in lives}
            jobs = [one for found in listings for one in found.jobs if (one.name, one.index) in wanted]
            waiting = [one.id for one in jobs if one.phase in _WAITS]
            if waiting:
                self._cancel(waiting)
            # While a run is being ended, it may be put back into the queue.
            if all(found.has_whole_queue for found in listings) and all(
                one.phase in _IS_GONE for one in jobs
            ):
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._pace.again_max_s)

    async def _look(self, lives: Sequence[Live]) -> Listing:
        async with self._breaker.turn():
            try:
                found = await self._scheduler.look([id_ for live in lives for id_ in live.ids])
            except SiteUnreachable as error:
                found = Listing((), complete=False, why=str(error))
            if not found.has_whole_queue:
                self._breaker.in_vain(found.why)
        return found

"""Asks a foreign queue to end jobs: all that come in quick succession together, and of each one question at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from jobmgr.dialects.dialect import Compliance, Wish
from jobmgr.executors.breaker import Breaker
from jobmgr.executors.gathering import Gathering
from jobmgr.executors.pace import Pace
from jobmgr.executors.scheduler import NAMED_AT_ONCE, Scheduler


class Ender:
    """That it was asked does not say that they end: look. `spawn` sees to what takes its time."""

    def __init__(
        self,
        scheduler: Scheduler,
        pace: Pace,
        breaker: Breaker,
        spawn: Callable[[Awaitable[None]], None],
    ) -> None:
        self._scheduler = scheduler
        self._breaker = breaker
        self._asked: set[str] = set()
        self._gathering = Gathering[str](lambda: pace.gather_s, lambda ids: spawn(self._end(ids)))

    def end(self, ids: Sequence[str]) -> None:
        """Ask soon, if these are not asked for at this moment."""
        new = [id_ for id_ in dict.fromkeys(ids) if id_ not in self._asked]
        self._asked.update(new)
        self._gathering.add(new)

    def drop(self) -> None:
        """Ask no more."""
        self._gathering.drop()

    async def _end(self, ids: Sequence[str]) -> None:
        try:
            for start in range(0, len(ids), NAMED_AT_ONCE):
                await self._ask(ids[start : start + NAMED_AT_ONCE])
        finally:
            self._asked.difference_update(ids)

    async def _ask(self, ids: Sequence[str]) -> None:
        async with self._breaker.turn():
            reply = await self._scheduler.ask(Wish.CANCEL, ids)
            if reply.compliance is Compliance.DOUBTFUL:
                self._breaker.in_vain(reply.words)
            else:
                self._breaker.well()

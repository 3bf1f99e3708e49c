"""Asks a foreign queue to end jobs: all that come in quick succession together, and of each one question at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from jobmgr.dialects.dialect import Compliance, Wish
from jobmgr.executors.breaker import Breaker
from jobmgr.executors.gathering import Gathering
from jobmgr.executors.pace import Pace
from jobmgr.executors.scheduler import NAMED_AT_ONCE, Scheduler

# No two wishes for the same job are further apart, in seconds: what hinders its end may have gone meanwhile.
_LONGEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class _Given:
    """A wish that was taken: until when it is left to work, and for how long that is, in seconds."""

    until: float
    for_s: float


class Ender:
    """That a wish was taken does not say that the job ends: look, and wish again. `spawn` sees to what takes its time.

    A wish that was taken has its time (see Pace), doubled with each. Schedulers begin anew with every one: PBS counts
    `kill_delay` from the last, so that it would never kill; LSF sends all its signals once more, and many a program
    takes a second one for "at once", and leaves its results.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        pace: Pace,
        breaker: Breaker,
        spawn: Callable[[Awaitable[None]], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._scheduler = scheduler
        self._pace = pace
        self._breaker = breaker
        self._monotonic = monotonic
        self._asked: set[str] = set()
        self._given: dict[str, _Given] = {}
        self._gathering = Gathering[str](lambda: pace.gather_s, lambda ids: spawn(self._end(ids)))

    def end(self, ids: Sequence[str]) -> None:
        """Ask soon, of these, for whom is not asked at this moment and has not just been asked with success."""
        now = self._monotonic()
        self.take_out([id_ for id_ in ids if id_ not in self._given or now >= self._given[id_].until])

    def take_out(self, ids: Sequence[str]) -> None:
        """The same of jobs that wait: nobody hears of it, so it may be wished as often as one likes."""
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
            if reply.compliance is Compliance.DONE:
                self._leave_to_work(ids)

    def _leave_to_work(self, ids: Sequence[str]) -> None:
        now = self._monotonic()
        # Who is not asked for again has ended.
        given = {id_: wish for id_, wish in self._given.items() if now < wish.until + wish.for_s}
        for id_ in ids:
            last = given.get(id_)
            for_s = min(last.for_s * 2, _LONGEST_S) if last is not None else self._pace.end_again_s
            given[id_] = _Given(now + for_s, for_s)
        self._given = given

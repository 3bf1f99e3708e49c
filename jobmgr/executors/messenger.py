"""Passes on what a foreign queue is to be told: of as many attempts as want the same with one command.

A wish is told until that queue took it, will not have it, or the attempt is not what it is about any more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jobmgr.dialects.dialect import Compliance, Wish
from jobmgr.domain.wish import Hold, Pause, Rank, Wished
from jobmgr.executors.breaker import Breaker
from jobmgr.executors.live import Live
from jobmgr.executors.pace import Pace
from jobmgr.executors.scheduler import NAMED_AT_ONCE, Reply, Scheduler


@dataclass(frozen=True, slots=True)
class Item:
    """What is to be told of one attempt next, and under which ids it is meant."""

    live: Live
    wished: Wished
    ids: Sequence[str]


# Is told what was answered to the wish about an attempt, and whether it was taken.
Answered = Callable[[str, Wished, bool], None]


class Messenger:
    """Runs the errands at one site."""

    def __init__(self, scheduler: Scheduler, pace: Pace, breaker: Breaker, answered: Answered) -> None:
        self._scheduler = scheduler
        self._pace = pace
        self._breaker = breaker
        self._answered = answered

    async def run(self, lives: Sequence[Live]) -> None:
        """Tell what is open of these, as far as nobody does already."""
        run = _Run(lives)
        try:
            while run.goes_on():
                await self._go_round(run)
        finally:
            run.let_go(run.lives)

    async def _go_round(self, run: _Run) -> None:
        # After a doubt one asks for all.
        scouts = 1 if run.has_doubt else 0
        has_doubt = has_told = False
        for some in [run.lives[:scouts], *_portions(run.lives[scouts:], run.most)]:
            for is_well in [await self._tell(group) for group in _alike(some)]:
                has_doubt |= not is_well
                has_told |= is_well
            if has_doubt and not has_told:
                break
        run.has_doubt = has_doubt
        if has_doubt and has_told:
            # It listens, so there is something about some of them: they are told of by themselves in the end.
            run.most, run.rounds = max(1, run.most // 2), 0
        if has_doubt:
            run.lives = [*run.lives[1:], run.lives[0]]
            run.rounds += 1
            pause_s = self._pace.again_first_s * 2.0 ** min(run.rounds - 1, 30)
            await self._breaker.rest(min(pause_s, self._pace.again_max_s))

    async def _tell(self, items: Sequence[Item]) -> bool:
        """Tell the same of some attempts; whether that was answered."""
        async with self._breaker.turn():
            # While it waited for its turn something else may have been wished, or nothing any more.
            items = [item for item in items if _is_next(item)]
            if not items:
                return True
            reply = await self._pass_on(items[0].wished, [id_ for item in items for id_ in item.ids])
            if reply.compliance is Compliance.DOUBTFUL:
                self._breaker.in_vain(reply.words)
            else:
                self._breaker.well()
        if reply.compliance not in (Compliance.DONE, Compliance.DOUBTFUL) and len(items) > 1:
            # Of whom that is said is not told.
            middle = len(items) // 2
            halves = [await self._tell(half) for half in (items[:middle], items[middle:])]
            return all(halves)
        for item in items:
            self._close(item, reply)
        return reply.compliance is not Compliance.DOUBTFUL

    def _close(self, item: Item, reply: Reply) -> None:
        errand, wished = item.live.errand, item.wished
        if reply.compliance is Compliance.DOUBTFUL:
            errand.doubt(wished, reply.words)
            return
        is_taken = reply.compliance is Compliance.DONE
        errand.close(wished, "" if is_taken else reply.words)
        self._answered(item.live.launch.token, wished, is_taken)

    async def _pass_on(self, wished: Wished, ids: Sequence[str]) -> Reply:
        match wished:
            case Hold(is_held=is_held):
                return await self._scheduler.ask(Wish.HOLD if is_held else Wish.RELEASE, ids)
            case Pause(is_paused=is_paused):
                return await self._scheduler.ask(Wish.SUSPEND if is_paused else Wish.RESUME, ids)
            case Rank(priority=priority):
                return await self._scheduler.prioritise(priority, ids)


class _Run:
    """Attempts that one run has in hand, as long as there is something to be told of them; how it went so far."""

    def __init__(self, lives: Sequence[Live]) -> None:
        self.lives: list[Live] = []
        self.most = NAMED_AT_ONCE
        self.rounds = 0
        self.has_doubt = False
        # Another run may have some of them in hand, and one may be named twice.
        for live in lives:
            if not live.errand.is_run:
                live.errand.is_run = True
                self.lives.append(live)

    def goes_on(self) -> bool:
        """Whether anything is left to be told. Others may take up who is done with."""
        self.let_go([live for live in self.lives if _next(live) is None])
        self.lives = [live for live in self.lives if live.errand.is_run]
        return bool(self.lives)

    def let_go(self, lives: Sequence[Live]) -> None:
        for live in lives:
            live.errand.is_run = False


def _next(live: Live) -> Item | None:
    """The first open wish that there is somebody to be told of."""
    for wished in live.errand.open:
        if ids := tuple(live.concerned(wished)):
            return Item(live, wished, ids)
    return None


def _is_next(item: Item) -> bool:
    now = _next(item.live)
    return now is not None and (now.wished, now.ids) == (item.wished, item.ids)


def _portions(lives: Sequence[Live], most: int) -> list[Sequence[Live]]:
    return [lives[start : start + most] for start in range(0, len(lives), most)]


def _alike(lives: Sequence[Live]) -> list[list[Item]]:
    """Who is to be told the same, whatever the version."""
    groups: dict[object, list[Item]] = defaultdict(list)
    for item in filter(None, map(_next, lives)):
        match item.wished:
            case Hold(is_held=is_held):
                groups[Hold, is_held].append(item)
            case Pause(is_paused=is_paused):
                groups[Pause, is_paused].append(item)
            case Rank(priority=priority):
                groups[Rank, priority].append(item)
    return list(groups.values())

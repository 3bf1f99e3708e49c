"""Errands at a foreign queue: what it is still to be told of the attempts that wait there.

A wish is told until that queue took it, will not have it, or the attempt does not wait any more. Of wishes of one kind
the last counts, so they may come as quickly as they like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jobmgr.dialects.answers import plain
from jobmgr.dialects.dialect import Answer, Command, Compliance, Dialect, NotUnderstood, Wish
from jobmgr.domain.wish import Hold, Rank, Wished
from jobmgr.errors import SiteUnreachable
from jobmgr.executors.breaker import Breaker
from jobmgr.executors.pace import Pace
from jobmgr.executors.scheduler import Scheduler
from jobmgr.transports.transport import Transport

_MOST_WORDS = 500


@dataclass(slots=True)
class Errand:
    """What is to be told of one attempt: the last wish of each kind, those still open, and what was said to them."""

    last: dict[type[Wished], Wished] = field(default_factory=dict)
    open: list[Wished] = field(default_factory=list)
    said: dict[type[Wished], str] = field(default_factory=dict)
    is_run: bool = False

    def add(self, wished: Wished) -> None:
        """Take a wish on, unless it is known."""
        kind = type(wished)
        if self.last.get(kind) != wished:
            self.last[kind] = wished
            self.said.pop(kind, None)
            self.open = [one for one in self.open if type(one) is not kind] + [wished]

    def close(self, wished: Wished, said: str = "") -> None:
        """It was taken, or, if something was `said`, will not be. Another one that came meanwhile stays open."""
        if wished in self.open:
            self.open.remove(wished)
            self.said[type(wished)] = plain(said)

    def doubt(self, wished: Wished, said: str) -> None:
        """Whether it was taken is not known; it stays open, and is not called refused."""
        if wished in self.open:
            self.said[type(wished)] = f"{plain(said)}; it is told again"


class Messenger:
    """Runs the errands at one site, a few at a time."""

    def __init__(
        self,
        scheduler: Scheduler,
        transport: Transport,
        pace: Pace,
        breaker: Breaker,
        told: Callable[[str, Wished], None],
    ) -> None:
        self._scheduler = scheduler
        self._transport = transport
        self._pace = pace
        self._told = told
        self._breaker = breaker

    async def run(self, token: str, errand: Errand, waiting: Callable[[], Sequence[str]]) -> None:
        """Tell what is open. `waiting` are the ids under which the attempt waits now; none: nothing is left to tell."""
        if errand.is_run:
            return
        errand.is_run = True
        try:
            await self._run(token, errand, waiting)
        finally:
            errand.is_run = False

    async def _run(self, token: str, errand: Errand, waiting: Callable[[], Sequence[str]]) -> None:
        pause_s = self._pace.again_first_s
        while errand.open and waiting():
            async with self._breaker.turn():
                # While it waited for its turn something else may have been wished, or nothing any more.
                if not errand.open or not (ids := waiting()):
                    break
                wished = errand.open[0]
                compliance, words = await self._ask(wished, ids)
            if compliance is Compliance.DONE:
                errand.close(wished)
                self._told(token, wished)
            elif compliance is Compliance.DOUBTFUL:
                errand.doubt(wished, words)
                await self._breaker.rest(pause_s)
                pause_s = min(pause_s * 2, self._pace.again_max_s)
            else:
                errand.close(wished, words)

    async def _ask(self, wished: Wished, ids: Sequence[str]) -> tuple[Compliance, str]:
        try:
            dialect = await self._scheduler.fitted()
            command = _command(dialect, wished, ids)
            if command is None:
                return Compliance.REFUSED, f"{dialect.name} has no word for that"
            answer = await self._transport.run(command, self._pace.command_s)
        except (SiteUnreachable, NotUnderstood) as error:
            self._breaker.in_vain(str(error))
            return Compliance.DOUBTFUL, str(error)
        compliance, words = dialect.complied(answer), _words(answer)
        if compliance is Compliance.DOUBTFUL:
            self._breaker.in_vain(words)
        else:
            self._breaker.well()
        return compliance, words


def _command(dialect: Dialect, wished: Wished, ids: Sequence[str]) -> Command | None:
    match wished:
        case Hold(is_held=is_held):
            return dialect.ask(Wish.HOLD if is_held else Wish.RELEASE, ids)
        case Rank(priority=priority):
            return dialect.prioritise(priority, ids)


def _words(answer: Answer) -> str:
    if answer.exit_code is None:
        return "no answer in time"
    said = answer.stderr.strip() or answer.stdout.strip() or f"exit code {answer.exit_code}"
    return said[-_MOST_WORDS:]

"""A site's scheduler: its dialect, fitted to what is installed there, over the way to the site."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jobmgr.dialects.answers import together
from jobmgr.dialects.dialect import Answer, Command, Compliance, Dialect, Listing, NotUnderstood, Wish
from jobmgr.errors import SiteUnreachable
from jobmgr.executors.pace import DEFAULT_PACE, Pace
from jobmgr.transports.transport import Transport

# Over SSH a command is one argument of the site's shell, of which Linux takes 128 KiB.
NAMED_AT_ONCE = 500
_LOOKED_AT_ONCE_BYTES = 100 * 1024
_MOST_WORDS = 500


@dataclass(frozen=True, slots=True)
class Reply:
    """How a wish about some jobs was answered: the worst of what was said of them, and in which words."""

    compliance: Compliance
    words: str = ""


class Scheduler:
    """Who wants to say something to a scheduler has its dialect from here.

    `asked` counts what it was asked: `fit`, `submit` (for each parcel, however many go together), `find`, `look`,
    wishes, and `prioritise`.
    """

    def __init__(self, dialect: Dialect, transport: Transport, pace: Pace = DEFAULT_PACE) -> None:
        self._dialect = dialect
        self._transport = transport
        self._pace = pace
        self._is_fitted = False
        self._fitting = asyncio.Lock()
        self.asked: Counter[str] = Counter()

    @property
    def dialect(self) -> Dialect:
        """Its dialect, perhaps not fitted yet: to ask who is there."""
        return self._dialect

    async def fitted(self) -> Dialect:
        """Its dialect, for which the installation is asked until it answered once.

        Raises SiteUnreachable, and NotUnderstood for an installation that does not answer.
        """
        async with self._fitting:
            if not self._is_fitted:
                await self._fit()
        return self._dialect

    async def fit(self) -> Dialect:
        """Its dialect, for which the installation is asked again. Raises as `fitted` does."""
        async with self._fitting:
            await self._fit()
        return self._dialect

    async def find(self, names: Sequence[str]) -> Listing:
        """What it has under these names, at most NAMED_AT_ONCE."""
        try:
            dialect = await self.fitted()
            self.asked["find"] += 1
            return dialect.found(names, await self._answers(dialect.find(names)))
        except (SiteUnreachable, NotUnderstood) as error:
            return Listing((), complete=False, why=str(error))

    async def look(self, ids: Sequence[str]) -> Listing:
        """What it says about these jobs. Raises SiteUnreachable."""
        if not ids:
            return Listing((), complete=False)
        try:
            dialect = await self.fitted()
        except NotUnderstood as error:
            return Listing((), complete=False, why=str(error))
        # However many elements an array has, it is named once.
        portions = _portions(sorted({dialect.array(id_) for id_ in ids}))
        seen = [await self._seen(dialect, portion) for portion in portions]
        return seen[0] if len(seen) == 1 else _joined(dialect, portions, seen)

    async def _seen(self, dialect: Dialect, named: Sequence[str]) -> Listing:
        self.asked["look"] += 1
        return dialect.seen(await self._answers(dialect.look(named)))

    async def ask(self, wish: Wish, ids: Sequence[str]) -> Reply:
        """Pass a wish about some jobs on, at most NAMED_AT_ONCE, with one command."""
        return await self._pass_on(wish, lambda dialect: dialect.ask(wish, ids))

    async def prioritise(self, priority: int, ids: Sequence[str]) -> Reply:
        """Let some jobs go before or after others of the same user; as `ask`."""
        return await self._pass_on("prioritise", lambda dialect: dialect.prioritise(priority, ids))

    async def _pass_on(self, what: str, say: Callable[[Dialect], Command | None]) -> Reply:
        try:
            dialect = await self.fitted()
            command = say(dialect)
            if command is None:
                return Reply(Compliance.REFUSED, f"{dialect.name} has no word for that")
            self.asked[what] += 1
            answer = await self._transport.run(command, self._pace.command_s)
        except (SiteUnreachable, NotUnderstood) as error:
            return Reply(Compliance.DOUBTFUL, str(error))
        return Reply(dialect.complied(answer), _words(answer))

    async def _fit(self) -> None:
        self.asked["fit"] += 1
        self._dialect = self._dialect.fitted(await self._answers(self._dialect.probe()))
        self._is_fitted = True

    async def _answers(self, commands: Sequence[Command]) -> list[Answer]:
        return [await self._transport.run(command, self._pace.command_s) for command in commands]


def _words(answer: Answer) -> str:
    if answer.exit_code is None:
        return "no answer in time"
    said = answer.stderr.strip() or answer.stdout.strip() or f"exit code {answer.exit_code}"
    return said[-_MOST_WORDS:]


def _portions(named: Sequence[str]) -> list[list[str]]:
    portions: list[list[str]] = [[]]
    size_bytes = 0
    for id_ in named:
        size_bytes += len(id_) + 1
        if size_bytes > _LOOKED_AT_ONCE_BYTES:
            portions.append([])
            size_bytes = len(id_) + 1
        portions[-1].append(id_)
    return portions


def _joined(dialect: Dialect, portions: Sequence[Sequence[str]], seen: Sequence[Listing]) -> Listing:
    """One listing. Where a look cannot be narrowed each has all jobs, but knows only of its own what came before."""
    at = {id_: index for index, portion in enumerate(portions) for id_ in portion}
    jobs = tuple(
        one
        for index, listing in enumerate(seen)
        for one in listing.jobs
        if at.get(dialect.array(one.id), 0) == index
    )
    return replace(together(seen), jobs=jobs)

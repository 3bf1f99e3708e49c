"""A site's scheduler: its dialect, fitted to what is installed there, over the way to the site."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from jobmgr.dialects.dialect import Answer, Command, Dialect, Listing, NotUnderstood, Wish
from jobmgr.errors import SiteUnreachable
from jobmgr.executors.pace import DEFAULT_PACE, Pace
from jobmgr.transports.transport import Transport

# Over SSH a command is one argument of the site's shell, of which Linux takes 128 KiB.
_NAMED_AT_ONCE = 500
_LOOKED_AT_ONCE_BYTES = 100 * 1024


class Scheduler:
    """Who wants to say something to a scheduler has its dialect from here.

    `asked` counts what it was asked: `fit`, `submit`, `find`, `look`, and wishes.
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

    async def find(self, name: str) -> Listing:
        """What it has under this name."""
        try:
            dialect = await self.fitted()
            self.asked["find"] += 1
            return dialect.found(name, await self._answers(dialect.find(name)))
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

    async def ask(self, wish: Wish, ids: Sequence[str]) -> Sequence[str]:
        """Pass a wish on, if it can be said; how each command was complied with. Raises as `fitted` does."""
        dialect = await self.fitted()
        complied = []
        for start in range(0, len(ids), _NAMED_AT_ONCE):
            command = dialect.ask(wish, ids[start : start + _NAMED_AT_ONCE])
            if command is not None:
                self.asked[wish] += 1
                complied.append(dialect.complied(await self._transport.run(command, self._pace.command_s)))
        return complied

    async def _fit(self) -> None:
        self.asked["fit"] += 1
        self._dialect = self._dialect.fitted(await self._answers(self._dialect.probe()))
        self._is_fitted = True

    async def _answers(self, commands: Sequence[Command]) -> list[Answer]:
        return [await self._transport.run(command, self._pace.command_s) for command in commands]


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
    return Listing(
        jobs,
        complete=all(listing.complete for listing in seen),
        why=next((listing.why for listing in seen if listing.why), ""),
        has_queue=all(listing.has_whole_queue for listing in seen),
    )

"""Takes up what others left: adopts live attempts and re-enters each where it really is."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from jobmgr.dispatch import peers
from jobmgr.dispatch.peers import Fate, Watch
from jobmgr.dispatch.roster import Roster, key_of
from jobmgr.dispatch.sites import Sites
from jobmgr.store import dispatchers, ownership
from jobmgr.store.claims import Claimed
from jobmgr.store.dispatchers import Identity
from jobmgr.store.engine import Database
from jobmgr.store.ownership import Adoption

logger = logging.getLogger(__name__)


class Recovery:
    """One dispatcher's care for attempts that it did not claim in this life, or lost from memory."""

    def __init__(
        self,
        database: Database,
        own: Identity,
        roster: Roster,
        sites: Sites,
        recovered: Callable[[Iterable[str]], None],
    ) -> None:
        """`recovered` is told which attempts were handed to an executor, which knows of no wish about them."""
        self._database = database
        self._recovered = recovered
        self._own = own
        self._roster = roster
        self._sites = sites
        self._watch = Watch()
        self._near: Sequence[str] = ()  # who is gone, and whose attempts on this machine are seen from here
        self._gone: Sequence[str] = ()  # they, and who is gone elsewhere

    async def look_after_others(self) -> None:
        """Look who is gone, and inherit from them."""
        found = await self._database.read(dispatchers.peers, self._own.id)
        silent = self._watch.silent(found)
        fates = peers.by_fate(self._own, found, silent, is_only=self._database.is_sqlite)
        self._near = fates[Fate.ADOPT]
        self._gone = [*fates[Fate.ADOPT], *fates[Fate.UNATTENDED]]
        await self.inherit()

    async def inherit(self) -> None:
        """Adopt what those who were gone at the last look have left, as far as it can be seen from here.

        The rest is marked as unreachable, until somebody comes who sees it.
        """
        if self._near:
            await self._adopt(Adoption(self._own.id, self._near))
        if self._gone and self._sites.served:
            # Wherever their service was: the files and the scheduler are seen from here as well.
            await self._adopt(Adoption(self._own.id, self._gone, self._sites.served))
        if self._gone and self._sites.are_looked_at:
            # Again each time: they may have claimed between their last sign of life and their silence.
            await self._database.write_all(ownership.unattended, self._gone)

    async def _adopt(self, wish: Adoption) -> None:
        await self._take_up(await self._database.write(ownership.adopt, wish))

    async def reconcile(self) -> None:
        """Compare memory with the rows: take up what is ours and unknown, let go of what is somebody else's.

        The former comes from a COMMIT whose answer was lost, or from an executor that failed before it had taken all
        over; the latter from a silence after which others adopted.
        Not while a claim is under way.
        """
        marked = await self._database.read(ownership.of_dispatcher, self._own.id)
        for claimed in self._roster:
            if claimed.token not in marked:
                logger.info("attempt %s of job %s is not ours any more", claimed.number, claimed.job_id)
                executor = self._sites.executor(claimed.site)
                if executor is not None:
                    await executor.forget(claimed.token)
                self._roster.drop(claimed.token)
            elif marked[claimed.token] and claimed.token not in self._roster.unreachable:
                # Others said so while we were silent.
                await self._database.write(ownership.reachable, key_of(claimed))
        unknown = [token for token in marked if token not in self._roster]
        if unknown:
            await self._take_up(await self._database.write(ownership.reclaim, (self._own.id, unknown)))

    async def _take_up(self, adopted: Sequence[Claimed]) -> None:
        if adopted:
            logger.info("taking up %d live attempts", len(adopted))
        by_site: dict[str, list[Claimed]] = defaultdict(list)
        for claimed in adopted:
            by_site[claimed.site].append(claimed)
        # What goes wrong at one site does not keep the attempts at others in no hands.
        handed_over = await asyncio.gather(
            *(self._hand_over(site, there) for site, there in by_site.items()), return_exceptions=True
        )
        for failure in handed_over:
            if failure is not None:
                raise failure

    async def enter(self, site: str) -> None:
        """Hand all attempts at a site to its new executor."""
        await self._hand_over(site, [claimed for claimed in self._roster if claimed.site == site])

    async def _hand_over(self, site: str, there: Sequence[Claimed]) -> None:
        with self._roster.handing_over(there):
            await self._recover(site, there)

    async def _recover(self, site: str, there: Sequence[Claimed]) -> None:
        executor = self._sites.executor(site)
        if executor is None:
            # Nothing can be said of them until the site is served again.
            for claimed in there:
                why = f"the site {site} is not served by this service"
                await self._database.write(ownership.unreachable, ownership.Unreachable(key_of(claimed), why))
            return
        await executor.recover([self._sites.launch_of(claimed) for claimed in there])
        self._recovered(claimed.token for claimed in there)

"""Looks for the files that jobs have to leave behind, before their ends are written."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence

from jobmgr.dispatch.roster import Roster
from jobmgr.dispatch.sites import Sites
from jobmgr.errors import SiteUnreachable
from jobmgr.executors.protocol import Ended, Wanted
from jobmgr.store.claims import Claimed

logger = logging.getLogger(__name__)

_AGAIN_S = 5.0


class Outputs:
    """Asks each site by itself, with one question for all ends there: a site that hangs keeps its own ends only.

    `looked` gets each end with the files that are missing. Where nobody can look now, it is asked again.
    """

    def __init__(
        self, roster: Roster, sites: Sites, looked: Callable[[Ended, tuple[str, ...]], None]
    ) -> None:
        self._roster = roster
        self._sites = sites
        self._looked = looked
        self._waiting: dict[str, list[Ended]] = defaultdict(list)
        self._asked: set[str] = set()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, report: Ended) -> None:
        """Look for the files of an attempt that has ended, unless it is somebody else's by now."""
        claimed = self._roster.get(report.token)
        if claimed is not None:
            self._waiting[claimed.site].append(report)
            self._idle.clear()
            self._wake.set()

    async def settle(self) -> None:
        """Wait until all that can be looked at now was looked at."""
        await self._idle.wait()

    async def run(self) -> None:
        """Look for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for site in self._waiting.keys() - self._asked:
                    self._asked.add(site)
                    group.create_task(self._ask(site))

    async def _ask(self, site: str) -> None:
        """Ask about all that waits, and about what came meanwhile."""
        while reports := self._waiting.pop(site, None):
            await self._look(site, reports)
        self._asked.discard(site)
        if not self._asked and not self._waiting:
            self._idle.set()

    async def _look(self, site: str, reports: Sequence[Ended]) -> None:
        held = [(report, self._roster.get(report.token)) for report in reports]
        wanted = [(report, claimed) for report, claimed in held if claimed is not None]
        found = await self._missing(site, [claimed for _, claimed in wanted])
        for (report, claimed), missing in zip(wanted, found, strict=True):
            if missing is not None:
                self._looked(report, missing)
                continue
            logger.warning("the end of job %s waits: its files cannot be looked for now", claimed.job_id)
            asyncio.get_running_loop().call_later(_AGAIN_S, self.add, report)

    async def _missing(self, site: str, wanted: Sequence[Claimed]) -> Sequence[tuple[str, ...] | None]:
        executor = self._sites.executor(site)
        nobody_looked = [None] * len(wanted)
        if executor is None:
            logger.warning("%s", self._sites.trouble(site))
            return nobody_looked
        try:
            return await executor.missing(
                [Wanted(self._sites.launch_of(claimed), claimed.required_files) for claimed in wanted]
            )
        except SiteUnreachable as error:
            logger.warning("no files can be looked for at %s: %s", site, error)
        except Exception:  # boundary: trouble at one site must not keep the ends of the others
            logger.exception("no files can be looked for at %s", site)
        return nobody_looked

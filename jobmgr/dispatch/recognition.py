"""Looks at the work directories of foreign queues, until each is known to be its site's own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from jobmgr.dispatch.pause import until
from jobmgr.dispatch.sites import Sites
from jobmgr.errors import SiteUnreachable, StoreUnavailable
from jobmgr.executors.protocol import ForeignExecutor
from jobmgr.store import sites
from jobmgr.store.engine import Database
from jobmgr.store.sites import Named

logger = logging.getLogger(__name__)

_TICK_S = 1.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0


class Recognition:
    """One service's looks at the directories of sites. Until it has recognised one it leaves that site alone.

    Where two machines see different directories at one path, one would take what the other handed in for never handed
    in. So the first service that serves a site stores the name in its directory, and each compares.
    """

    def __init__(self, database: Database, served: Sites, looked: Callable[[], Awaitable[None]]) -> None:
        """`looked` is called when a site was recognised, and when the first look at one was in vain."""
        self._database = database
        self._sites = served
        self._looked = looked
        self._looking: set[str] = set()
        self._changed = asyncio.Event()

    def look_soon(self) -> None:
        """Sites, or something there, may have changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Look for ever at what is not recognised, or not any more, at each site on its own."""
        async with asyncio.TaskGroup() as group:
            while True:
                for name in self._sites.unrecognised.keys() - self._looking:
                    self._looking.add(name)
                    group.create_task(self._recognise(name))
                await until(self._changed, _TICK_S)

    async def _recognise(self, name: str) -> None:
        pause_s = _FIRST_PAUSE_S
        try:
            while (executor := self._sites.unrecognised.get(name)) is not None:
                changed = self._changed
                await self.look(name, executor)
                if executor.trouble:
                    await until(changed, pause_s)
                    pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        except StoreUnavailable:
            await self._database.pause()
        except Exception:  # boundary: one site must not keep the others from being recognised
            logger.exception("the work directory of %s could not be looked at", name)
            await asyncio.sleep(_TICK_S)
        finally:
            self._looking.discard(name)

    async def look(self, name: str, executor: ForeignExecutor) -> None:
        """Look once. Raises StoreUnavailable."""
        site = self._sites.row(name)
        if site is None:
            return
        before = executor.trouble
        try:
            found = await executor.recognise(site.work_id)
            if not site.work_id:
                # Who was the first has named it, perhaps another one.
                await executor.recognise(
                    await self._database.write(sites.name_directories, Named(site, found))
                )
        except SiteUnreachable:
            if executor.trouble != before:
                logger.warning("%s", self._sites.trouble(name))
        if self._sites.note_look(name) or not executor.trouble:
            await self._looked()

"""A vigil for a work directory that is away: one looks for it often, so that those who wait for it need not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from jobmgr.errors import SiteUnreachable
from jobmgr.executors.pace import Pace
from jobmgr.executors.place import Place


class Vigil:
    """Nobody but a shell at the site is asked, so a scheduler is spared whatever the pauses. `back` is told at once."""

    def __init__(self, place: Place, pace: Pace, back: Callable[[], None]) -> None:
        self._place = place
        self._pace = pace
        self._back = back

    async def run(self) -> None:
        """Keep it for ever."""
        while True:
            await self._place.is_missed.wait()
            pause_s = min(self._pace.files_s, self._pace.away_max_s)
            while self._place.is_missed.is_set():
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._pace.away_max_s)
                with contextlib.suppress(SiteUnreachable):
                    await self._place.knock()
            self._back()

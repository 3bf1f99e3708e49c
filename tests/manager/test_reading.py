"""Many who ask how far a run at a site is."""

from __future__ import annotations

import asyncio

import pytest

from jobmgr.errors import SiteUnreachable
from jobmgr.manager.reading import KEEP_S, Readings


async def test_site_that_does_not_answer_is_asked_once_for_all_who_wait() -> None:
    now = 0.0
    looks = 0
    readings = Readings(lambda: now)

    async def look() -> str:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0)
        if looks == 1:
            raise SiteUnreachable("far", "no answer")
        return "seen"

    async def ask() -> str:
        return await readings.lately("J1", 1, look)

    told = await asyncio.gather(*(ask() for _ in range(5)), return_exceptions=True)
    with pytest.raises(SiteUnreachable):
        await ask()
    now += KEEP_S
    later = await ask()

    assert [type(each) for each in told] == [SiteUnreachable] * 5
    assert (later, looks) == ("seen", 2)

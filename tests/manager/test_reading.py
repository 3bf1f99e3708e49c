"""Many who ask how far a run at a site is."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from jobmgr.errors import SiteUnreachable
from jobmgr.manager.reading import KEEP_S, Readings

JOB = ("J1", datetime(2026, 1, 1, tzinfo=UTC))


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
        return await readings.lately(JOB, 1, look)

    told = await asyncio.gather(*(ask() for _ in range(5)), return_exceptions=True)
    with pytest.raises(SiteUnreachable):
        await ask()
    now += KEEP_S
    later = await ask()

    assert [type(each) for each in told] == [SiteUnreachable] * 5
    assert (later, looks) == ("seen", 2)


async def test_job_of_a_used_id_is_not_told_what_was_seen_of_the_one_before() -> None:
    readings = Readings(lambda: 0.0)
    job_id, made_at = JOB
    again = job_id, made_at + timedelta(seconds=1)

    async def look() -> str:
        return "of the first"

    async def look_again() -> str:
        return "of the second"

    told = [await readings.lately(JOB, 1, look), await readings.lately(again, 1, look_again)]

    assert told == ["of the first", "of the second"]
    assert readings.of(JOB, 1, "stdout") is not readings.of(again, 1, "stdout")

"""The event stream goes on after whatever went wrong."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from jobmgr.manager.feed import pause_s
from jobmgr.service import JobManager, ResourceLimits
from jobmgr.store.transaction import Topic


async def test_followers_are_fed_again_after_an_error_that_nobody_foresaw(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = ResourceLimits(max_concurrent_jobs=1)
    async with JobManager(limits, database=sqlite_url, work_dir=tmp_path / "work") as manager:
        stream = manager.follow()
        await anext(stream)
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as program:
            program.execute("ALTER TABLE events RENAME COLUMN kind TO sort")
            program.commit()
            async with asyncio.timeout(30):
                while "no such column" not in caplog.text:
                    manager.feed.notice(frozenset({Topic.EVENT}))
                    await asyncio.sleep(0.05)
            program.execute("ALTER TABLE events RENAME COLUMN sort TO kind")
            program.commit()

        await manager.submit(["true"])

        async with asyncio.timeout(30):
            batch = await anext(stream)
    assert batch[0].kind == "submitted"


def test_events_gather_the_longer_the_more_read_and_one_alone_is_told_at_once() -> None:
    pauses = [pause_s(readers) for readers in (0, 1, 10, 100, 200, 10_000)]

    assert pauses[1] < 0.002
    assert pauses == sorted(pauses)
    # A watcher may be a second behind; most of that is for the time that handing out takes.
    assert pauses[-1] <= 0.25


async def test_follower_counts_for_all_who_read_by_it(sqlite_url: str, tmp_path: Path) -> None:
    asked = asyncio.Event()

    def readers() -> int:
        asked.set()
        return 100

    async with JobManager(ResourceLimits(), database=sqlite_url, work_dir=tmp_path / "work") as manager:
        stream = manager.follow(readers=readers)
        await anext(stream)
        await manager.submit(["true"])

        async with asyncio.timeout(30):
            await asked.wait()


async def test_following_is_ended_from_outside_and_shows_that_it_lives_until_then(
    sqlite_url: str, tmp_path: Path
) -> None:
    async with JobManager(ResourceLimits(), database=sqlite_url, work_dir=tmp_path / "work") as manager:
        following = manager.follow(beat_s=0.01)
        async with asyncio.timeout(30):
            beats = [await anext(following) for _ in range(3)]
            following.end()
            rest = [batch async for batch in following]

        assert beats == [[], [], []]
        assert rest == []
        assert manager.feed.followers == 0


async def test_following_that_waits_for_events_ends_at_once(sqlite_url: str, tmp_path: Path) -> None:
    async with JobManager(ResourceLimits(), database=sqlite_url, work_dir=tmp_path / "work") as manager:
        following = manager.follow()
        await anext(following)
        waiting = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0)

        following.end()

        async with asyncio.timeout(30):
            with pytest.raises(StopAsyncIteration):
                await waiting

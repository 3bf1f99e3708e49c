"""The event stream goes on after whatever went wrong."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

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

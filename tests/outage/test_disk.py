"""A disk that is full and becomes free again: the database's, and that of the work directory."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disk import SmallDisk, mounted
from tests.outage import door
from tests.outage.conftest import MakeSite
from tests.outage.test_service import has_exited, judged, submitted
from tests.patience import eventually

# More than fits into what the database's log has left of its last block.
BULKY = {"env": {"BULK": "x" * 100_000}}


@pytest.fixture
def database_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk for nothing but the database."""
    with mounted(tmp_path / "database", size_mb=16) as disk:
        yield disk


@pytest.fixture
def work_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk for nothing but the work directory of the site."""
    with mounted(tmp_path / "site" / "work", size_mb=4) as disk:
        yield disk


async def test_database_without_space_is_waited_for(
    database_disk: SmallDisk, sqlite_template: Path, new_site: MakeSite
) -> None:
    file = database_disk.path / "jobs.db"
    shutil.copyfile(sqlite_template, file)
    site = await new_site(f"sqlite:///{file}", slots=2)
    through, during = site.ledger.waiting("through", 3), site.ledger.waiting("during", 4)
    new = site.ledger.ending("new", 5, fields=BULKY)
    async with judged(site):
        await submitted(site, through, during)
        await asyncio.gather(site.until(through, "running"), site.until(during, "running"))

        database_disk.fill()
        answers = await door.knock(site.service.url, "through", new, only=["submit"])
        assert answers["submit"].is_refusal, answers
        site.ledger.let_go("during")
        await has_exited(site, during)
        await eventually(lambda: "writing waits" in site.service.log.read_text())
        answers = await door.knock(site.service.url, "through", new, only=["list", "get", "readyz"])
        assert {answer.status for answer in answers.values()} == {200}, answers
        assert await door.is_alive(site.service.url)
        database_disk.free()

        await submitted(site, new)
        ended = await site.until(during, "failed")
        site.ledger.let_go("through")
    await asyncio.to_thread(site.service.stop)
    assert ended.exit_code == 4
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def test_work_directory_without_space_starts_nothing_and_loses_no_end(
    work_disk: SmallDisk, database_url: str, new_site: MakeSite
) -> None:
    site = await new_site(database_url, slots=2)
    through, during = site.ledger.waiting("through", 3), site.ledger.waiting("during", 4)
    new = site.ledger.ending("new", 5, may_lack_space=True)
    async with judged(site):
        await submitted(site, through, during)
        await asyncio.gather(site.until(through, "running"), site.until(during, "running"))

        work_disk.fill()
        site.ledger.let_go("during")
        ended = await site.until(during, "failed")
        await submitted(site, new)
        refused = await site.until(new, "failed")
        assert await door.is_alive(site.service.url)
        work_disk.free()

        await site.retry(new)
        ran = await site.call("wait", new.job_id)
        site.ledger.let_go("through")
    assert ended.exit_code == 4
    assert refused.error is not None
    assert refused.error.code == "disk_full"
    assert (ran.attempt, ran.exit_code) == (2, 5)

"""Databases that measurements are made on are what the product would have made of so many jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from benchmarks import filled as filling
from jobmgr.doctor.visit import examine
from jobmgr.domain.access import Sight
from jobmgr.domain.checkup import Verdict
from jobmgr.domain.job import Job, JobFilter
from jobmgr.store import events, listing
from jobmgr.store.engine import Database
from tests.postgresql import Cluster
from tests.store.worker import Worker, kept_counts, real_counts

COUNT = 2 * filling.MIX + 300


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with two mixes and a part of a third; these tests change nothing in it."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('filled') / 'jobs.db'}"
        asyncio.run(filling.fill(url, COUNT))
        yield url
        return
    cluster: Cluster = request.getfixturevalue("postgresql")
    cluster.execute("CREATE DATABASE benchmark TEMPLATE template0")
    asyncio.run(filling.fill(cluster.url("benchmark"), COUNT))
    yield cluster.url("benchmark")
    cluster.execute("DROP DATABASE benchmark")


@pytest_asyncio.fixture
async def filled(filled_url: str) -> AsyncIterator[Database]:
    async with opened(filled_url) as database:
        yield database


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    await database.start()
    yield database
    await database.close()


async def all_jobs(database: Database) -> list[Job]:
    found: list[Job] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await database.read(listing.page, JobFilter(), "created", 1000, cursor or None)
        found += page.jobs
        cursor = page.next_cursor
    return found


async def test_tallies_are_the_real_counts(filled: Database) -> None:
    kept, real = await filled.read(kept_counts), await filled.read(real_counts)

    assert sum(kept.values()) == COUNT
    assert kept == real


async def test_each_job_is_there_once_and_like_that_of_the_mix(filled: Database) -> None:
    jobs = await all_jobs(filled)

    assert len({job.job_id for job in jobs}) == COUNT
    of_the_mix = jobs[: filling.MIX]
    assert jobs == [
        replace(of_the_mix[number % filling.MIX], job_id=job.job_id) for number, job in enumerate(jobs)
    ]


async def test_copy_has_all_that_belongs_to_a_job(filled: Database) -> None:
    jobs = await all_jobs(filled)

    def told(number: int) -> Any:
        job_id = jobs[number].job_id
        return lambda connection: (
            replace(listing.spec(connection, job_id, Sight()), depends_on=()),
            [attempt.outcome for attempt in listing.attempts(connection, job_id)],
            [event.kind for event in events.of_job(connection, number + 1, 0, 100)],
        )

    # One of each hundred, those of the last, partial copy among them.
    for number in range(0, 300, 3):
        original = await filled.read(told(number))
        for copy in (1, 2):
            assert await filled.read(told(number + copy * filling.MIX)) == original


async def test_copy_depends_on_a_copy(filled: Database) -> None:
    jobs = await all_jobs(filled)

    for child in (20, 20 + filling.MIX, 20 + 2 * filling.MIX):
        spec = await filled.read(listing.spec, jobs[child].job_id, Sight())
        assert [parent.job_id for parent in spec.depends_on] == [jobs[child - 1].job_id]


async def test_new_jobs_and_events_come_after_those_that_are_there(empty_database_url: str) -> None:
    await filling.fill(empty_database_url, filling.MIX + 300)
    async with opened(empty_database_url) as database:
        before = await database.read(events.position)
        worker = await Worker.register(database)
        job_id = await worker.add()

        # What waits in the mix does not run, so that nothing runs beside a measurement.
        claimed = await worker.claim()

        assert [attempt.job_id for attempt in claimed] == [job_id]
        told = await database.read(events.page, before, 100)
        assert [event.kind for event in told] == ["submitted", "claimed"]


async def test_doctor_finds_it_in_order(filled_url: str, tmp_path: Path) -> None:
    checks = await examine({"database": filled_url}, {"JOBMGR_HOME": str(tmp_path)}, url=None, full=True)

    problems = [check for check in checks if check.verdict is Verdict.PROBLEM]
    assert problems == []
    assert "attempts" in {check.name for check in checks if check.verdict is Verdict.OK}

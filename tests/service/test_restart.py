"""A plain stop and start loses nothing and repeats nothing: each job writes one line when its command starts."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from jobmgr.domain.job import JobFilter
from jobmgr.domain.status import Status
from jobmgr.service import JobManager, ResourceLimits

JOBS = 40


def manager_of(database_url: str, folder: Path, *, slots: int = 4) -> JobManager:
    return JobManager(
        ResourceLimits(max_concurrent_jobs=slots), database=database_url, work_dir=folder / "work"
    )


def command(ledger: Path, index: int, *, sleep_s: float = 0.15) -> list[str]:
    script = 'echo "$JOBMGR_JOB_ID" >> "$1"; sleep "$2"; exit "$3"'
    return ["sh", "-c", script, "sh", str(ledger), str(sleep_s), str(index % 3)]


async def started(manager: JobManager, at_least: int) -> None:
    """Wait until so many jobs have started."""
    seen: set[str] = set()
    async for batch in manager.follow(None):
        seen |= {str(event.job_id) for event in batch if event.kind == "started"}
        if len(seen) >= at_least:
            return


async def test_stop_and_start_in_the_middle_of_a_campaign_loses_and_repeats_nothing(
    database_url: str, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    job_ids: list[str] = []

    for _ in range(4):
        async with manager_of(database_url, tmp_path) as manager:
            watching = asyncio.create_task(started(manager, 4))
            await asyncio.sleep(0)
            # In each life, because on a slow machine those of the one before may have ended by now.
            first = len(job_ids)
            job_ids += [
                await manager.submit(command(ledger, index)) for index in range(first, first + JOBS // 4)
            ]
            await asyncio.wait_for(watching, 30)
    async with manager_of(database_url, tmp_path) as manager:
        jobs = await manager.wait_many(job_ids, 60)

    assert Counter(ledger.read_text().split()) == Counter(job_ids)
    assert [job.exit_code for job in jobs] == [index % 3 for index in range(JOBS)]
    assert {job.status for job in jobs} == {Status.COMPLETED, Status.FAILED}


async def test_a_job_that_ends_while_no_service_runs_is_recorded_by_the_next(
    database_url: str, tmp_path: Path
) -> None:
    ledger, gate = tmp_path / "ledger", tmp_path / "go"
    script = 'echo "$JOBMGR_JOB_ID" >> "$1"; while [ ! -e "$2" ]; do sleep 0.02; done; exit 7'
    async with manager_of(database_url, tmp_path) as manager:
        watching = asyncio.create_task(started(manager, 1))
        await asyncio.sleep(0)
        job_id = await manager.submit(["sh", "-c", script, "sh", str(ledger), str(gate)])
        await asyncio.wait_for(watching, 30)

    gate.touch()
    async with manager_of(database_url, tmp_path) as manager:
        job = await manager.wait(job_id, 30)
        attempts = await manager.attempts(job_id)

    assert (job.status, job.exit_code) == (Status.FAILED, 7)
    assert len(attempts) == 1
    assert attempts[0].lease > 1
    assert ledger.read_text().split() == [job_id]


async def test_a_wish_to_cancel_is_carried_out_on_a_job_that_ran_across_a_restart(
    database_url: str, tmp_path: Path
) -> None:
    async with manager_of(database_url, tmp_path) as manager:
        watching = asyncio.create_task(started(manager, 1))
        await asyncio.sleep(0)
        job_id = await manager.submit(["sleep", "60"])
        await asyncio.wait_for(watching, 30)

    async with manager_of(database_url, tmp_path) as manager:
        before = await manager.get(job_id)
        await manager.cancel(job_id)
        job = await manager.wait(job_id, 30)

    assert before.status is Status.RUNNING
    assert job.status is Status.CANCELLED


async def test_drain_wait_ends_running_jobs_and_starts_no_others(database_url: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    manager = manager_of(database_url, tmp_path, slots=2)
    await manager.start()
    watching = asyncio.create_task(started(manager, 2))
    await asyncio.sleep(0)
    for index in range(6):
        await manager.submit(command(ledger, index, sleep_s=0.5))
    await asyncio.wait_for(watching, 30)

    await manager.stop("wait")

    async with manager_of(database_url, tmp_path, slots=1) as manager:
        page = await manager.list(JobFilter(status=frozenset({Status.COMPLETED, Status.FAILED})))
        await manager.wait_until_all_done(30)
    assert len(page.jobs) >= 2
    assert len(set(ledger.read_text().split())) == len(ledger.read_text().split()) == 6


async def test_limits_survive_a_restart(database_url: str, tmp_path: Path) -> None:
    async with manager_of(database_url, tmp_path, slots=3) as manager:
        await manager.update_limits(min_disk_gb=0.5)

    async with JobManager(database=database_url, work_dir=tmp_path / "work") as manager:
        limits = await manager.limits()

    assert limits == ResourceLimits(max_concurrent_jobs=3, min_disk_gb=0.5)


@pytest.mark.parametrize("count", [500])
async def test_no_op_jobs_all_complete_at_width_eight(database_url: str, tmp_path: Path, count: int) -> None:
    async with manager_of(database_url, tmp_path, slots=8) as manager:
        job_ids = [await manager.submit(["true"]) for _ in range(count)]
        jobs = await manager.wait_many(job_ids, 100)

    assert {(job.status, job.attempt) for job in jobs} == {(Status.COMPLETED, 1)}

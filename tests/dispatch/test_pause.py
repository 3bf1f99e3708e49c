"""Pause and resume of real jobs, as wishes in the database that the service carries out."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobmgr.domain.queue import Tally
from jobmgr.domain.status import Status
from jobmgr.errors import IllegalTransition
from jobmgr.service import JobManager, ResourceLimits
from jobmgr.store import jobs
from jobmgr.store.engine import Database
from tests.patience import eventually


async def is_now(manager: JobManager, job_id: str, status: Status) -> bool:
    return (await manager.get(job_id)).status is status


async def running(manager: JobManager, command: str = "sleep 60") -> str:
    job_id = await manager.submit(["sh", "-c", command])
    await eventually(lambda: is_now(manager, job_id, Status.RUNNING))
    return job_id


async def test_status_follows_what_was_seen(manager: JobManager) -> None:
    job_id = await running(manager)

    asked = await manager.pause(job_id)
    await eventually(lambda: is_now(manager, job_id, Status.PAUSED))
    why = await manager.why(job_id)
    await manager.resume(job_id)
    await eventually(lambda: is_now(manager, job_id, Status.RUNNING))

    assert asked.pause_requested_at is not None
    assert [reason.code for reason in why] == ["paused"]
    kinds = [event.kind for event in await manager.job_events(job_id)]
    assert kinds[-4:] == ["pause_requested", "paused", "resume_requested", "resumed"]
    await manager.cancel(job_id)
    job = await manager.wait(job_id, 30)
    assert (job.status, job.pause_requested_at) == (Status.CANCELLED, None)


async def test_a_paused_job_counts_as_live_and_is_cancelled(manager: JobManager) -> None:
    job_id = await running(manager)
    await manager.pause(job_id)
    await eventually(lambda: is_now(manager, job_id, Status.PAUSED))
    (queue,) = await manager.queues()

    await manager.cancel(job_id)
    job = await manager.wait(job_id, 30)

    assert queue.counts[Tally.LIVE] == 1
    assert (job.status, job.pause_requested_at) == (Status.CANCELLED, None)


async def test_wishes_that_change_quickly_end_as_the_last_one(manager: JobManager) -> None:
    job_id = await running(manager)

    for _ in range(5):
        await manager.pause(job_id)
        await manager.resume(job_id)
    await manager.pause(job_id)

    await eventually(lambda: is_now(manager, job_id, Status.PAUSED))
    await manager.cancel(job_id)
    await manager.wait(job_id, 30)


async def test_only_live_jobs_are_paused(manager: JobManager) -> None:
    await manager.update_queue("default", paused=True)
    waiting = await manager.submit(["true"])

    with pytest.raises(IllegalTransition, match="hold"):
        await manager.pause(waiting)

    await manager.resume(waiting)
    await manager.update_queue("default", paused=False)
    ended = await manager.wait(waiting, 30)
    assert (ended.status, ended.pause_requested_at) == (Status.COMPLETED, None)
    with pytest.raises(IllegalTransition):
        await manager.pause(waiting)


async def test_a_pause_lasts_over_a_restart(database_url: str, tmp_path: Path) -> None:
    go = tmp_path / "go"

    def service() -> JobManager:
        limits = ResourceLimits(max_concurrent_jobs=2)
        return JobManager(limits, database=database_url, work_dir=tmp_path / "work")

    async with service() as manager:
        job_id = await running(manager, f"while [ ! -e {go} ]; do sleep 0.02; done; exit 3")
        await manager.pause(job_id)
        await eventually(lambda: is_now(manager, job_id, Status.PAUSED))

    go.touch()
    async with service() as manager:
        between = await manager.get(job_id)
        await manager.resume(job_id)
        job = await manager.wait(job_id, 30)

    assert between.status is Status.PAUSED
    assert (job.status, job.exit_code, job.attempt) == (Status.FAILED, 3, 1)


async def test_a_wish_made_while_no_service_ran_is_carried_out_by_the_next(
    database_url: str, tmp_path: Path
) -> None:
    def service() -> JobManager:
        limits = ResourceLimits(max_concurrent_jobs=2)
        return JobManager(limits, database=database_url, work_dir=tmp_path / "work")

    async with service() as manager:
        job_id = await running(manager)
    database = Database(database_url)
    await database.start()
    await database.write(jobs.pause, job_id)
    await database.close()

    async with service() as manager:
        await eventually(lambda: is_now(manager, job_id, Status.PAUSED))
        await manager.cancel(job_id)
        await manager.wait(job_id, 30)

"""The job manager of pyedb, as its users write it, on a real database with real processes."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from msgspec import structs

from jobmgr import service, settings
from jobmgr.client import Client
from jobmgr.compat.pyedb import JobManager, JobStatus, ResourceLimits, ResourceMonitor, SchedulerType
from jobmgr.compat.pyedb.desk import Desk
from jobmgr.compat.pyedb.entry import main
from jobmgr.compat.pyedb.info import OUTPUT_LIMIT_BYTES
from jobmgr.compat.pyedb.shelf import Shelf
from jobmgr.errors import (
    AddressUnavailable,
    DatabaseInUse,
    InvalidRequest,
    JobmgrError,
    JobNotFound,
    NotRunning,
    SimulationExists,
)
from jobmgr.executors import process
from tests.compat.conftest import Make
from tests.hfss.installed import engines_of, log_of
from tests.patience import eventually

USAGE = {
    "cpu_percent", "memory_percent", "memory_used_gb", "memory_total_gb", "memory_free_gb", "disk_usage_percent",
    "disk_free_gb", "timestamp",
}  # fmt: skip


# For what would never come.
PATIENCE_S = 60.0


def free(jobs: int = 2) -> ResourceLimits:
    """Limits that whatever else runs on this machine does not reach."""
    return ResourceLimits(max_concurrent_jobs=jobs, max_cpu_percent=100, min_memory_gb=0, min_disk_gb=0)


async def ended(manager: JobManager, job_id: str) -> JobStatus:
    """How the job ended."""

    async def status() -> JobStatus | None:
        found = manager.jobs[job_id].status
        return found if found in {"completed", "failed", "cancelled"} else None

    found: JobStatus = await eventually(status)
    return found


async def runs(manager: JobManager, job_id: str) -> None:
    await eventually(lambda: manager.jobs[job_id].status == "running")


# As the documents have it


async def test_a_manager_starts_itself_and_runs_what_is_submitted(make: Make) -> None:
    manager = JobManager(free())
    config = make("patch_1")

    job_id = await manager.submit_job(config, priority=5)
    await manager.wait_until_all_done()

    info = manager.jobs[job_id]
    assert job_id == "patch_1"
    assert info.status == "completed"
    assert info.status in {"completed", "failed"}
    assert info.status is JobStatus.COMPLETED
    assert (info.return_code, info.priority, info.scheduler_job_id) == (0, 5, None)
    assert info.config == config
    assert isinstance(info.start_time, datetime)
    assert isinstance(info.end_time, datetime)
    assert info.start_time.tzinfo is None
    assert info.start_time <= info.end_time
    assert log_of(config.project_path).exists()
    manager.close()


async def test_all_are_done_though_some_wait_for_somebody(make: Make) -> None:
    async with JobManager(free()) as manager, Client() as client:
        draft = await client.submit(["true"], draft=True)
        held = await client.submit(["true"], draft=True)
        await client.hold(held)
        await client.execute(held)
        below = await client.submit(["true"], depends_on=[{"job_id": draft}])
        # Its parent's end lets it go; it is waited for.
        parent = await manager.submit_job(make("patch_1"))
        child = await client.submit(["true"], depends_on=[{"job_id": parent}])

        async with asyncio.timeout(PATIENCE_S):
            await manager.wait_until_all_done()

        ends = {
            job_id: (await client.get(job_id)).status.value for job_id in (draft, held, below, parent, child)
        }
        assert list(ends.values()) == ["pending", "pending", "pending", "completed", "completed"]


async def test_a_manager_is_a_context(make: Make) -> None:
    async with JobManager(free()) as manager:
        job_id = await manager.submit_job(make("patch_1"))
        assert await ended(manager, job_id) == "completed"

    # An empty mapping would look as if there were no jobs.
    for ask in (lambda: manager.jobs[job_id], lambda: len(manager.jobs), lambda: list(manager.jobs)):
        with pytest.raises(NotRunning, match=r"ask before close\(\), or start\(\) it again"):
            ask()


async def test_main_is_a_manager_until_it_is_cancelled(home: Path) -> None:
    running = asyncio.create_task(main())
    async with Client() as client:
        await eventually(partial(_answers, client))
        await client.submit(["true"], draft=True)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    # What is left of it is for the fixture to see.
    async with Client() as client:
        assert not await _answers(client)


async def _answers(client: Client) -> bool:
    try:
        await client.limits()
    except JobmgrError:
        return False
    return True


def test_a_manager_is_used_from_one_loop_after_the_other(make: Make) -> None:
    manager = JobManager(free())

    job_id = asyncio.run(manager.submit_job(make("patch_1")))
    asyncio.run(manager.wait_until_all_done())

    assert manager.jobs[job_id].status == "completed"
    manager.close()


async def test_jobs_survive_their_manager(make: Make, tmp_path: Path) -> None:
    go = tmp_path / "go"
    config = make("patch_1", waits_at="Adaptive Pass 2", until=str(go))
    first = JobManager(free(1))
    await first.submit_job(config)
    await first.submit_job(make("patch_2"))
    await runs(first, "patch_1")
    (engine,) = await eventually(lambda: _engines(config.project_path))
    first.close()
    assert is_alive(engine)

    async with JobManager(free(1)) as second:
        statuses = {job_id: info.status for job_id, info in second.jobs.items()}
        go.touch()
        await second.wait_until_all_done()

        assert list(statuses) == ["patch_1", "patch_2"]
        assert statuses["patch_1"] == "running"
        assert {info.status for info in second.jobs.values()} == {"completed"}


def is_alive(pid: int) -> bool:
    stat = process.read_stat(pid)
    return stat is not None and stat.state != "Z"


async def test_a_manager_that_drains_waits_for_what_runs_and_starts_nothing(
    make: Make, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    manager = JobManager(free(1))
    await manager.submit_job(make("patch_1", waits_at="Adaptive Pass 2", until=str(go)))
    await manager.submit_job(make("patch_2"))
    await runs(manager, "patch_1")

    closing = asyncio.create_task(asyncio.to_thread(lambda: manager.close(wait=True)))
    go.touch()
    await closing

    async with JobManager(ResourceLimits(1, 100, 1e6, 0)) as later:
        assert later.jobs["patch_1"].status == "completed"
        assert later.jobs["patch_2"].status == "queued"
        assert await later.cancel_job("patch_2")


# One job


async def test_one_job_of_an_id_while_it_lives_and_again_after_its_end(make: Make, tmp_path: Path) -> None:
    go = tmp_path / "go"
    config = make("patch_1", waits_at="Adaptive Pass 2", until=str(go))
    async with JobManager(free()) as manager:
        ids = [await manager.submit_job(config) for _ in range(3)]
        go.touch()
        await ended(manager, "patch_1")
        again = await manager.submit_job(config)
        await manager.wait_until_all_done()

        with pytest.raises(SimulationExists, match="jobid"):
            await manager.submit_job(structs.replace(config, design_name="other"))
        assert {*ids, again} == {"patch_1"}
        assert len(manager.jobs) == 1
    assert len(list((tmp_path / "home" / "work" / "runs" / "patch_1").iterdir())) == 2


async def test_a_cancelled_job_is_gone_with_all_of_its_processes(make: Make, tmp_path: Path) -> None:
    config = make("patch_1", waits_at="Adaptive Pass 2", until=str(tmp_path / "never"), engines=2)
    async with JobManager(free()) as manager:
        await manager.submit_job(config)
        await runs(manager, "patch_1")
        engines = await eventually(lambda: _engines(config.project_path))

        assert await manager.cancel_job("patch_1")

        assert manager.jobs["patch_1"].status == "cancelled"
        assert manager.job_pool.running_jobs == set()
        assert not any(map(is_alive, engines))
        assert not await manager.cancel_job("patch_1")
        assert not await manager.cancel_job("nobody")


def _engines(project: str) -> list[int]:
    try:
        return engines_of(project)
    except (AssertionError, FileNotFoundError):
        return []


async def test_what_a_job_wrote_is_read_when_it_is_asked_for_and_bounded(make: Make) -> None:
    async with JobManager(free()) as manager:
        await manager.submit_job(
            make("patch_1", says="\xe9", output_bytes=2 * OUTPUT_LIMIT_BYTES, complains="a remark")
        )
        await manager.wait_until_all_done()
        info = manager.jobs["patch_1"]

        assert info.status == "completed"
        assert len(info.output.encode()) <= OUTPUT_LIMIT_BYTES
        assert info.output.rstrip().endswith(".") or "completion" in info.output
        assert info.error == "a remark"


async def test_why_a_job_failed_is_told(make: Make, edt: str) -> None:
    async with JobManager(free()) as manager:
        await manager.submit_job(make("patch_1", fails_at="Adaptive Pass 1", exit_code=7))
        await manager.submit_job(config := make("patch_2"))
        await manager.wait_until_all_done()
        await asyncio.to_thread(Path(edt).unlink)
        await manager.submit_job(config)
        await manager.wait_until_all_done()

        assert (manager.jobs["patch_1"].status, manager.jobs["patch_1"].return_code) == ("failed", 7)
        assert manager.jobs["patch_1"].error
        assert manager.jobs["patch_2"].status == "failed"
        assert "ansysedt" in manager.jobs["patch_2"].error


async def test_an_info_shows_the_job_as_it_is_now(make: Make, tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with JobManager(free()) as manager:
        job_id = await manager.submit_job(make("patch_1", waits_at="Adaptive Pass 2", until=str(go)))
        info = manager.jobs[job_id]
        await eventually(lambda: info.status == "running")
        assert (info.end_time, info.return_code) == (None, None)

        go.touch()

        await eventually(lambda: info.status == "completed")
        assert info.return_code == 0


# Order and limits


async def test_larger_priorities_run_first_and_negative_ones_last(make: Make, tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with JobManager(free(1)) as manager:
        await manager.submit_job(make("first", waits_at="Adaptive Pass 1", until=str(go)))
        await runs(manager, "first")
        for priority in (0, -5, 7, 3):
            await manager.submit_job(make(f"at_{priority}"), priority)

        assert manager.job_pool.priority_queue == {7: ["at_7"], 3: ["at_3"], -5: ["at_-5"]}
        assert list(manager.job_pool.job_queue) == ["at_0"]
        assert manager.job_pool.running_jobs == {"first"}
        assert manager.job_pool.job_priorities["at_-5"] == -5
        go.touch()
        await manager.wait_until_all_done()
        infos = sorted(manager.jobs.items(), key=lambda item: item[1].start_time or datetime.max)  # noqa: DTZ901

    assert [job_id for job_id, _ in infos] == ["first", "at_7", "at_3", "at_0", "at_-5"]


async def test_queue_statistics_are_those_of_the_database(make: Make) -> None:
    async with JobManager(ResourceLimits(3, 100, 1e6, 0)) as manager:
        for priority in (0, 5, 5):
            await manager.submit_job(make(f"job_{priority}_{len(manager.jobs)}"), priority)

        assert manager.job_pool.get_queue_stats() == {
            "total_queued": 3,
            "regular_queue_size": 1,
            "priority_queues": {5: 2},
            "running_jobs": 0,
            "max_concurrent": 3,
        }
        assert not manager.job_pool.can_start_job(manager.resource_monitor)
        for job_id in list(manager.jobs):
            assert await manager.cancel_job(job_id)


async def test_limits_keep_jobs_waiting_until_they_are_changed(make: Make) -> None:
    async with JobManager(ResourceLimits(1, 100, min_memory_gb=1e6, min_disk_gb=0)) as manager:
        await manager.submit_job(make("patch_1"))
        async with Client() as client:
            # Said by the service once it has looked.
            await eventually(lambda: _is_short_of_memory(client))
        assert manager.jobs["patch_1"].status == "queued"

        limits = await manager.edit_concurrent_limits({"min_memory_gb": 0, "stranger": 1})

        assert limits == {
            "max_concurrent_jobs": 1,
            "max_cpu_percent": 100,
            "min_memory_gb": 0,
            "min_disk_gb": 0,
        }
        assert manager.resource_limits.min_memory_gb == 0
        assert await ended(manager, "patch_1") == "completed"


async def _is_short_of_memory(client: Client) -> bool:
    return any("min_memory_gb" in reason.message for reason in await client.why("patch_1"))


@pytest.mark.parametrize("value", [0, "many", True, 1.5, None])
async def test_a_limit_that_makes_no_sense_changes_none(make: Make, value: object) -> None:
    async with JobManager(free()) as manager:
        with pytest.raises(ValueError, match="max_concurrent_jobs"):
            await manager.edit_concurrent_limits({"min_disk_gb": 1, "max_concurrent_jobs": value})

        assert manager.resource_limits == free()
        assert await manager.edit_concurrent_limits({}) is None


async def test_a_limit_that_is_assigned_holds_in_the_service(make: Make) -> None:
    manager = JobManager(free())
    manager.resource_limits.max_concurrent_jobs = 5
    async with manager, Client() as client:
        assert (await client.limits()).max_concurrent_jobs == 5

        manager.resource_limits.max_concurrent_jobs = 6
        with pytest.raises(InvalidRequest, match="max_concurrent_jobs"):
            manager.resource_limits.max_concurrent_jobs = 0

        assert (await client.limits()).max_concurrent_jobs == 6
        assert manager.resource_limits.max_concurrent_jobs == 6


async def test_limits_of_pyedb_are_not_those_of_other_services(home: Path) -> None:
    async with JobManager() as manager:
        assert manager.resource_limits == ResourceLimits(1, 80.0, 2.0, 2.0)

    async with service.JobManager() as other:
        found = await other.limits()

    assert (found.max_cpu_percent, found.min_memory_gb, found.min_disk_gb) == (None, None, None)


async def test_limits_that_were_given_are_kept_at_a_service_that_has_others(home: Path) -> None:
    theirs = settings.load({"port": 0, "max_concurrent_jobs": 7}, os.environ)
    given = ResourceLimits(max_concurrent_jobs=1)
    manager = JobManager(given)
    async with service.serving(theirs) as other, manager:
        assert await asyncio.to_thread(manager.job_pool.can_start_job, manager.resource_monitor)
        assert (manager.session.url, given) == (other.url, ResourceLimits(1, 80.0, 2.0, 2.0))
        told = await manager.edit_concurrent_limits({"min_disk_gb": 0.5})
        assert (told or {})["max_concurrent_jobs"] == 7

    async with manager, Client() as client:
        assert await client.limits() == service.ResourceLimits(1, 80.0, 2.0, 0.5)


def test_limits_are_checked_where_they_are_given(home: Path) -> None:
    with pytest.raises(InvalidRequest, match="max_cpu_percent"):
        JobManager(ResourceLimits(max_cpu_percent=200))


# Beside others


async def test_a_second_manager_hands_its_jobs_to_the_first(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    config = make("patch_1")
    async with JobManager(free()) as first, JobManager(free()) as second:
        job_id = await second.submit_job(config, priority=3)
        await second.wait_until_all_done()

        assert second.session.url == first.session.url
        assert second.jobs[job_id].status == first.jobs[job_id].status == "completed"
        assert first.jobs[job_id].config == config
    said = [record.message for record in caplog.records if "has the database already" in record.message]
    assert len(said) == 1


async def test_jobs_go_to_the_service_of_their_database_whichever_of_this_home_started_last(
    make: Make, home: Path
) -> None:
    def manager(name: str) -> JobManager:
        return JobManager(free(), database=f"sqlite:///{home}/{name}.db", work_dir=home / name)

    async with manager("a") as first:
        async with manager("b") as second, manager("a") as third:
            await third.submit_job(make("patch_1"))
            assert third.session.url == first.session.url
            assert list(second.jobs) == []
        async with manager("a") as fourth:
            assert list(fourth.jobs) == list(first.jobs) == ["patch_1"]
        await first.wait_until_all_done()


async def test_managers_on_postgresql_share_jobs(make: Make, postgresql_url: str, home: Path) -> None:
    first = JobManager(free(), database=postgresql_url, work_dir=home / "work")
    second = JobManager(free(), database=postgresql_url, work_dir=home / "other")
    async with first, second:
        await first.submit_job(make("patch_1"))
        await second.submit_job(make("patch_2"))
        await first.wait_until_all_done()

        assert first.session.url != second.session.url
        assert list(second.jobs) == ["patch_1", "patch_2"]
        assert {info.status for info in second.jobs.values()} == {"completed"}


async def test_what_others_do_is_seen(make: Make) -> None:
    async with JobManager(ResourceLimits(1, 100, 1e6, 0)) as manager, Client() as client:
        await manager.submit_job(make("patch_1"))
        assert manager.jobs["patch_1"].status == "queued"

        await client.cancel("patch_1")
        await eventually(lambda: manager.jobs["patch_1"].status == "cancelled")
        await client.delete("patch_1")

        await eventually(lambda: "patch_1" not in manager.jobs)
        with pytest.raises(KeyError):
            manager.jobs["patch_1"]
        assert manager.jobs.get("patch_1") is None


async def test_a_database_without_a_service_to_talk_to_is_refused(home: Path) -> None:
    async with service.JobManager(service.ResourceLimits(max_concurrent_jobs=1)):
        with pytest.raises(DatabaseInUse, match="already serves"):
            async with Desk(lambda: settings.load({"port": 0}, os.environ), others_patience_s=0.1):
                pass


async def test_a_port_that_is_taken_is_told_at_the_start(home: Path) -> None:
    async with JobManager(free()) as manager:
        port = int(manager.session.url.rpartition(":")[2])
        other = JobManager(free(), port=port, database=f"sqlite:///{home}/other.db", work_dir=home / "other")

        with pytest.raises(AddressUnavailable, match=str(port)):
            other.start()


# What it costs


async def test_what_is_kept_of_jobs_is_bounded_and_follows_events(make: Make) -> None:
    async with JobManager(ResourceLimits(1, 100, 1e6, 0)) as manager, Client() as client:
        for number in range(6):
            await manager.submit_job(make(f"job_{number}"))
        async with Shelf(client, most=4) as shelf:
            # Nothing is kept before events are told.
            await eventually(lambda: _kept(shelf))
            page = await shelf.page(None)
            first = await shelf.job("job_0")
            assert [job.job_id for job in page.jobs] == [f"job_{number}" for number in range(6)]
            assert len(shelf) == 4
            assert await shelf.job("job_0") is first

            await client.set_priority("job_0", 9)

            await eventually(lambda: _has_priority(shelf, "job_0", 9))
            with pytest.raises(JobNotFound):
                await shelf.job("nobody")
        for job_id in list(manager.jobs):
            await manager.cancel_job(job_id)


async def _kept(shelf: Shelf) -> bool:
    await shelf.job("job_5")
    return len(shelf) > 0


async def _has_priority(shelf: Shelf, job_id: str, priority: int) -> bool:
    return (await shelf.job(job_id)).priority == priority


async def test_telemetry_has_the_keys_of_pyedb(home: Path) -> None:
    alone = ResourceMonitor().current_usage
    async with JobManager(free()) as manager:
        asked = await asyncio.to_thread(lambda: manager.resource_monitor.current_usage)

    assert set(alone) == set(asked) == USAGE


class Counting:
    """Who knows how busy a machine is, and was asked so often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> dict[str, int]:
        self.count += 1
        return {"cpu_percent": self.count}


@pytest.mark.parametrize(("interval_s", "told"), [(3600, [1, 1, 1]), (0, [1, 2, 3])])
def test_telemetry_is_as_old_as_its_interval_at_most(interval_s: float, told: list[int]) -> None:
    monitor = ResourceMonitor(interval_s, Counting())

    assert [monitor.current_usage["cpu_percent"] for _ in told] == told


async def test_who_monitors_looks_again_at_the_interval_that_is_named() -> None:
    asked = Counting()
    monitor = ResourceMonitor(0, asked)

    monitoring = asyncio.create_task(monitor.monitor_resources())

    # So often within the patience of a test: the pause is the one that was named.
    await eventually(lambda: asked.count >= 100)
    monitor.update_interval = 3600
    assert monitor.current_usage["cpu_percent"] >= 99
    monitoring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await monitoring


async def test_a_manager_leaves_logging_as_it_is(home: Path) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)

    async with JobManager(free()):
        pass

    assert (list(root.handlers), root.level) == before


async def test_managers_leave_no_threads_and_no_loops(home: Path) -> None:
    def loops() -> int:
        # aiohttp remembers applications that are closed, and so their loops.
        every = [each for each in gc.get_objects() if isinstance(each, asyncio.AbstractEventLoop)]
        return sum(not loop.is_closed() for loop in every)

    before = set(threading.enumerate()), loops()

    for _ in range(2):
        manager = JobManager(free())
        await asyncio.to_thread(manager.start)
        await asyncio.to_thread(manager.close)

    left = {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")} - before[0]
    assert left == set()
    assert loops() == before[1]


def test_a_scheduler_is_named_by_its_word_too(home: Path) -> None:
    assert JobManager(scheduler_type="SLURM").scheduler_type is SchedulerType.SLURM
    with pytest.raises(ValueError, match=r"scheduler_type: 'sge' is none of none, lsf, slurm"):
        JobManager(scheduler_type="sge")

"""A manager inside another program: it starts, stops, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from jobmgr.domain.job import EventPosition, JobFilter
from jobmgr.domain.status import Status
from jobmgr.errors import (
    DatabaseInUse,
    DatabaseMoved,
    IllegalTransition,
    InvalidRequest,
    JobNotFound,
    SchemaMissing,
    StoreError,
)
from jobmgr.service import JobManager, ResourceLimits
from jobmgr.wire.submission import JobChange
from tests import remnant
from tests.ledger import signatures, signing
from tests.patience import eventually

ONE = ResourceLimits(max_concurrent_jobs=1)
TWO = ResourceLimits(max_concurrent_jobs=2)


def open_files() -> set[str]:
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found.add(os.readlink(descriptor))
        except OSError:
            continue
    return found


def swap_content(sqlite_url: str, content: bytes) -> bytes:
    """Put other bytes into a database file; answers what was in it."""
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    before = file.read_bytes()
    file.write_bytes(content)
    return before


async def test_deleted_database_stops_claims_and_not_what_runs_and_can_be_had_back(tmp_path: Path) -> None:
    file, go = tmp_path / "jobs.db", tmp_path / "go"
    url, work = f"sqlite:///{file}", tmp_path / "work"
    waiting = ["sh", "-c", f"until [ -e {go} ]; do sleep 0.02; done; exit 3"]
    async with JobManager(ONE, database=url, work_dir=work) as manager:
        running = await manager.submit(waiting)
        queued = await manager.submit(["true"])
        await eventually(lambda: is_running(manager, running))
        for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
            (tmp_path / name).unlink()

        with pytest.raises(DatabaseMoved):
            await manager.submit(["true"])
        (copy,) = await eventually(lambda: list(tmp_path.glob("jobs.db.rescued-*[0-9]")))
        go.touch()  # The job ends now, and nobody can be told.
        await eventually(lambda: list(tmp_path.glob(f"work/control/{running}/1/exit")))
        with pytest.raises(DatabaseMoved):
            await manager.get(running)
    assert not (tmp_path / "work/control" / queued).exists()
    await asyncio.to_thread(copy.rename, file)
    async with JobManager(ONE, database=url, work_dir=work) as manager:
        ends = await manager.wait_many([running, queued], 30)

    assert [(job.status, job.attempt) for job in ends] == [(Status.FAILED, 1), (Status.COMPLETED, 1)]
    assert ends[0].exit_code == 3


async def is_running(manager: JobManager, job_id: str) -> bool:
    return (await manager.get(job_id)).status is Status.RUNNING


async def test_manager_leaves_no_threads_tasks_files_or_processes(database_url: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    before = set(threading.enumerate()), asyncio.all_tasks(), open_files()

    for _ in range(2):
        async with JobManager(TWO, database=database_url, work_dir=work) as manager:
            await manager.wait(await manager.submit(["true"]), 30)

    await eventually(lambda: not remnant.keepers(work))
    assert remnant.commands(work) == []
    assert asyncio.all_tasks() == before[1]
    # The loop keeps its own pool of threads for blocking calls.
    left = {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")} - before[0]
    assert left == set()
    assert {name for name in open_files() - before[2] if str(tmp_path) in name} == set()


async def test_manager_that_is_stopped_right_after_its_start_stops(database_url: str, tmp_path: Path) -> None:
    """A wake-up and the end of a wait may come in the same instant; asyncio.wait_for loses one, on Python 3.11."""
    async with asyncio.timeout(60):
        for _ in range(15):
            async with JobManager(TWO, database=database_url, work_dir=tmp_path / "work") as manager:
                await manager.limits()

    await eventually(lambda: not remnant.keepers(tmp_path / "work"))


async def test_program_that_fails_inside_still_stops_its_manager(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with JobManager(TWO, database=database_url, work_dir=tmp_path / "work"):
            raise ZeroDivisionError

    await eventually(lambda: not remnant.keepers(tmp_path / "work"))


async def test_second_service_on_one_sqlite_file_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    async with JobManager(TWO, database=sqlite_url, work_dir=tmp_path / "work") as first:
        with pytest.raises(DatabaseInUse, match="already serves"):
            await JobManager(TWO, database=sqlite_url, work_dir=tmp_path / "second").start()
        job = await first.wait(await first.submit(["true"]), 30)

    assert job.status is Status.COMPLETED
    async with JobManager(TWO, database=sqlite_url, work_dir=tmp_path / "work") as again:
        assert (await again.get(job.job_id)).status is Status.COMPLETED


async def test_two_services_on_one_server_run_each_job_once(postgresql_url: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    async with (
        JobManager(TWO, database=postgresql_url, work_dir=tmp_path / "one") as one,
        JobManager(TWO, database=postgresql_url, work_dir=tmp_path / "two") as two,
    ):
        await one.update_queue("default", paused=True)
        job_ids = [await one.submit(signing(ledger, 0.05)) for _ in range(40)]
        await two.update_queue("default", paused=False)
        jobs = await two.wait_many(job_ids, 60)

    assert {job.status for job in jobs} == {Status.COMPLETED}
    assert sorted(signatures(ledger)) == sorted(job_ids)
    assert {Path(job.work_dir or "").relative_to(tmp_path).parts[0] for job in jobs} == {"one", "two"}


async def test_missing_schema_on_a_server_is_named_with_its_command(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    cluster = request.getfixturevalue("postgresql")
    cluster.execute("CREATE DATABASE without_schema TEMPLATE template0")

    with pytest.raises(SchemaMissing, match="jobmgr db upgrade"):
        await JobManager(TWO, database=cluster.url("without_schema"), work_dir=tmp_path / "work").start()

    cluster.execute("DROP DATABASE without_schema")


async def test_work_directory_that_cannot_be_made_is_named(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="--work-dir"):
        await JobManager(TWO, database=sqlite_url, work_dir=tmp_path / "file" / "work").start()


async def test_manager_that_did_not_start_gives_its_lock_back(sqlite_url: str, tmp_path: Path) -> None:
    content = swap_content(sqlite_url, b"not a database" * 1000)
    with pytest.raises(StoreError):
        await JobManager(TWO, database=sqlite_url, work_dir=tmp_path / "work").start()

    swap_content(sqlite_url, content)
    async with JobManager(TWO, database=sqlite_url, work_dir=tmp_path / "work") as manager:
        job = await manager.wait(await manager.submit(["true"]), 30)

    assert job.status is Status.COMPLETED
    await eventually(lambda: not remnant.keepers(tmp_path / "work"))


async def test_relative_paths_of_the_caller_stay_what_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with JobManager(TWO, database="sqlite:///jobs.db", work_dir="work") as manager:
        job = await manager.wait(await manager.submit(["pwd"]), 30)

    assert job.work_dir == str(tmp_path / "work" / "runs" / job.job_id / "1")
    assert (tmp_path / "jobs.db").exists()
    await eventually(lambda: not remnant.keepers(tmp_path / "work"))


async def test_what_may_change_on_a_stored_job_changes(manager: JobManager) -> None:
    job_id = await manager.submit(["true"], draft=True, name="old", tags=["a"])
    change = JobChange(name="new", priority=4, tags=["b", "a", "b"], extended_properties={"n": [1]})

    job = await manager.update(job_id, change)

    assert (job.name, job.priority, job.tags, job.extended_properties) == ("new", 4, ("a", "b"), {"n": [1]})
    assert (await manager.update(job_id, JobChange())) == job


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (JobChange(name="two\nlines"), "name"),
        (JobChange(description="a\0"), "description"),
        (JobChange(tags=["a", "\0"]), "tags[1]"),
        (JobChange(extended_properties={"a": "\0"}), "extended_properties"),
        (JobChange(priority=2**40), "priority"),
    ],
)
async def test_bad_change_is_refused_by_the_name_of_its_field(
    manager: JobManager, change: JobChange, field: str
) -> None:
    job_id = await manager.submit(["true"], draft=True)
    before = await manager.get(job_id)

    with pytest.raises(InvalidRequest) as refused:
        await manager.update(job_id, change)

    assert refused.value.field == field
    assert await manager.get(job_id) == before


@pytest.mark.parametrize("priority", [2**31, -(2**31) - 1, 10**30])
async def test_priority_that_no_database_can_store_is_refused(manager: JobManager, priority: int) -> None:
    job_id = await manager.submit(["true"], draft=True)

    with pytest.raises(InvalidRequest) as refused:
        await manager.set_priority(job_id, priority)

    assert refused.value.field == "priority"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("", {}),
        ("a b", {}),
        ("../x", {}),
        ("q\n", {}),
        ("q", {"max_running": -1}),
        ("q", {"max_running": 2**40}),
    ],
)
async def test_bad_queue_is_refused(manager: JobManager, name: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        await manager.update_queue(name, **values)

    assert [queue.name for queue in await manager.queues()] == ["default"]


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_bad_page_size_is_refused(manager: JobManager, limit: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await manager.list(limit=limit)

    assert refused.value.field == "limit"


async def test_verbs_on_an_unknown_job_say_so(manager: JobManager) -> None:
    for verb in (manager.get, manager.cancel, manager.retry, manager.hold, manager.release, manager.execute,
                 manager.why, manager.attempts, manager.job_events, manager.delete, manager.files):  # fmt: skip
        with pytest.raises(JobNotFound):
            await verb("nobody")


async def test_deleted_job_is_gone_and_its_files_stay(manager: JobManager) -> None:
    job_id = await manager.submit(["sh", "-c", "echo out"])
    job = await manager.wait(job_id, 30)

    await manager.delete(job_id)

    with pytest.raises(JobNotFound):
        await manager.get(job_id)
    assert (Path(job.work_dir or "") / "stdout").read_text() == "out\n"


async def test_live_job_is_not_deleted(manager: JobManager) -> None:
    job_id = await manager.submit(["sleep", "60"])

    with pytest.raises(IllegalTransition):
        await manager.delete(job_id)

    await manager.cancel(job_id)
    await manager.wait(job_id, 30)


async def test_pages_of_a_filter_go_on_by_their_cursor(manager: JobManager) -> None:
    for number in range(5):
        await manager.submit(["true"], draft=True, name=f"n{number}", tags=["t"])
    wanted = JobFilter(tag="t")

    first = await manager.list(wanted, order="created", limit=3)
    second = await manager.list(wanted, order="created", limit=3, cursor=first.next_cursor)

    assert [job.name for job in [*first.jobs, *second.jobs]] == [f"n{number}" for number in range(5)]
    assert second.next_cursor is None
    assert first.total is None


async def test_total_counts_the_jobs_of_all_pages(manager: JobManager) -> None:
    for number in range(5):
        await manager.submit(["true"], draft=True, tags=["t"] if number else [])
    wanted = JobFilter(tag="t")

    first = await manager.list(wanted, limit=3, total=True)
    second = await manager.list(wanted, limit=3, cursor=first.next_cursor, total=True)

    assert [(page.total, page.total_is_exact) for page in (first, second)] == [(4, True), (4, True)]


@pytest.mark.parametrize("text", ["", "7", ":", "e:", "e:x", ":7", "e:-1", "e:²", "e:" + "9" * 30])
def test_text_that_is_no_event_position_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        EventPosition.parse(text)


def test_event_position_is_read_as_it_is_written() -> None:
    position = EventPosition("epoch", 17)

    assert EventPosition.parse(str(position)) == position

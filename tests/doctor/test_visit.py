"""Visits to real installations: what is in order, and each thing that can be out of it, on both databases."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from jobmgr.domain.checkup import Check, Verdict
from jobmgr.domain.status import Status
from jobmgr.executors import process
from jobmgr.service import JobManager, ResourceLimits
from jobmgr.store import dispatchers
from jobmgr.store.engine import Database
from jobmgr.store.tables import Attempt, Dispatcher, Event
from jobmgr.store.transaction import Transaction
from jobmgr.wire.requests import SiteAsked
from tests.doctor.conftest import Visit, holders, kill_holders, stopped
from tests.patience import eventually
from tests.postgresql import Cluster
from tests.store.worker import Worker

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def manager_of(url: str, work: Path) -> JobManager:
    return JobManager(ResourceLimits(max_concurrent_jobs=2), database=url, work_dir=work)


async def running(manager: JobManager, script: str = "sleep 60", **fields: str) -> str:
    """A job that was seen to run."""

    async def is_running() -> bool:
        return (await manager.get(job_id)).status is Status.RUNNING

    job_id = await manager.submit(["sh", "-c", script], **fields)
    await eventually(is_running)
    return job_id


async def left_running(url: str, work: Path, script: str = "sleep 60") -> str:
    """A job that runs on without a service."""
    async with manager_of(url, work) as manager:
        job_id = await running(manager, script)
    await eventually(lambda: not any(holder.connections for holder in holders(work)))
    return job_id


def remedied(check: Check, verdict: Verdict, *words: str) -> bool:
    """Whether a check says this, and what to do."""
    assert check.verdict is verdict, check
    assert all(word in check.found + check.remedy for word in words), check
    return verdict is Verdict.OK or bool(check.remedy)


async def execute(url: str, *statements: sa.Executable) -> None:
    """Change rows behind everybody's back."""

    def change(tx: Transaction, _items: object) -> list[None]:
        for statement in statements:
            tx.connection.execute(statement)
        return [None]

    database = Database(url)
    await database.start()
    try:
        await database.write(change, None)
    finally:
        await database.close()


async def test_with_a_service_at_work_all_is_ok(
    database_url: str, database_kind: str, work: Path, visit: Visit
) -> None:
    async with manager_of(database_url, work) as manager:
        job_id = await running(manager)
        if database_kind == "sqlite":
            (work.parent / "jobs.db").chmod(0o600)  # as a service makes it

        found = await visit(database_url)

        assert {name: check.verdict for name, check in found.items() if check.verdict is not Verdict.OK} == {}
        assert "1 held" in found["attempts"].found
        assert "1 warden" in found["keepers"].found
        assert "1 at work" in found["dispatchers"].found
        await manager.cancel(job_id)
        await manager.wait(job_id, 30)


async def test_a_running_job_is_not_disturbed_by_visits(sqlite_url: str, work: Path, visit: Visit) -> None:
    async with manager_of(sqlite_url, work) as manager:
        job_id = await running(manager, "sleep 1; exit 7")

        await visit(sqlite_url)
        await visit(sqlite_url)

        assert (await manager.wait(job_id, 30)).exit_code == 7
        assert len(await manager.attempts(job_id)) == 1


async def test_a_job_at_another_site_is_no_business_of_this_machine(
    sqlite_url: str, work: Path, visit: Visit
) -> None:
    async with manager_of(sqlite_url, work) as manager:
        await manager.put_site("host", SiteAsked(kind="shell"))
        job_id = await running(manager, "sleep 600", site="host")

        checks = await visit(sqlite_url)

        assert checks["attempts"].verdict is Verdict.OK
        await manager.cancel(job_id)
        await manager.wait(job_id, 30)


async def test_a_busy_service_is_not_slandered(database_url: str, work: Path, visit: Visit) -> None:
    async with manager_of(database_url, work) as manager:
        job_ids = [await manager.submit(["true"]) for _ in range(300)]

        visits = [await visit(database_url) for _ in range(3)]
        await manager.wait_many(job_ids, 60)

    names = (
        "clock",
        "keepers",
        "attempts",
        "orphans",
        "control directories",
        "run directories",
        "dispatchers",
    )
    assert {
        name: found[name] for found in visits for name in names if found[name].verdict is not Verdict.OK
    } == {}


async def test_jobs_that_run_without_a_service_are_no_problem(
    database_url: str, work: Path, visit: Visit
) -> None:
    await left_running(database_url, work)

    found = await visit(database_url)

    assert remedied(found["attempts"], Verdict.WARNING, "1 held", "jobmgr serve")
    assert remedied(found["dispatchers"], Verdict.WARNING, "1 live attempt", "jobmgr serve")
    assert remedied(found["service"], Verdict.WARNING, "none is running")
    assert remedied(found["keepers"], Verdict.OK, "no service")
    assert remedied(found["orphans"], Verdict.OK)


async def test_an_end_that_nobody_recorded_yet_is_told(sqlite_url: str, work: Path, visit: Visit) -> None:
    job_id = await left_running(sqlite_url, work, "while [ ! -e go ]; do sleep 0.02; done")
    (work / "runs" / job_id / "1" / "go").touch()
    await eventually((work / "control" / job_id / "1" / "exit").exists)

    found = await visit(sqlite_url)

    assert remedied(found["attempts"], Verdict.WARNING, "ended, but not recorded", job_id, "jobmgr serve")


async def test_a_stopped_keeper_is_a_problem(sqlite_url: str, work: Path, visit: Visit) -> None:
    await left_running(sqlite_url, work)
    _, keeper = holders(work)

    with stopped(keeper.pid):
        found = await visit(sqlite_url)

    assert remedied(found["keepers"], Verdict.PROBLEM, f"kill -CONT {keeper.pid}")


async def test_a_dead_warden_and_a_deleted_socket_are_told(sqlite_url: str, work: Path, visit: Visit) -> None:
    await left_running(sqlite_url, work)
    warden, keeper = holders(work)
    os.kill(warden.pid, 9)
    await eventually(lambda: not process.is_alive(warden.pid, process.start_ticks(warden.pid)))

    bereaved = await visit(sqlite_url)
    assert keeper.socket is not None
    os.unlink(keeper.socket)
    hidden = await visit(sqlite_url)

    assert remedied(bereaved["keepers"], Verdict.WARNING, f"the warden of {keeper.pid} is dead")
    assert remedied(bereaved["sockets"], Verdict.WARNING, "1 socket", Path(warden.socket or "").name)
    assert remedied(hidden["keepers"], Verdict.WARNING, "were deleted", str(keeper.pid))


async def test_a_command_without_keeper_and_warden_is_told_until_it_is_gone(
    sqlite_url: str, work: Path, visit: Visit
) -> None:
    job_id = await left_running(sqlite_url, work, "while [ ! -e go ]; do sleep 0.02; done")
    await kill_holders(work)

    runs_on = await visit(sqlite_url)
    (work / "runs" / job_id / "1" / "go").touch()

    async def is_gone() -> Check | None:
        check = (await visit(sqlite_url))["attempts"]
        return check if "gone without a record" in check.found else None

    gone = await eventually(is_gone)

    assert remedied(runs_on["attempts"], Verdict.WARNING, "running without a keeper", job_id, "lost")
    assert remedied(runs_on["sockets"], Verdict.WARNING, "2 sockets")
    assert remedied(gone, Verdict.WARNING, "records them as lost")


@contextmanager
def carrier(token: str, run: Path) -> Iterator[int]:
    """A process of an attempt that got away from its keeper; its id."""
    marks = {process.ATTEMPT_VARIABLE: token, process.RUN_VARIABLE: str(run)}
    with subprocess.Popen(["sleep", "60"], env={**os.environ, **marks}) as child:
        # The kernel shows the new environment a moment after the exec was told.
        while process.token_of(child.pid) != token:
            time.sleep(0.001)
        yield child.pid
        child.kill()


async def test_processes_of_ended_and_unknown_attempts_are_orphans(
    database_url: str, work: Path, visit: Visit
) -> None:
    async with manager_of(database_url, work) as manager:
        job_id = await manager.submit(["true"])
        await manager.wait(job_id, 30)
        token = (work / "control" / job_id / "1" / "token").read_text()
        run = work / "runs" / job_id / "1"
        with carrier(token, run) as ended, carrier("no such token", work / "runs" / "other" / "2") as unknown:
            found = (await visit(database_url))["orphans"]
            assert process.read_stat(ended) is not None
            assert process.read_stat(unknown) is not None
        afterwards = (await visit(database_url))["orphans"]

    assert remedied(found, Verdict.PROBLEM, "2 processes")
    assert f"pid {ended} of job {job_id}, attempt 1, which has ended" in found.found
    assert f"pid {unknown} of job other, attempt 2, unknown to this database" in found.found
    assert str(ended) in found.remedy
    assert remedied(afterwards, Verdict.OK)


async def test_directories_of_deleted_jobs_are_counted(database_url: str, work: Path, visit: Visit) -> None:
    async with manager_of(database_url, work) as manager:
        kept = await manager.submit(["true"])
        deleted = await manager.submit(["sh", "-c", "head -c 300000 /dev/zero"])
        await manager.wait_many([kept, deleted], 30)
        before = await visit(database_url)
        await manager.delete(deleted)
        # Deleting removes the control directory; this one was left by a service that died in between.
        (work / "control" / deleted / "1").mkdir(parents=True)
        after = await visit(database_url)

    assert remedied(before["run directories"], Verdict.OK, "2 directories")
    assert remedied(before["control directories"], Verdict.OK, "2 directories")
    assert remedied(after["run directories"], Verdict.WARNING, "1 of 2", f"{deleted}/1", "KB")
    assert remedied(after["control directories"], Verdict.WARNING, "1 of 2", f"{deleted}/1")


async def test_a_live_row_without_control_directory_is_told(
    database_url: str, database_kind: str, work: Path, visit: Visit
) -> None:
    identity = dispatchers.Identity(
        "dead", process.host(), process.boot_id(), process.pid_namespace(), os.getpid(), start_ticks=1
    )
    database = Database(database_url)
    await database.start()
    await database.write(dispatchers.register, identity)
    worker = Worker(database, "dead")
    job_id = await worker.add()
    await worker.claim_one()
    await database.close()
    await execute(database_url, sa.update(Attempt).values(claimed_at=LONG_AGO))

    unserved = await visit(database_url)
    async with manager_of(database_url, work) as manager:
        await manager.wait(job_id, 30)
        taken_up = await visit(database_url)

    assert remedied(unserved["attempts"], Verdict.WARNING, "claimed, but not started", job_id, "jobmgr serve")
    assert remedied(unserved["dispatchers"], Verdict.WARNING, "1 live attempt")
    assert remedied(taken_up["attempts"], Verdict.OK)
    assert remedied(taken_up["dispatchers"], Verdict.OK)


async def test_attempts_that_a_service_should_have_taken_up_are_a_problem(
    database_url: str, work: Path, visit: Visit
) -> None:
    async with manager_of(database_url, work) as manager:
        job_id = await running(manager)
        # As if an earlier service had claimed it and this one, long at work, had passed it by.
        identity = dispatchers.Identity(
            "dead", process.host(), process.boot_id(), process.pid_namespace(), os.getpid(), start_ticks=1
        )
        await manager.database.write(dispatchers.register, identity)
        await execute(
            database_url,
            sa.update(Dispatcher).values(started_at=LONG_AGO),
            sa.update(Attempt).values(dispatcher="dead"),
        )

        found = await visit(database_url)

        assert remedied(found["dispatchers"], Verdict.PROBLEM, "did not take them up", "restart the service")
        await execute(database_url, sa.update(Attempt).values(dispatcher=manager.dispatcher.identity.id))
        await manager.cancel(job_id)
        await manager.wait(job_id, 30)


async def test_control_files_that_cannot_be_read_are_a_problem(
    sqlite_url: str, work: Path, visit: Visit
) -> None:
    job_id = await left_running(sqlite_url, work)
    gate = work / "control" / job_id / "1" / "gate"
    whole = gate.read_bytes()
    gate.write_bytes(b"torn")

    found = await visit(sqlite_url)

    gate.write_bytes(whole)
    assert remedied(found["attempts"], Verdict.PROBLEM, str(gate), "by hand")


async def test_dispatchers_of_other_machines_are_left_to_them(
    database: Database, database_url: str, visit: Visit
) -> None:
    pid = os.getpid()
    identity = dispatchers.Identity("far", "far away", "boot", "namespace", pid, process.start_ticks(pid))
    await database.write(dispatchers.register, identity)
    worker = Worker(database, "far")
    await worker.add()
    await worker.claim_one()

    found = await visit(database_url)

    assert remedied(found["dispatchers"], Verdict.OK, "0 at work here, 1 where it cannot be seen (far away)")
    assert "--full" in found["dispatchers"].found


@pytest.mark.slow
@pytest.mark.parametrize("beats", [True, False])
async def test_a_full_visit_sees_whether_they_still_count(
    database: Database, database_url: str, worker: Worker, visit: Visit, *, beats: bool
) -> None:
    await worker.add()
    await worker.claim_one()
    visiting = asyncio.create_task(visit(database_url, full=True))
    for _ in range(10 if beats else 0):
        await asyncio.sleep(1)
        await database.write(dispatchers.beat, worker.id)
    found = await visiting

    assert found["dispatchers"].verdict is (Verdict.OK if beats else Verdict.WARNING)


@pytest.mark.parametrize(
    ("revision", "words"), [("0001", "older than"), ("9999", "newer jobmgr"), (None, "no tables")]
)
async def test_tables_of_another_version_are_told(
    database_url: str, database_kind: str, work: Path, visit: Visit, revision: str | None, words: str
) -> None:
    statement = "DELETE FROM alembic_version"
    if revision is not None:
        statement = f"UPDATE alembic_version SET version_num = '{revision}'"
    await execute(database_url, sa.text(statement))

    found = await visit(database_url)

    is_fatal = database_kind == "postgresql" or revision == "9999"
    assert remedied(found["schema"], Verdict.PROBLEM if is_fatal else Verdict.WARNING, words)
    assert "db upgrade" in found["schema"].remedy or revision == "9999"
    assert remedied(found["attempts"], Verdict.WARNING, "not checked")


async def test_an_event_of_the_future_is_told(sqlite_url: str, work: Path, visit: Visit) -> None:
    async with manager_of(sqlite_url, work) as manager:
        await manager.wait(await manager.submit(["true"]), 30)
    sound = (await visit(sqlite_url))["clock"]
    await execute(sqlite_url, sa.update(Event).values(at=datetime.now(UTC) + timedelta(hours=1)))

    found = (await visit(sqlite_url))["clock"]

    assert remedied(sound, Verdict.OK, "later than")
    assert remedied(found, Verdict.WARNING, "in the future", "never depends", "due")


def _name(url: str) -> str:
    return str(sa.make_url(url).database)


async def test_a_server_with_another_clock_is_told(
    postgresql: Cluster, postgresql_url: str, visit: Visit
) -> None:
    name = _name(postgresql_url)
    postgresql.execute(
        "CREATE SCHEMA fast",
        "CREATE FUNCTION fast.clock_timestamp() RETURNS timestamptz LANGUAGE sql"
        " AS $$ SELECT pg_catalog.clock_timestamp() + interval '1 hour' $$",
        f"ALTER DATABASE {name} SET search_path = fast, pg_catalog, public",
        database=name,
    )

    found = await visit(postgresql_url)

    assert remedied(found["clock"], Verdict.WARNING, "3600 s behind", "never depends")


@pytest.mark.parametrize(
    ("setting", "check", "words"),
    [
        ("synchronous_commit = off", "durability", "may forget"),
        ("default_transaction_read_only = on", "database", "read-only"),
    ],
)
async def test_a_server_that_forgets_or_refuses_is_a_problem(
    postgresql: Cluster, postgresql_url: str, visit: Visit, setting: str, check: str, words: str
) -> None:
    sound = await visit(postgresql_url)
    postgresql.execute(f"ALTER DATABASE {_name(postgresql_url)} SET {setting}")

    found = await visit(postgresql_url)

    assert remedied(sound[check], Verdict.OK)
    assert remedied(found[check], Verdict.PROBLEM, words)


async def test_a_database_user_without_rights_is_told(
    postgresql: Cluster, postgresql_url: str, visit: Visit
) -> None:
    name = _name(postgresql_url)
    postgresql.execute(
        "DROP ROLE IF EXISTS reader",
        "CREATE ROLE reader LOGIN",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
        database=name,
    )
    url = postgresql_url.replace("postgres@", "reader:topsecret@")

    found = await visit(url)

    postgresql.execute("DROP OWNED BY reader", "DROP ROLE reader", database=name)
    assert remedied(found["database"], Verdict.PROBLEM, "may not write")
    assert "topsecret" not in str(found)


async def test_a_new_server_database_wants_an_upgrade(
    postgresql: Cluster, empty_database_url: str, database_kind: str, work: Path, visit: Visit
) -> None:
    found = await visit(empty_database_url)

    if database_kind == "postgresql":
        assert remedied(found["schema"], Verdict.PROBLEM, "no tables", "jobmgr db upgrade")
    else:
        assert remedied(found["database"], Verdict.WARNING, "none yet", "jobmgr serve")


@pytest.mark.parametrize(
    ("variable", "value", "verdict", "words"),
    [
        ("JOBMGR_DATABSE", "sqlite:///x.db", Verdict.WARNING, "JOBMGR_DATABSE"),
        ("JOBMGR_JOB_ID", "x", Verdict.OK, "all defaults"),
        ("JOBMGR_PORT", "eighty", Verdict.PROBLEM, "port"),
        ("JOBMGR_DATABASE", "nonsense", Verdict.PROBLEM, "not a database URL"),
        ("JOBMGR_URL", "nonsense", Verdict.PROBLEM, "not the URL of a service"),
    ],
)
async def test_settings_that_do_nothing_or_harm_are_told(
    visit: Visit, variable: str, value: str, verdict: Verdict, words: str
) -> None:
    found = await visit(None, **{variable: value})

    assert found["settings"].verdict is verdict
    assert words in found["settings"].found.replace("JOBMGR_HOME", "all defaults")


async def test_a_deleted_file_is_not_taken_for_a_new_installation(
    sqlite_url: str, work: Path, visit: Visit
) -> None:
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    async with manager_of(sqlite_url, work) as manager:
        await manager.wait(await manager.submit(["true"]), 30)
    rescued = file.rename(f"{file}.rescued-1")  # noqa: ASYNC240

    found = await visit(sqlite_url)

    assert remedied(found["database"], Verdict.PROBLEM, str(rescued), "mv")
    for name in ("attempts", "run directories", "control directories"):
        assert "not there" in found[name].found, found[name]

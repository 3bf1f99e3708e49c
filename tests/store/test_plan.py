"""Query plans of the statements whose cost must not grow with the number of jobs, pinned to their indexes.

The statements are those the store really runs, caught on their way, on a database with statistics (ANALYZE) and on
one without, which is what an SQLite file that nobody analyzes is for ever. For the dispatcher's own statements
PostgreSQL is asked for the generic plan, the one a prepared statement may end up with: there a bound value does not
match the condition of a partial index.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from jobmgr.dispatch.admission import choose
from jobmgr.domain.job import JobFilter
from jobmgr.domain.status import Status
from jobmgr.store import attempts, claims, dispatchers, events, listing, ownership, waiting
from jobmgr.store.claims import Claim
from jobmgr.store.engine import Database
from jobmgr.store.tables import Attempt, Event, Job, JobTag, Spec
from jobmgr.store.transaction import Transaction
from tests.postgresql import Cluster
from tests.store.worker import PLENTY, Worker

ENDED = 8_000
WAITING = 2_000
LIVE = 8

_HOT = ("jobs", "attempts", "specs", "events", "job_tags", "dependencies")
Work = Callable[[sa.Connection], object]


def plans(connection: sa.Connection, work: Work, *, generic: bool) -> str:
    """The plans of all statements that `work` runs, one line per step."""
    caught: list[tuple[str, Any]] = []

    @sa.event.listens_for(connection, "before_cursor_execute")
    def catch(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        caught.append((statement, parameters[0] if isinstance(parameters, list) else parameters))

    work(connection)
    sa.event.remove(connection, "before_cursor_execute", catch)
    planned = [item for item in caught if re.match(r"\s*(SELECT|UPDATE|DELETE)", item[0])]
    return "\n".join(line for item in planned for line in explain(connection, *item, generic=generic))


def explain(connection: sa.Connection, statement: str, parameters: Any, *, generic: bool) -> list[str]:
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return [str(row[3]) for row in rows]
    if not generic:
        return [str(row[0]) for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)]
    arguments = f"({', '.join(['NULL'] * len(parameters))})" if parameters else ""
    connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
    connection.exec_driver_sql(f"PREPARE looked_at AS {statement}")
    rows = connection.exec_driver_sql(f"EXPLAIN EXECUTE looked_at{arguments}")
    found = [str(row[0]) for row in rows]
    connection.exec_driver_sql("DEALLOCATE looked_at")
    return found


def full_scans(plan: str) -> list[str]:
    """The steps that read a whole table which grows with the number of jobs."""
    found = []
    for line in plan.splitlines():
        for table in _HOT:
            on_postgresql = f"Seq Scan on {table}" in line
            on_sqlite = re.search(rf"SCAN {table}\b(?! USING (COVERING )?INDEX)", line) is not None
            if on_postgresql or on_sqlite:
                found.append(line)
    return found


def fill(tx: Transaction, _: object) -> list[None]:
    """Much history, a backlog, and a few live attempts."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows: list[dict[str, Any]] = []
    for number in range(1, ENDED + WAITING + LIVE + 1):
        status = Status.COMPLETED
        if number > ENDED + WAITING:
            status = Status.RUNNING
        elif number > ENDED:
            status = (Status.QUEUED, Status.PENDING)[number % 2]
        rows.append(
            {
                "id": number,
                "job_id": f"j{number}",
                "status": status.value,
                "queue": "default",
                "site": "local",
                "priority": number % 10,
                "user": f"user-{number % 50}",
                "name": f"name-{number}",
                "description": "",
                "cpus": number % 3,
                "memory_bytes": 0,
                "gpus": 0,
                "draft": False,
                "due_at": at + timedelta(days=20_000)
                if status is Status.PENDING and number % 20 == 1
                else None,
                "deps_left": 0 if number % 20 == 1 else 1,
                "created_at": at,
                "finished_at": at if status.is_terminal else None,
                "cancel_requested_at": at if number % 1000 == 0 else None,
                "attempt": 1,
                "attempts_counted": 1,
                "extended_properties": {},
            }
        )
    tx.connection.execute(sa.insert(Job), rows)
    tx.connection.execute(sa.insert(Spec), [_spec(row["id"]) for row in rows])
    tried = [row for row in rows if row["status"] in (Status.COMPLETED, Status.RUNNING)]
    tx.connection.execute(sa.insert(Attempt), [_attempt(row, "worker", at) for row in tried])
    facts = [
        {
            "at": at,
            "kind": "submitted",
            "job": row["id"],
            "job_id": row["job_id"],
            "user": "",
            "v": 1,
            "data": {},
        }
        for row in rows
    ]
    tx.connection.execute(sa.insert(Event), facts)
    tx.connection.execute(
        sa.insert(JobTag), [{"job": row["id"], "tag": f"tag-{row['id'] % 500}"} for row in rows[::3]]
    )
    tx.connection.exec_driver_sql(f"UPDATE queues SET queued = {WAITING // 2}, live = {LIVE}")
    return [None]


def analyze(tx: Transaction, _: object) -> list[None]:
    tx.connection.exec_driver_sql("ANALYZE")
    return [None]


def _spec(job: int) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "env": {},
        "resources": {},
        "retry_on": [],
        "exit_codes": [0],
        "required_files": [],
    }
    return {"job": job, "command": ["true"], "max_attempts": 1, "backoff_s": 1.0, "on_lost": "fail", **empty}


def _attempt(row: dict[str, Any], dispatcher: str, at: datetime) -> dict[str, Any]:
    finished_at = row["finished_at"]
    return {
        "job": row["id"],
        "number": 1,
        "token": f"token-{row['id']}",
        "lease": 1,
        "dispatcher": dispatcher,
        "counted": True,
        "outcome": "completed" if finished_at else None,
        "claimed_at": at,
        "finished_at": finished_at,
    }


@pytest.fixture(
    scope="module",
    params=[("sqlite", False), ("sqlite", True), ("postgresql", False), ("postgresql", True)],
    ids=["sqlite", "sqlite-analyzed", "postgresql", "postgresql-analyzed"],
)
def filled_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with thousands of jobs, with statistics or without; these tests change nothing in it."""
    kind, is_analyzed = request.param
    if kind == "sqlite":
        file = tmp_path_factory.mktemp("filled") / "jobs.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), file)
        _fill(f"sqlite:///{file}", is_analyzed=is_analyzed)
        yield f"sqlite:///{file}"
        return
    template = request.getfixturevalue("postgresql_template")
    cluster: Cluster = request.getfixturevalue("postgresql")
    cluster.execute(f"CREATE DATABASE filled TEMPLATE {template}")
    _fill(cluster.url("filled"), is_analyzed=is_analyzed)
    yield cluster.url("filled")
    cluster.execute("DROP DATABASE filled")


def _fill(url: str, *, is_analyzed: bool) -> None:
    async def fill_it() -> None:
        database = Database(url)
        await database.start()
        await Worker.register(database)
        await database.write(fill, None)
        if is_analyzed:
            await database.write(analyze, None)
        await database.close()

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(fill_it())


@pytest_asyncio.fixture
async def filled(filled_url: str) -> AsyncIterator[Database]:
    database = Database(filled_url)
    await database.start()
    yield database
    await database.close()


class _Undo(Exception):
    """Carries the plan out of a transaction that must not be committed."""


async def read_plan(database: Database, function: Callable[..., object], *arguments: object) -> str:
    return await database.read(plans, lambda connection: function(connection, *arguments), generic=True)


async def page_plan(database: Database, *arguments: object) -> str:
    read: Callable[..., object] = listing.page
    return await database.read(plans, lambda connection: read(connection, *arguments), generic=False)


async def write_plan(database: Database, batch: Callable[..., object], item: object) -> str:
    def explained(tx: Transaction, _: object) -> list[str]:
        raise _Undo(plans(tx.connection, lambda _connection: batch(tx, [item]), generic=True))

    with pytest.raises(_Undo) as undone:
        await database.write(explained, None)
    return str(undone.value)


async def test_claim_reads_the_head_of_the_queue(filled: Database) -> None:
    plan = await write_plan(filled, claims.claim, Claim("worker", "local", PLENTY, choose))

    assert "ix_jobs_queued" in plan
    assert full_scans(plan) == []
    assert re.search("Sort Key: .*priority|TEMP B-TREE", plan) is None


async def test_passed_over_job_is_found_among_those_that_ask(filled: Database) -> None:
    room, total = claims.Room(8, 1, 2**30, ()), claims.Room(8, 8, 2**33, ())

    plan = await read_plan(filled, claims.passed_over, "local", room, total)

    assert "ix_jobs_asking" in plan
    assert full_scans(plan) == []


async def test_adoption_reads_live_attempts_only(filled: Database) -> None:
    plan = await write_plan(filled, ownership.adopt, ("worker", ["worker"]))

    assert "uq_attempts_live" in plan
    assert full_scans(plan) == []


@pytest.mark.parametrize("function", [ownership.of_dispatcher, dispatchers.peers])
async def test_recovery_reads_live_attempts_only(filled: Database, function: Callable[..., object]) -> None:
    plan = await read_plan(filled, function, "worker")

    assert "uq_attempts_live" in plan
    assert full_scans(plan) == []


async def test_wishes_to_cancel_are_found_without_a_scan(filled: Database) -> None:
    plan = await read_plan(filled, attempts.cancel_wishes, "worker")

    assert "ix_jobs_cancelling" in plan or "uq_attempts_live" in plan
    assert full_scans(plan) == []


async def test_wishes_to_pause_are_found_without_a_scan(filled: Database) -> None:
    plan = await read_plan(filled, attempts.pause_wishes, "worker")

    assert "ix_jobs_pausing" in plan or "uq_attempts_live" in plan
    assert full_scans(plan) == []


async def test_due_jobs_are_found_by_their_time(filled: Database) -> None:
    looking = await read_plan(filled, waiting.next_due)
    promoting = await write_plan(filled, waiting.promote_due, 100)

    for plan in (looking, promoting):
        assert "ix_jobs_due" in plan
        assert full_scans(plan) == []


@pytest.mark.parametrize("is_first", [True, False], ids=["first page", "later page"])
@pytest.mark.parametrize(
    ("wanted", "order", "index"),
    [
        # In order of submission SQLite walks the table itself, which is its primary key.
        (JobFilter(), "-created", "pk_jobs|SCAN jobs|SEARCH jobs USING INTEGER PRIMARY KEY"),
        (JobFilter(), "created", "pk_jobs|SCAN jobs|SEARCH jobs USING INTEGER PRIMARY KEY"),
        (JobFilter(), "-priority", "ix_jobs_priority"),
        (JobFilter(id_prefix="j17"), "-created", "uq_jobs_job_id|sqlite_autoindex_jobs_1"),
        (JobFilter(id_prefix="j17"), "-priority", "uq_jobs_job_id|sqlite_autoindex_jobs_1"),
        (JobFilter(ids=("j17", "j18")), "-created", "uq_jobs_job_id|sqlite_autoindex_jobs_1"),
        (JobFilter(tag="tag-7"), "-created", "ix_job_tags_tag"),
        (JobFilter(user="user-8"), "-created", "ix_jobs_user_status|pk_jobs"),
        (JobFilter(status=frozenset({Status.RUNNING})), "-created", "ix_jobs_(live|status)"),
        (JobFilter(user="user-8", status=frozenset({Status.QUEUED})), "-created", "ix_jobs_user_status"),
        (
            JobFilter(queue="default", status=frozenset({Status.RUNNING})),
            "-created",
            "ix_jobs_(live|queue_status|status)",
        ),
    ],
)
async def test_page_is_read_by_its_index(
    filled: Database, wanted: JobFilter, order: str, index: str, is_first: bool
) -> None:
    cursor = None
    if not is_first:
        cursor = (await filled.read(listing.page, wanted, order, 1, None)).next_cursor
        assert cursor is not None

    plan = await page_plan(filled, wanted, order, 100, cursor)

    assert re.search(index, plan)
    assert "Seq Scan on jobs" not in plan
    # What a narrow filter leaves may be sorted; everything may not.
    assert wanted != JobFilter() or re.search("Sort Key: jobs|ORDER BY", plan) is None


@pytest.mark.parametrize(
    "wanted",
    [JobFilter(name="name-7"), JobFilter(name="*7"), JobFilter(site="local"), JobFilter(executor="local")],
)
async def test_page_of_a_filter_without_index_ends_where_it_is_full(
    filled: Database, wanted: JobFilter
) -> None:
    if not filled.is_sqlite:
        pytest.skip("PostgreSQL chooses between walking and sorting by how many jobs it expects")

    plan = await page_plan(filled, wanted, "-created", 100, None)

    assert "ORDER BY" not in plan


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (JobFilter(status=frozenset({Status.RUNNING})), "ix_jobs_(live|status)"),
        (JobFilter(user="user-8", status=frozenset({Status.QUEUED})), "ix_jobs_user_status"),
        (JobFilter(user="user-8"), "ix_jobs_user_status"),
        (
            JobFilter(queue="default", status=frozenset({Status.RUNNING})),
            "ix_jobs_(live|queue_status|status)",
        ),
        (JobFilter(ids=("j17", "j18")), "(uq_jobs_job_id|sqlite_autoindex_jobs_1)"),
        (JobFilter(tag="tag-7"), "ix_job_tags_tag"),
    ],
)
async def test_total_is_counted_in_its_index(filled: Database, wanted: JobFilter, index: str) -> None:
    counting: Callable[..., object] = listing.count

    plan = await filled.read(plans, lambda connection: counting(connection, wanted), generic=False)

    assert re.search(index, plan)
    assert full_scans(plan) == []


async def test_total_of_everything_is_read_up_to_its_cap(filled: Database) -> None:
    plan = await read_plan(filled, listing.count, JobFilter())

    # It walks an index, or the table, as long as the limit lets it; nothing is gathered or sorted before.
    assert re.search("TEMP B-TREE|Sort|Materialize|MATERIALIZE|Hash", plan) is None


async def test_events_are_read_by_their_number(filled: Database) -> None:
    page = await read_plan(filled, events.tail, 10, 100)
    of_job = await read_plan(filled, events.of_job, 17, 0, 100)

    assert full_scans(page + of_job) == []
    assert "ix_events_job" in of_job


async def test_single_job_is_found_by_its_public_id(filled: Database) -> None:
    plan = await read_plan(filled, listing.get, ["j17"])

    assert full_scans(plan) == []

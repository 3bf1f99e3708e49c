"""Databases with many stored jobs: a small mix that the store's own statements made, copied by SQL.

A copy differs from its original in its keys, ids and tokens, so it has the same attempts, events, tags and
dependencies. The queues of the mix are paused: what waits in them does not run while something is measured.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from benchmarks import beside
from benchmarks.service import Service
from benchmarks.worker import Worker, working
from jobmgr.domain.job import Dependency, JobSpec, NewJob
from jobmgr.domain.queue import Tally
from jobmgr.domain.resources import Resources
from jobmgr.domain.retry import Retry
from jobmgr.domain.status import Status
from jobmgr.store import jobs, queues, submissions, waiting
from jobmgr.store.claims import Claimed
from jobmgr.store.engine import Database
from jobmgr.store.queues import QueueChange
from jobmgr.store.tables import Base, Event, Job, Queue
from jobmgr.store.transaction import Transaction
from jobmgr.wire.submission import new_job_id

MIX = 1000
USER = "anna"  # has two thirds of the jobs

USERS = {USER: 64, "ben": 16, "carla": 8, "david": 4, "emma": 4, "frank": 2, "greta": 1, "hugo": 1}
_QUEUES = {"short": 60, "long": 25, "night": 10, "students": 5}
_TAGS = ("antenna", "baseline", "campaign-7", "mesh-fine", "paper", "retry", "study-3", "test")
_WAIT = 40
# So many copies of the mix go into one transaction, which no statement may hold up for long.
_COPIES = 25
# The last characters of ids and tokens, which are hexadecimal: here the number of the copy.
_DIGITS = 8


async def database(service: Service, count: int) -> str:
    """The URL of this run's database with `count` stored jobs, at least MIX, of the same kind as the service's.

    It is made when first asked for, and keeps what is done to it since.
    """
    url, is_new = await beside.database(service, f"filled-{count}")
    if is_new:
        await fill(url, count)
    return url


async def fill(url: str, count: int) -> None:
    """Make the schema in an empty database and `count` jobs in it, at least MIX."""
    assert count >= MIX, f"{count} jobs are less than the mix of {MIX}"
    database = Database(url)
    await database.start()
    try:
        await database.upgrade()
        await _store_mix(database, random.Random(4))
        for first in range(1, -(-count // MIX), _COPIES):
            await database.write(_copy, (first, count))
            print(f"{min((first + _COPIES) * MIX, count):,} of {count:,} jobs", end="\r", file=sys.stderr)
        await database.write(_settle, None)
    finally:
        await database.close()


async def _store_mix(database: Database, rng: random.Random) -> None:
    for name in _QUEUES:
        await database.write(queues.change, QueueChange(name, {}))
    ended = [_new_job(rng, number) for number in range(MIX - _WAIT)]
    # Every twentieth needs the job before it.
    for number in range(20, len(ended), 20):
        ended[number] = _after(ended[number], ended[number - 1])
    await database.write(submissions.insert, ended)
    for job in ended[::33]:
        await database.write(jobs.cancel, job.job_id)
    async with working(database, f"mix-{rng.getrandbits(32):x}") as worker:
        await _run_all(database, worker, rng)
    queued = [_new_job(rng, number) for number in range(MIX - _WAIT, MIX)]
    far = datetime.now(UTC) + timedelta(days=20_000)
    queued[::4] = [replace(job, due_at=far) for job in queued[::4]]
    for name in _QUEUES:
        await database.write(queues.change, QueueChange(name, {"paused": True}))
    await database.write(submissions.insert, queued)


async def _run_all(database: Database, worker: Worker, rng: random.Random) -> None:
    """Until nothing is left to run; one attempt in eight fails."""

    def exit_code(_: Claimed) -> int:
        return int(rng.random() < 0.125)

    is_done = False
    while not is_done:
        while claimed := await worker.claim(64):
            await worker.end(claimed, exit_code)
        # Failed attempts that may be repeated are due at once.
        is_done = not await database.write(waiting.promote_due, MIX)


def _new_job(rng: random.Random, number: int) -> NewJob:
    is_large, is_repeated = rng.random() < 0.2, rng.random() < 0.1
    command = ("python3", "solve.py", "--mesh", f"mesh-{number % 17}.msh", "--step", f"{number / 10:g}")
    spec = JobSpec(
        command,
        env={"OMP_NUM_THREADS": "1", "STUDY": f"{number % 7}"},
        resources=Resources(cpus=2, memory_bytes=2**30) if is_large else Resources(),
        retry=Retry(max_attempts=2, backoff_s=0.0) if is_repeated else Retry(),
    )
    return NewJob(
        new_job_id(),
        spec,
        name=f"solve step {number}",
        user=_choice(rng, USERS),
        queue=_choice(rng, _QUEUES),
        priority=rng.choice((0, 0, 0, 0, 5, 10)),
        tags=tuple(sorted(rng.sample(_TAGS, rng.randrange(4)))),
        extended_properties={"step": number},
    )


def _choice(rng: random.Random, weights: dict[str, int]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _after(job: NewJob, parent: NewJob) -> NewJob:
    return replace(job, spec=replace(job.spec, depends_on=(Dependency(parent.job_id),)))


def _copy(tx: Transaction, spans: Sequence[tuple[int, int]]) -> list[None]:
    """Make the copies from number `first` on, as long as their jobs are not above `count`."""
    events = tx.connection.execute(sa.select(sa.func.max(Event.seq)).where(Event.job <= MIX)).scalar_one()
    for first, count in spans:
        copies = _numbers(first, min(first + _COPIES, -(-count // MIX)))
        for table in _TABLES:
            tx.connection.execute(_copied(table, copies, count, events))
    return [None] * len(spans)


# How tables name the job that a row is about, the child of a dependency among them.
_KEYS = ("job", "child", "id")
# Parents before children, as foreign keys need it. Other tables with an `id` are not about jobs.
_TABLES = [
    table
    for table in Base.metadata.sorted_tables
    if table.name == "jobs" or {"job", "child"} & {*table.c.keys()}
]


def _numbers(first: int, end: int) -> sa.CTE:
    numbers = sa.select(sa.literal(first).label("number")).cte(recursive=True)
    return numbers.union_all(sa.select(numbers.c.number + 1).where(numbers.c.number + 1 < end))


def _copied(table: sa.Table, copies: sa.CTE, count: int, events: int) -> sa.Insert:
    key = next(table.c[name] for name in _KEYS if name in table.c)
    shift = copies.c.number * MIX
    digits = sa.func.substr(sa.cast(10**_DIGITS + copies.c.number, sa.Text), 2)

    def changed(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
        match column.name:
            case "id" | "job" | "child" | "parent":
                return column + shift
            case "seq":
                return column + copies.c.number * events
            case "job_id" | "token":
                return sa.func.substr(column, 1, sa.func.length(column) - _DIGITS).concat(digits)
            case _:
                return column

    originals = (
        sa.select(*(changed(column) for column in table.c))
        .join_from(table, copies, sa.true())
        .where(key <= MIX, key + shift <= count)
        .order_by(copies.c.number, *table.primary_key)
    )
    return sa.insert(table).from_select(list(table.c), originals)


def _settle(tx: Transaction, _: object) -> list[None]:
    """Count the queues' jobs anew, and go on with keys above those that are there."""
    tallies = {
        tally.value: sa.select(sa.func.count())
        .where(
            Job.queue == Queue.name,
            Job.status.in_([status for status in Status if Tally.of(status) is tally]),
        )
        .scalar_subquery()
        for tally in Tally
    }
    tx.connection.execute(sa.update(Queue).values(tallies))
    if tx.is_postgresql:
        for table, key in (("jobs", "id"), ("events", "seq")):
            tx.connection.exec_driver_sql(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{key}'), (SELECT max({key}) FROM {table}))"
            )
        # As the server's own background work would leave it before long.
        tx.connection.exec_driver_sql("ANALYZE")
    return [None]

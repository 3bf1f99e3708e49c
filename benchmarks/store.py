"""Claims, starts and ends with their events, without processes: beside the same row changes by the bare driver."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from benchmarks.bare import Bare, BarePostgresql, BareSqlite, Transaction
from benchmarks.service import Service
from benchmarks.spawn import NOTHING
from benchmarks.table import Figure, Goal
from benchmarks.worker import working
from jobmgr.domain.job import JobSpec, NewJob
from jobmgr.store import submissions
from jobmgr.store.engine import Database

BATCH = 64
_GOAL = Goal("≥", 0.4)
_BULK = 10_000
_CHANGES = ("INSERT", "UPDATE", "DELETE")


async def measure(service: Service, count: int) -> list[Figure]:
    """Jobs per second through claim, start and end, BATCH at a time, three commits for each batch."""
    bare: Bare = BareSqlite() if service.database is None else BarePostgresql(service.database)
    filling = functools.partial(fill, count)
    ours, recorded, replayed = await bare.copies(filling, ("ours", "recorded", "replayed"))
    began = time.perf_counter()
    await run(ours, "worker")
    ours_per_s = count / (time.perf_counter() - began)
    with _recording() as transactions:
        await run(recorded, "worker")
    bare_per_s = count / await bare.replay(replayed, transactions)
    # Both did all of the work: the same rows in the same states.
    done = await bare.done(ours)
    assert done == await bare.done(replayed)
    assert done[1] == count
    name = f"claim, start and finish in the store, {count:,} jobs in batches of {BATCH}, {service.engine}"
    return [Figure(name, "/s", ours_per_s, bare_per_s, f"the same row changes, bare {bare.driver}", _GOAL)]


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """The store alone, without a service."""
    database = Database(url)
    await database.start()
    try:
        yield database
    finally:
        await database.close()


async def fill(count: int, url: str) -> None:
    """Store so many no-op jobs in the empty database."""
    async with open_database(url) as database:
        await database.upgrade()
        for start in range(0, count, _BULK):
            names = range(start, min(start + _BULK, count))
            await database.write(
                submissions.insert,
                [NewJob(f"job-{name}", JobSpec((NOTHING,)), name=f"job {name}") for name in names],
            )


async def run(url: str, name: str) -> None:
    """Claim, start and end BATCH jobs at a time until none is left, as the dispatcher `name`."""
    async with open_database(url) as database, working(database, name) as worker:
        while claimed := await worker.claim(BATCH):
            await worker.end(claimed)


@contextmanager
def _recording() -> Iterator[list[Transaction]]:
    """What is sent to the database meanwhile to change rows, transaction by transaction."""
    transactions: list[Transaction] = []

    def begin(_connection: object) -> None:
        transactions.append([])

    def execute(_connection: object, _cursor: object, text: str, values: Any, _: object, many: bool) -> None:  # noqa: FBT001 -- as SQLAlchemy calls it
        if text.startswith(_CHANGES):
            transactions[-1].append((text, values, many))

    event.listen(sa.Engine, "begin", begin)
    event.listen(sa.Engine, "before_cursor_execute", execute)
    try:
        yield transactions
    finally:
        event.remove(sa.Engine, "begin", begin)
        event.remove(sa.Engine, "before_cursor_execute", execute)

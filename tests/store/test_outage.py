"""PostgreSQL that is short of something, and statements that it can never run: the two are told apart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence

import pytest
import sqlalchemy as sa

from jobmgr.domain.queue import Tally
from jobmgr.domain.status import Status
from jobmgr.errors import InvalidRequest, StoreUnavailable
from jobmgr.store import address, dependencies, ownership, submissions, waiting
from jobmgr.store.engine import Database
from jobmgr.store.ownership import Adoption
from jobmgr.store.postgresql import POOLED, Postgresql, TimeLimits
from jobmgr.store.prepared import Prepared
from jobmgr.store.transaction import Transaction
from tests.postgresql import Cluster
from tests.store.worker import Worker, new_job, unfinished

MANY = 33_000  # more values than PostgreSQL takes in one statement


def _fail(tx: Transaction, statements: Sequence[str]) -> list[None]:
    for statement in statements:
        tx.connection.exec_driver_sql(statement)
    return [None] * len(statements)


def _ask_too_much(tx: Transaction, items: Sequence[int]) -> list[None]:
    tx.connection.execute(
        sa.select(sa.literal(1)).where(sa.literal(1).in_(sa.bindparam("many", expanding=True))),
        {"many": list(range(MANY))},
    )
    return [None] * len(items)


async def test_statement_that_can_never_run_is_no_outage_and_harms_no_other_write(
    postgresql_url: str,
) -> None:
    database = Database(postgresql_url)
    await database.start()
    worker = await Worker.register(database)

    answers = await asyncio.gather(
        worker.add("a"),
        database.write(_ask_too_much, 1),
        database.write(_fail, "SELECT no_such_function()"),
        database.write(_fail, "SELECT 1/0"),
        worker.add("b"),
        return_exceptions=True,
    )
    left = await database.read(unfinished)
    await database.close()

    refused = answers[1:4]
    assert all(isinstance(error, sa.exc.DBAPIError) for error in refused), refused
    assert sorted(left) == ["a", "b"]


@pytest.mark.parametrize("state", ["08006", "40001", "53300", "55P03", "57014", "57P01", "58030"])
async def test_condition_that_passes_is_an_outage(postgresql_url: str, state: str) -> None:
    database = Database(postgresql_url)
    await database.start()

    with pytest.raises(StoreUnavailable, match="PostgreSQL: "):
        await database.write(_fail, f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END $$")
    await database.close()


async def test_read_that_finds_all_connections_in_use_is_told_so(postgresql_url: str) -> None:
    server = Postgresql(address.parse(postgresql_url), TimeLimits(pool_s=0.2))

    readers = [
        server.read(lambda connection: connection.exec_driver_sql("SELECT pg_sleep(1.5)").scalar())
        for _ in range(POOLED + 1)
    ]
    answers = await asyncio.gather(*readers, return_exceptions=True)
    await server.close()

    (refused,) = [answer for answer in answers if isinstance(answer, Exception)]
    assert isinstance(refused, StoreUnavailable), refused
    assert "all connections" in str(refused)


_ONE = Prepared(sa.select(sa.literal_column("1").label("one")))


@pytest.mark.parametrize("use", ["read", "write"])
@pytest.mark.parametrize(
    "ask",
    [lambda connection: connection.exec_driver_sql("SELECT 1"), lambda connection: _ONE.rows(connection, {})],
    ids=["", "prepared"],
)
async def test_server_that_falls_silent_is_an_outage(
    postgresql_url: str, use: str, ask: Callable[[sa.Connection], object]
) -> None:
    server = Postgresql(address.parse(postgresql_url), TimeLimits(answer_s=0.5))

    def stop(connection: sa.Connection) -> None:
        backend = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        stopped.append(backend)
        os.kill(backend, signal.SIGSTOP)
        ask(connection)

    stopped: list[int] = []
    try:
        async with asyncio.timeout(10):
            with pytest.raises(StoreUnavailable):
                await (server.read(stop) if use == "read" else server.write(stop))
    finally:
        for backend in stopped:
            os.kill(backend, signal.SIGCONT)

    answer = await server.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar())
    await server.close()
    assert answer == 1


@pytest.mark.parametrize("use", ["read", "write"])
async def test_connection_that_ended_while_it_was_idle_is_not_given_out_twice(
    postgresql: Cluster, postgresql_url: str, use: str
) -> None:
    server = Postgresql(address.parse(postgresql_url))
    call = server.read if use == "read" else server.write
    pid = await call(lambda connection: connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())

    postgresql.execute(f"SELECT pg_terminate_backend({pid}, 10000)")
    for _ in range(10):
        await asyncio.sleep(0)  # The news of it has come, and only has to be read.
    with contextlib.suppress(StoreUnavailable):
        await call(lambda connection: _ONE.rows(connection, {}))
    found = await call(lambda connection: _ONE.rows(connection, {}))

    await server.close()
    assert [row.one for row in found] == [1]


@pytest.mark.parametrize(
    "ask",
    [
        lambda tx: waiting.queue_waiting(tx, range(MANY)),
        lambda tx: dependencies.resolve(tx, [(key, Status.FAILED) for key in range(MANY)]),
        lambda tx: ownership.reclaim(tx, [("worker", [str(number) for number in range(MANY)])]),
        lambda tx: ownership.adopt(tx, [Adoption("worker", [str(number) for number in range(MANY)])]),
        lambda tx: ownership.unattended(tx, [str(number) for number in range(MANY)]),
    ],
    ids=["queue", "resolve", "reclaim", "adopt", "unattended"],
)
async def test_list_that_is_longer_than_a_statement_is_asked_in_portions(
    database: Database, ask: Callable[[Transaction], object]
) -> None:
    def batch(tx: Transaction, items: Sequence[None]) -> list[None]:
        ask(tx)
        return list(items)

    await database.write(batch, None)


async def test_bulk_may_name_more_queues_than_fit_in_a_statement(database: Database) -> None:
    bulk = [new_job(queue=f"q{number}") for number in range(MANY)]

    with pytest.raises(InvalidRequest, match="queue: there is no queue 'q0"):
        await database.write(submissions.insert, bulk)


@pytest.mark.parametrize("exit_code", [0, 1], ids=["freed", "cancelled"])
async def test_dependants_of_several_portions_are_all_settled(worker: Worker, exit_code: int) -> None:
    count = 1_200
    await worker.add("parent")
    (parent,) = await worker.claim()
    await worker.insert(*(new_job(f"c{number}", after=["parent"]) for number in range(count)))

    await worker.finish(parent, exit_code)

    end, settled = (Tally.FAILED, Tally.CANCELLED) if exit_code else (Tally.COMPLETED, Tally.QUEUED)
    assert await worker.counts() == {end: 1, settled: count}

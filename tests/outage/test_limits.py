"""Nothing that is asked of a database is waited for without end, whatever is in its way."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

import jobmgr
from jobmgr.errors import StoreUnavailable
from jobmgr.store import address, schema, submissions
from jobmgr.store.backend import Backend
from jobmgr.store.engine import Database
from jobmgr.store.observer import Observer
from jobmgr.store.postgresql import Postgresql, TimeLimits
from jobmgr.store.sqlite import Sqlite
from jobmgr.store.transaction import EVENT_LOCK, NOTIFY_CHANNEL, Transaction
from tests.outage.proxy import Proxy
from tests.postgresql import Cluster
from tests.store.worker import new_job, unfinished

SHORT = TimeLimits(statement_s=0.5, answer_s=1.0, idle_s=0.5, connect_s=1.0, silence_s=0.2, close_s=0.5)
# More than all limits above together; whoever waits for an answer that never comes does not end within it.
BOUND_S = 15.0


def ask(connection: sa.Connection) -> Any:
    return connection.exec_driver_sql("SELECT 1").scalar()


def insert(connection: sa.Connection) -> None:
    transaction = Transaction(connection, datetime.now(UTC))
    submissions.insert(transaction, [[new_job()]])
    transaction.finish()


# What the other session holds, and what then has to wait.
WAYS: dict[str, tuple[str, str, Callable[[sa.Connection], Any]]] = {
    "read": ("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE", "read", unfinished),
    "write": ("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE", "write", insert),
    "lock of events": (f"SELECT pg_advisory_xact_lock({EVENT_LOCK})", "write", insert),
    "check": ("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE", "read", schema.check),
    "upgrade": ("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE", "write", schema.upgrade),
}


@pytest.mark.parametrize("way", WAYS)
async def test_statement_that_waits_for_a_lock_is_given_up(postgresql_url: str, way: str) -> None:
    hold, use, work = WAYS[way]
    # Here it is the server that gives up, however busy the machine is.
    server = Postgresql(address.parse(postgresql_url), replace(SHORT, answer_s=BOUND_S, idle_s=BOUND_S))
    holder = await asyncpg.connect(postgresql_url)

    async with asyncio.timeout(BOUND_S):
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute(hold)
        with pytest.raises(StoreUnavailable, match="statement timeout"):
            await (server.read(work) if use == "read" else server.write(work))
        await transaction.rollback()
        # Nothing is in the way now but the machine, and how long that takes is not ours to say.
        patient = _with_time(work)
        await (server.read(patient) if use == "read" else server.write(patient))

    await holder.close()
    await server.close()


def _with_time(work: Callable[[sa.Connection], Any]) -> Callable[[sa.Connection], Any]:
    """The same work, on whatever connection it is given, without the short limit of a statement."""

    def patient(connection: sa.Connection) -> Any:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{int(BOUND_S)}s'")
        return work(connection)

    return patient


async def test_look_that_waits_for_a_lock_is_given_up(postgresql_url: str) -> None:
    observer = Observer(postgresql_url, 0.5)
    holder = await asyncpg.connect(postgresql_url)

    async with asyncio.timeout(BOUND_S):
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable):
            await observer.read(unfinished)
        await transaction.rollback()
        left = await observer.read(unfinished)

    await holder.close()
    await observer.close()
    assert left == []


async def test_transaction_in_which_nothing_is_asked_is_ended(
    postgresql: Cluster, postgresql_url: str
) -> None:
    def dawdle(connection: sa.Connection) -> None:
        backend = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        for _ in range(1000):
            if not postgresql.execute(f"SELECT pid FROM pg_stat_activity WHERE pid = {backend}"):
                break
        ask(connection)

    server = Postgresql(address.parse(postgresql_url), SHORT)

    async with asyncio.timeout(BOUND_S):
        with pytest.raises(StoreUnavailable):
            await server.write(dawdle)

    await server.close()


@pytest.mark.parametrize("use", ["read", "write"])
async def test_connection_that_falls_silent_is_given_up(proxy: Proxy, postgresql_url: str, use: str) -> None:
    server = Postgresql(address.parse(proxy.url(postgresql_url)), SHORT)
    call = server.read if use == "read" else server.write
    await call(ask)

    proxy.silence()
    async with asyncio.timeout(BOUND_S):
        with pytest.raises(StoreUnavailable):
            await call(ask)
        proxy.restore()
        answer = await call(ask)

    await server.close()
    assert answer == 1


async def test_server_that_falls_silent_after_letting_us_in_is_given_up(
    proxy: Proxy, postgresql_url: str
) -> None:
    server = Postgresql(address.parse(proxy.url(postgresql_url)), SHORT)

    # The first connection is asked for the server's version before anybody has it.
    proxy.silence_at(b"pg_catalog.version")
    async with asyncio.timeout(BOUND_S):
        with pytest.raises(StoreUnavailable):
            await server.read(ask)
        proxy.restore()
        answer = await server.read(ask)

    await server.close()
    assert answer == 1


async def test_who_listens_notices_silence_and_listens_again(
    proxy: Proxy, postgresql: Cluster, postgresql_url: str
) -> None:
    heard = asyncio.Event()
    server = Postgresql(address.parse(proxy.url(postgresql_url)), SHORT)
    listening = asyncio.create_task(server.listen("me", heard.set))
    await heard.wait()

    heard.clear()
    proxy.silence()
    proxy.restore()
    async with asyncio.timeout(BOUND_S):
        await heard.wait()
        heard.clear()
        await asyncpg_notify(postgresql_url)
        await heard.wait()

    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await server.close()


async def asyncpg_notify(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("SELECT pg_notify($1, 'other')", NOTIFY_CHANNEL)
    await connection.close()


async def test_silent_server_does_not_keep_us_from_closing(proxy: Proxy, postgresql_url: str) -> None:
    heard = asyncio.Event()
    server = Postgresql(address.parse(proxy.url(postgresql_url)), SHORT)
    listening = asyncio.create_task(server.listen("me", heard.set))
    await heard.wait()
    await asyncio.gather(*(server.read(ask) for _ in range(3)))

    proxy.silence()
    async with asyncio.timeout(BOUND_S):
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await server.close()


async def test_server_looks_whether_we_are_there(proxy: Proxy, postgresql_url: str) -> None:
    # On the server itself these tell the truth for its network connections only; the test's are none.
    server = Postgresql(address.parse(proxy.url(postgresql_url)))

    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
    asked = await server.read(
        lambda connection: {
            name: connection.exec_driver_sql(
                f"SELECT reset_val FROM pg_settings WHERE name = '{name}'"
            ).scalar()
            for name in names
        }
    )

    await server.close()
    assert all(int(str(value)) > 0 for value in asked.values()), asked


@pytest.mark.parametrize("work", [insert, schema.upgrade], ids=["write", "upgrade"])
async def test_write_that_waits_for_another_writer_of_a_file_is_given_up(
    sqlite_url: str, work: Callable[[sa.Connection], Any]
) -> None:
    database = Database(f"{sqlite_url}?timeout=0.2")
    await database.start()
    other = sqlite3.connect(str(database.sqlite_file), isolation_level=None)

    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await (database.upgrade() if work is schema.upgrade else database.write(_batch(work), None))
    other.execute("ROLLBACK")
    await (database.upgrade() if work is schema.upgrade else database.write(_batch(work), None))

    other.close()
    await database.close()


async def test_look_for_commits_of_others_finds_a_file_that_is_not_shared(sqlite_url: str) -> None:
    # Whoever opens it like this lets nobody in, not even to read.
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("CREATE TABLE more (x)")
    file = Sqlite(address.parse(f"{sqlite_url}?timeout=0.2"))

    with pytest.raises(StoreUnavailable, match="locked"):
        await file.was_changed()
    other.close()
    changed = await file.was_changed()

    await file.close()
    assert changed


@pytest.mark.parametrize("use", ["read", "write"])
async def test_statement_on_a_file_that_takes_too_long_is_given_up(sqlite_url: str, use: str) -> None:
    file = Sqlite(address.parse(sqlite_url), statement_s=0.2)
    call = file.read if use == "read" else file.write

    async with asyncio.timeout(BOUND_S):
        with pytest.raises(StoreUnavailable, match="interrupted"):
            await call(_count_for_long)
        answer = await call(ask)

    await file.close()
    assert answer == 1


async def test_upgrade_may_take_longer_than_a_statement(database_url: str) -> None:
    url = address.parse(database_url)
    backend: Backend = (
        Sqlite(url, statement_s=0.05) if url.get_backend_name() == "sqlite" else Postgresql(url, SHORT)
    )

    def upgrade_a_large_database(connection: sa.Connection) -> None:
        schema.upgrade(connection)
        _count_for_long(connection, 5_000_000)

    async with asyncio.timeout(BOUND_S):
        await backend.write(lambda connection: schema.downgrade(connection, "0004"))
        await backend.write(upgrade_a_large_database)
        with pytest.raises(StoreUnavailable):
            await backend.write(_count_for_long)

    await backend.close()


def _count_for_long(connection: sa.Connection, to: int = 30_000_000) -> None:
    # Without its limit it would count for some seconds.
    numbers = f"WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {to}) SELECT count(*) FROM n"
    connection.exec_driver_sql(numbers)


def _batch(work: Callable[[sa.Connection], Any]) -> Callable[..., list[None]]:
    def batch(tx: Transaction, items: list[None]) -> list[None]:
        work(tx.connection)
        return items

    return batch


def test_nothing_else_opens_a_connection() -> None:
    """The tests above are about all places where connections come from."""
    opens = re.compile(r"\b(sa\.create_engine|create_async_engine|sqlite3\.connect|asyncpg\.connect)\(")
    package = Path(jobmgr.__file__).parent

    found = {file.name for file in package.rglob("*.py") if opens.search(file.read_text())}

    assert found == {"observer.py", "postgresql.py", "sqlite.py"}

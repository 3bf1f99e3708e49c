"""Transactions on an SQLite file: threads with the standard library's driver, one of them the only writer."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import QueuePool

from jobmgr.errors import (
    InvalidRequest,
    JobmgrError,
    NotADatabase,
    QueryTooSlow,
    StoreError,
    StoreUnavailable,
)
from jobmgr.store.backend import READERS, STATEMENT_TIMEOUT_S, UNSTORABLE, json_text
from jobmgr.store.place import Place

T = TypeVar("T")

LIBRARY_VERSION = sqlite3.sqlite_version_info

# What passes by itself or when a person has acted; the low byte of SQLite's code. A statement that is wrong is an
# OperationalError too, and would be asked for ever.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_PROTOCOL,
    }
)
# How many steps of SQLite's machine lie between two looks at the clock: about a millisecond.
_INSTRUCTIONS = 100_000


class Sqlite:
    """One file. Readers and the writer are separate engines: see their BEGIN."""

    def __init__(self, url: sa.URL, *, read_timeout_s: float = STATEMENT_TIMEOUT_S) -> None:
        self._read_timeout_s = read_timeout_s
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="jobmgr-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="jobmgr-read")
        # The isolation level is ours (BEGIN IMMEDIATE or DEFERRED below); a read that turns into a write
        # would fail with BUSY whatever the timeout, so readers and the writer are separate engines.
        self._place = Place(Path(url.database or ""))
        self._write_engine = _sqlite_engine(url, self._place, "BEGIN IMMEDIATE", pool_size=1)
        self._read_engine = _sqlite_engine(url, self._place, "BEGIN", pool_size=READERS)
        self._seen_version: int | None = None

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._readers, _run_sqlite, self._read_engine, self._place, self._bounded(work)
        )

    def _bounded(self, work: Callable[[sa.Connection], T]) -> Callable[[sa.Connection], T]:
        def run(connection: sa.Connection) -> T:
            with _limited(connection, self._read_timeout_s):
                return work(connection)

        return run

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._writer, _run_sqlite, self._write_engine, self._place, work
        )

    async def was_changed(self) -> bool:
        # data_version as the writer's own connection sees it changes only by commits of others.
        loop = asyncio.get_running_loop()
        version = await loop.run_in_executor(self._writer, _data_version, self._write_engine, self._place)
        # The first look has nothing to compare with: what was committed before it may be news to its caller.
        changed = version != self._seen_version
        self._seen_version = version
        return changed

    async def listen(self, own_id: str, changed: Callable[[], None]) -> None:
        """SQLite tells nobody; polling its data version costs microseconds."""

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for pool, engine in ((self._readers, self._read_engine), (self._writer, self._write_engine)):
            await loop.run_in_executor(None, pool.shutdown)
            engine.dispose()


def _sqlite_engine(url: sa.URL, place: Place, begin: str, pool_size: int) -> sa.Engine:
    engine = sa.create_engine(
        url,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        connect_args={"check_same_thread": False, "isolation_level": None},
        json_serializer=json_text,
        json_deserializer=msgspec.json.decode,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_mode = WAL")
        # Group commit pays for FULL: an answered submission survives a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -32768")
        place.note()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _run_sqlite(engine: sa.Engine, place: Place, work: Callable[[sa.Connection], T]) -> T:
    # Costs microseconds; a look now and then would let answered writes of the time between be lost.
    place.check()
    try:
        with engine.connect() as connection, connection.begin():
            return work(connection)
    except (sa.exc.DBAPIError, UnicodeEncodeError) as error:
        raise translate_sqlite(error, engine.url.database) from error


@contextlib.contextmanager
def _limited(connection: sa.Connection, timeout_s: float) -> Iterator[None]:
    """Interrupt what `connection` does once this has lasted so long; SQLite has no time limit of its own."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    deadline = time.monotonic() + timeout_s
    driver.set_progress_handler(lambda: time.monotonic() > deadline, _INSTRUCTIONS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)


def _data_version(engine: sa.Engine, place: Place) -> int:
    raw = engine.raw_connection()
    try:
        connection = raw.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        place.save(connection)
        place.check()
        return int(connection.execute("PRAGMA data_version").fetchone()[0])
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the database cannot be read: {error}") from error
    finally:
        raw.close()


def translate_sqlite(
    error: sa.exc.DBAPIError | UnicodeEncodeError, file: str | None
) -> JobmgrError | sa.exc.DBAPIError:
    """What a driver's error means for `file`; the error itself if that is not known."""
    if isinstance(error, UnicodeEncodeError):
        return InvalidRequest("", UNSTORABLE)
    text = str(error.orig)
    if "not a database" in text or "malformed" in text:
        return NotADatabase(
            f"{file} is not an SQLite database or is damaged ({text}); name another with --database"
        )
    if "readonly" in text or "read-only" in text:
        return StoreError(f"{file} or its directory is read-only; make it writable for this user")
    if "unable to open" in text:
        return StoreError(f"{file} cannot be opened ({text}); does its directory exist?")
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_INTERRUPT:
        return QueryTooSlow()
    if code in _PASSING:
        return StoreUnavailable(f"{file} is busy or out of space: {text}")
    return error

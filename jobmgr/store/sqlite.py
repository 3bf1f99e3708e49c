"""Transactions on an SQLite file: threads with the standard library's driver, one of them the only writer."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

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
from jobmgr.store.backend import (
    DEADLINE,
    MAY_TAKE,
    READERS,
    STATEMENT_S,
    STATEMENT_TIMEOUT_S,
    TOO_SLOW,
    UNSTORABLE,
    json_text,
)
from jobmgr.store.place import Place

T = TypeVar("T")

LIBRARY_VERSION = sqlite3.sqlite_version_info

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# So many steps of its virtual machine SQLite takes between two looks at the clock: some milliseconds.
_STEPS = 100_000
# Pages that the writer changes come back; readers' are in the system's cache too, and there are many readers.
_WRITER_CACHE_KIB = 32 * 1024
_READER_CACHE_KIB = 4 * 1024
# SQLite's log grows as long as some reader is at work, and would stay as large as it ever was. Not less, because what
# grows a file is synced at twice the cost of what overwrites it.
LOG_KEPT_BYTES = 64 * 1024 * 1024

# What passes by itself or when a person has acted; the low byte of SQLite's code. A statement that is wrong is an
# OperationalError too, and would be asked for ever.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_PROTOCOL,
    }
)


class Sqlite:
    """One file. Readers and the writer are separate engines: see their BEGIN."""

    def __init__(self, url: sa.URL, *, statement_s: float = STATEMENT_TIMEOUT_S) -> None:
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="jobmgr-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="jobmgr-read")
        # The isolation level is ours (BEGIN IMMEDIATE or DEFERRED below); a read that turns into a write
        # would fail with BUSY whatever the timeout, so readers and the writer are separate engines.
        self._place = Place(Path(url.database or ""))
        self._write_engine = _engine(url, self._place, "BEGIN IMMEDIATE", 1, _WRITER_CACHE_KIB, statement_s)
        self._read_engine = _engine(url, self._place, "BEGIN", READERS, _READER_CACHE_KIB, statement_s)
        self._seen_version: int | None = None
        self._connection: sa.Connection | None = None  # the writer's own; only its thread touches it

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._readers, _read, self._read_engine, self._place, work
            )
        except StoreUnavailable as error:
            if _error_code(error.__cause__) == sqlite3.SQLITE_INTERRUPT:
                raise QueryTooSlow(TOO_SLOW.format("interrupted")) from error.__cause__
            raise

    async def ask(self, work: Callable[[sa.Connection], T]) -> T:
        # There are no round trips to be spared.
        return await self.read(work)

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._write, work)

    def _write(self, work: Callable[[sa.Connection], T]) -> T:
        with _translated(self._write_engine, self._place):
            connection = self._writing()
            try:
                with connection.begin():
                    return work(connection)
            except sa.exc.DBAPIError:
                self._hang_up()
                raise

    def _writing(self) -> sa.Connection:
        # Kept, because to take it from a pool and to put it back costs as much as two statements. Not with a time
        # limit of its own, which was meant for one transaction.
        if self._connection is not None and MAY_TAKE in self._connection.get_execution_options():
            self._hang_up()
        if self._connection is None:
            self._connection = self._write_engine.connect()
        return self._connection

    def _hang_up(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _data_version(self) -> int:
        try:
            connection = self._writing().connection.driver_connection
            assert isinstance(connection, sqlite3.Connection)
            self._place.save(connection)
            self._place.check()
            return int(connection.execute("PRAGMA data_version").fetchone()[0])
        except (sqlite3.Error, sa.exc.DBAPIError) as error:
            raise StoreUnavailable(f"the database cannot be read: {error}") from error

    async def was_changed(self) -> bool:
        # data_version as the writer's own connection sees it changes only by commits of others.
        loop = asyncio.get_running_loop()
        version = await loop.run_in_executor(self._writer, self._data_version)
        # The first look has nothing to compare with: what was committed before it may be news to its caller.
        changed = version != self._seen_version
        self._seen_version = version
        return changed

    async def listen(self, own_id: str, changed: Callable[[], None]) -> None:
        """SQLite tells nobody; polling its data version costs microseconds."""

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        # All threads first: what one of them still does must end as a whole, on its connection.
        for pool in (self._readers, self._writer):
            await loop.run_in_executor(None, pool.shutdown)
        self._hang_up()
        for engine in (self._read_engine, self._write_engine):
            engine.dispose()


def _engine(
    url: sa.URL, place: Place, begin: str, pool_size: int, cache_kib: int, statement_s: float
) -> sa.Engine:
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
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_KEPT_BYTES}")
        place.note()

    @event.listens_for(engine, "close")
    def _close(_connection: object, _record: object) -> None:
        place.left()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    _interrupt_long_statements(engine, statement_s)
    return engine


def _interrupt_long_statements(engine: sa.Engine, statement_s: float) -> None:
    """Let a statement that takes longer fail with SQLITE_INTERRUPT. For locks the driver has its own limit."""

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, record: Any) -> None:
        info = record.info
        info[STATEMENT_S] = statement_s
        connection.set_progress_handler(lambda: time.monotonic() > info.get(DEADLINE, math.inf), _STEPS)

    @event.listens_for(engine, "before_cursor_execute")
    def _execute(connection: sa.Connection, *_: object) -> None:
        may_take_s = connection.get_execution_options().get(MAY_TAKE, statement_s)
        connection.info[DEADLINE] = time.monotonic() + may_take_s

    # What ends a transaction is never interrupted: a rollback has to come through.
    @event.listens_for(engine, "commit")
    @event.listens_for(engine, "rollback")
    def _end(connection: sa.Connection) -> None:
        connection.info.pop(DEADLINE, None)


def _read(engine: sa.Engine, place: Place, work: Callable[[sa.Connection], T]) -> T:
    with _translated(engine, place), engine.connect() as connection, connection.begin():
        return work(connection)


@contextlib.contextmanager
def _translated(engine: sa.Engine, place: Place) -> Iterator[None]:
    """One transaction: only on the file that was opened, and with its errors as ours."""
    # Costs microseconds; a look now and then would let answered writes of the time between be lost.
    place.check()
    try:
        yield
    except (sa.exc.DBAPIError, UnicodeEncodeError) as error:
        if _error_code(error) in _DAMAGED:
            place.condemn(str(getattr(error, "orig", error)))
        raise translate_sqlite(error, engine.url.database) from error


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
    if _error_code(error) in _PASSING:
        return StoreUnavailable(f"{file} is busy, out of space, or takes too long: {text}")
    return error


def _error_code(error: BaseException | None) -> int:
    return int(getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)) & 0xFF

"""The database: its connections, one group-committing writer, readers, and what happens after a commit.

Statement functions are plain functions on a connection, written once for both databases. SQLite runs them in
threads with the driver of the standard library (one writer thread, a few readers: one thread hop for a whole
transaction instead of one per statement), PostgreSQL through asyncpg in a greenlet.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import QueuePool

from jobmgr.errors import InvalidRequest, JobmgrError, NotADatabase, StoreError, StoreUnavailable
from jobmgr.store import schema
from jobmgr.store.transaction import NOTIFY_CHANNEL, Topic, Transaction

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")

# A batch function gets all items that wait for it and answers each; it runs again if its batch must be split.
Batch = Callable[[Transaction, Sequence[Item]], Sequence[Result]]

BUSY_TIMEOUT_S = 15.0
STATEMENT_TIMEOUT_S = 30.0
_READERS = 4
_MAX_BATCH = 512
_BLIND_POLL_S = 5.0
_REPEATS = 5
# What another service's commit of the same instant causes: deadlock_detected, serialization_failure, and
# unique_violation between the look at what exists and the insert. A second look sees that commit.
_REPEATED = ("40P01", "40001", "23505")

_UNSTORABLE = "text with NUL characters or unpaired surrogates can neither be stored nor found"


class Backend(Protocol):
    """How transactions run on one kind of database."""

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a read-only transaction: one consistent state."""
        ...

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a write transaction and commit it durably."""
        ...

    async def was_changed(self) -> bool:
        """Whether another process may have committed since the last call."""
        ...

    async def listen(self, own_id: str, changed: Callable[[], None]) -> None:
        """Call `changed` when another process has committed, for as long as this runs. May return at once."""
        ...

    async def close(self) -> None:
        """Release every connection and thread."""
        ...


@dataclass(slots=True)
class _Pending:
    batch: Callable[[Transaction, Sequence[Any]], Sequence[Any]]
    items: Sequence[Any]
    answer: asyncio.Future[list[Any]]


class Database:
    """Reads, and writes that share commits: all writes that wait while one commits go into the next one."""

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        self._backend: Backend = (
            _Sqlite(self.url) if self.url.get_backend_name() == "sqlite" else _Postgresql(self.url)
        )
        self._waiting: list[_Pending] = []
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[frozenset[Topic]], None]] = []
        self._id = secrets.token_hex(8)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is an SQLite file, which one service at a time may serve."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def sqlite_file(self) -> Path:
        """The SQLite file."""
        return Path(self.url.database or "")

    def on_commit(self, listener: Callable[[frozenset[Topic]], None]) -> None:
        """Call `listener` in the loop's thread with what may have changed, after commits of ours and of others."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Start the writer; its owner is whoever calls `close`."""
        self._writer = asyncio.create_task(self._write_forever(), name="jobmgr-writer")

    async def close(self) -> None:
        """Finish waiting writes, then release all connections."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            self._wake.set()
            await writer
        await self._backend.close()

    async def read(
        self, statements: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `statements(connection, …)` on one consistent state. Raises StoreUnavailable."""
        return await self._backend.read(lambda connection: statements(connection, *args, **kwargs))

    async def write(self, batch: Batch[Item, Result], item: Item) -> Result:
        """Run `batch` on `item`, together with whatever else waits; returns after the commit.

        Raises what `batch` raises for this item alone, or StoreUnavailable.
        """
        results = await self.write_all(batch, [item])
        return results[0]

    async def write_all(self, batch: Batch[Item, Result], items: Sequence[Item]) -> list[Result]:
        """Like `write` for several items that succeed or fail together."""
        if self._writer is None:
            raise StoreUnavailable("the database is closed")
        pending = _Pending(batch, items, asyncio.get_running_loop().create_future())
        self._waiting.append(pending)
        self._wake.set()
        return await pending.answer

    async def upgrade(self) -> str:
        """Bring the schema to this version's; answers what was done. Raises SchemaTooNew and its kin."""
        return await self._backend.write(schema.upgrade)

    async def notice_others(self, poll_s: float) -> None:
        """Tell listeners of commits by other processes, for ever: at once where the database says so, else by polling.

        The poll is jittered, so that many services do not ask at the same instant.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._backend.listen(self._id, self._tell_all))
            group.create_task(self._poll_forever(poll_s))

    async def _poll_forever(self, poll_s: float) -> None:
        while True:
            await asyncio.sleep(poll_s * random.uniform(0.75, 1.25))
            try:
                if await self._backend.was_changed():
                    self._tell_all()
            except JobmgrError as error:
                logger.warning("the database does not answer: %s", error)

    def _tell_all(self) -> None:
        self._tell(frozenset(Topic))

    def _tell(self, topics: frozenset[Topic]) -> None:
        for listener in self._listeners:
            listener(topics)

    async def _write_forever(self) -> None:
        while self._writer is not None or self._waiting:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                taken, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
                await self._commit(taken)

    async def _commit(self, taken: list[_Pending]) -> None:
        try:
            answers, topics = await self._backend.write(
                lambda connection: _apply(connection, taken, self._id)
            )
        except Exception as error:  # noqa: BLE001 -- boundary: the error belongs to the caller who waits for it
            if len(taken) > 1 and not isinstance(error, StoreUnavailable):
                # The bad one must not take the others with it: split until it stands alone.
                middle = len(taken) // 2
                await self._commit(taken[:middle])
                await self._commit(taken[middle:])
                return
            for pending in taken:
                if not pending.answer.done():
                    pending.answer.set_exception(error)
            return
        for pending, results in zip(taken, answers, strict=True):
            if not pending.answer.done():
                pending.answer.set_result(results)
        if topics:
            self._tell(topics)


def _apply(
    connection: sa.Connection, taken: Sequence[_Pending], sender: str
) -> tuple[list[list[Any]], frozenset[Topic]]:
    """Run all pending writes on one transaction: those for the same batch function as one call."""
    transaction = Transaction(connection, datetime.now(UTC), sender)
    groups: dict[Any, list[int]] = {}
    for index, pending in enumerate(taken):
        groups.setdefault(pending.batch, []).append(index)
    answers: list[list[Any]] = [[] for _ in taken]
    for batch, members in groups.items():
        items = [item for index in members for item in taken[index].items]
        results = iter(batch(transaction, items))
        for index in members:
            answers[index] = [next(results) for _ in taken[index].items]
    transaction.finish()
    return answers, frozenset(transaction.topics)


def _parse(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise InvalidRequest(
            "database", f"{_hidden(text)!r} is not a database URL; write sqlite:///jobs.db"
        ) from None
    match url.get_backend_name():
        case "sqlite":
            if not url.database or url.database == ":memory:":
                raise InvalidRequest("database", "a job database needs a file; write sqlite:///jobs.db")
            file = str(Path(url.database).absolute())
            patience = {"timeout": str(BUSY_TIMEOUT_S), **url.query}
            return url.set(drivername="sqlite+pysqlite", database=file, query=patience)
        case "postgresql" | "postgres":
            return _for_asyncpg(url)
        case other:
            raise InvalidRequest("database", f"{other} is not supported; use sqlite or postgresql")


def _hidden(text: str) -> str:
    return text if "@" not in text else "…@" + text.rpartition("@")[2]


def _for_asyncpg(url: sa.URL) -> sa.URL:
    query = dict(url.query)
    if "sslmode" in query:  # libpq's name for what asyncpg calls ssl
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)


def _json_dumps(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class _Sqlite:
    def __init__(self, url: sa.URL) -> None:
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="jobmgr-write")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="jobmgr-read")
        # The isolation level is ours (BEGIN IMMEDIATE or DEFERRED below); a read that turns into a write
        # would fail with BUSY whatever the timeout, so readers and the writer are separate engines.
        self._write_engine = _sqlite_engine(url, "BEGIN IMMEDIATE", pool_size=1)
        self._read_engine = _sqlite_engine(url, "BEGIN", pool_size=_READERS)
        self._seen_version: int | None = None

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._readers, _run_sqlite, self._read_engine, work
        )

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._writer, _run_sqlite, self._write_engine, work
        )

    async def was_changed(self) -> bool:
        # data_version as the writer's own connection sees it changes only by commits of others.
        loop = asyncio.get_running_loop()
        version = await loop.run_in_executor(self._writer, _data_version, self._write_engine)
        changed = self._seen_version is not None and version != self._seen_version
        self._seen_version = version
        return changed

    async def listen(self, own_id: str, changed: Callable[[], None]) -> None:
        """SQLite tells nobody; polling its data version costs microseconds."""

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for pool, engine in ((self._readers, self._read_engine), (self._writer, self._write_engine)):
            await loop.run_in_executor(None, pool.shutdown)
            engine.dispose()


def _sqlite_engine(url: sa.URL, begin: str, pool_size: int) -> sa.Engine:
    engine = sa.create_engine(
        url,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        connect_args={"check_same_thread": False, "isolation_level": None},
        json_serializer=_json_dumps,
        json_deserializer=msgspec.json.decode,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_mode = WAL")
        # Group commit pays for FULL: an answered submission survives a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -32768")

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _run_sqlite(engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
    try:
        with engine.connect() as connection, connection.begin():
            return work(connection)
    except (sa.exc.DBAPIError, UnicodeEncodeError) as error:
        raise _translate_sqlite(error, engine.url.database) from error


def _data_version(engine: sa.Engine) -> int:
    raw = engine.raw_connection()
    try:
        return int(raw.cursor().execute("PRAGMA data_version").fetchone()[0])
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the database cannot be read: {error}") from error
    finally:
        raw.close()


def _translate_sqlite(
    error: sa.exc.DBAPIError | UnicodeEncodeError, file: str | None
) -> JobmgrError | sa.exc.DBAPIError:
    if isinstance(error, UnicodeEncodeError):
        return InvalidRequest("", _UNSTORABLE)
    text = str(error.orig)
    if "not a database" in text or "malformed" in text:
        return NotADatabase(
            f"{file} is not an SQLite database or is damaged ({text}); name another with --database"
        )
    if "readonly" in text or "read-only" in text:
        return StoreError(f"{file} or its directory is read-only; make it writable for this user")
    if "unable to open" in text:
        return StoreError(f"{file} cannot be opened ({text}); does its directory exist?")
    if isinstance(error, sa.exc.OperationalError):
        return StoreUnavailable(f"{file} is busy or out of space: {text}")
    return error


class _Postgresql:
    def __init__(self, url: sa.URL) -> None:
        self._engine = create_async_engine(
            url,
            pool_size=_READERS + 1,
            max_overflow=4,
            pool_timeout=STATEMENT_TIMEOUT_S,
            pool_pre_ping=False,
            json_serializer=_json_dumps,
            json_deserializer=msgspec.json.decode,
            connect_args={
                "timeout": 10,
                "server_settings": {
                    "application_name": "jobmgr",
                    "statement_timeout": str(int(STATEMENT_TIMEOUT_S * 1000)),
                    "idle_in_transaction_session_timeout": "60000",
                },
            },
        )
        # What one consistent state means for a page and its event position.
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._last_poll = time.monotonic()

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        try:
            async with self._reading.connect() as connection, connection.begin():
                return await connection.run_sync(work)
        except (sa.exc.DBAPIError, OSError, TimeoutError, UnicodeEncodeError) as error:
            raise _translate_postgresql(error) from error

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        for attempt in range(_REPEATS + 1):
            try:
                async with self._engine.begin() as connection:
                    return await connection.run_sync(work)
            except (sa.exc.DBAPIError, OSError, TimeoutError, UnicodeEncodeError) as error:
                # The server rolled it back as a whole, so it may simply go again.
                if attempt < _REPEATS and _sqlstate(error) in _REPEATED:
                    continue
                raise _translate_postgresql(error) from error
        raise AssertionError("unreachable")

    async def was_changed(self) -> bool:
        # The safety net beside LISTEN: a wake-up without knowledge, now and then.
        due = time.monotonic() - self._last_poll >= _BLIND_POLL_S
        if due:
            self._last_poll = time.monotonic()
        return due

    async def listen(self, own_id: str, changed: Callable[[], None]) -> None:
        while True:
            try:
                await self._listen_once(own_id, changed)
            except (sa.exc.DBAPIError, OSError, TimeoutError) as error:
                logger.warning("cannot listen for other services, polling instead: %s", error)
            await asyncio.sleep(random.uniform(1.0, 3.0))

    async def _listen_once(self, own_id: str, changed: Callable[[], None]) -> None:
        def heard(_connection: object, _pid: int, _channel: str, sender: object) -> None:
            if sender != own_id:
                changed()

        ended = asyncio.Event()
        # LISTEN needs a connection for itself, for as long as it lasts.
        async with self._engine.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            raw.add_termination_listener(lambda *_: ended.set())
            await raw.add_listener(NOTIFY_CHANNEL, heard)
            try:
                changed()  # what was told while nobody listened
                await ended.wait()
            finally:
                if not raw.is_closed():
                    await raw.remove_listener(NOTIFY_CHANNEL, heard)

    async def close(self) -> None:
        await self._engine.dispose()


def _sqlstate(error: Exception) -> str | None:
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def _is_encoding_error(error: BaseException | None) -> bool:
    # The driver wraps it more than once.
    return error is not None and (
        isinstance(error, UnicodeEncodeError) or _is_encoding_error(error.__cause__)
    )


def _translate_postgresql(error: Exception) -> Exception:
    state = _sqlstate(error) or ""
    if _is_encoding_error(error) or state == "22021":  # character_not_in_repertoire
        return InvalidRequest("", _UNSTORABLE)
    if isinstance(error, OSError | TimeoutError):
        return StoreUnavailable(f"PostgreSQL cannot be reached: {error}")
    # Class 22 is a value that does not fit: asking again would not help.
    if isinstance(error, sa.exc.IntegrityError | sa.exc.ProgrammingError) or state.startswith("22"):
        return error
    return StoreUnavailable(f"PostgreSQL: {getattr(error, 'orig', error)}")

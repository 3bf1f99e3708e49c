"""Transactions on PostgreSQL: asyncpg, with the same plain statement functions run in a greenlet."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import asyncpg
import msgspec
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from jobmgr.errors import InvalidRequest, QueryTooSlow, StoreUnavailable
from jobmgr.store.backend import (
    DIRECT,
    LIMIT,
    MAY_TAKE,
    READERS,
    STATEMENT_TIMEOUT_S,
    TOO_SLOW,
    UNSTORABLE,
    json_text,
)
from jobmgr.store.outage import Outage
from jobmgr.store.transaction import NOTIFY_CHANNEL

T = TypeVar("T")

_OVERFLOW = 4
POOLED = READERS + _OVERFLOW  # shared by reads, and by who listens, at most
CONNECTIONS = POOLED + 1  # of one service, at most; the writer has one of its own
_BLIND_POLL_S = 5.0
_REPEATS = 5
# What another service's commit of the same instant causes: deadlock_detected, serialization_failure, and
# unique_violation between the look at what exists and the insert. A second look sees that commit.
_REPEATED = ("40P01", "40001", "23505")
_STATEMENT_TIMEOUT = "57014"  # query_canceled
# What passes by itself, or when a person has acted, and is no fault of a statement. Source: PostgreSQL 17, appendix A.
_PASSING = (
    "08",  # connection
    "25006",  # read_only_sql_transaction: a standby that is not promoted yet
    "25P03",  # idle_in_transaction_session_timeout
    "28",  # authorization, and
    "3D000",  # invalid_catalog_name: nothing can be asked at all
    "40",  # rolled back: deadlock, serialization
    "53",  # insufficient resources
    "55P03",  # lock_not_available
    "57",  # operator intervention: shut down, starting up, statement timeout
    "58",  # system error: input and output
)
# A connection of the pool may be one that the server has ended. SQLAlchemy hands on what the driver raises then while
# the news of that is still on its way, and everything where the driver is used without it.
_DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_FAILURES = (sa.exc.DBAPIError, sa.exc.TimeoutError, *_DRIVER_ERRORS, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long is waited for what; nothing is waited for without end."""

    statement_s: float = STATEMENT_TIMEOUT_S  # the server ends a statement
    answer_s: float = 40.0  # for a server that does not even say that it took too long
    idle_s: float = 60.0  # the server ends a transaction in which nothing is asked
    connect_s: float = 10.0
    pool_s: float = 30.0  # all connections are in use
    silence_s: float = 20.0  # who listens only asks whether anybody is there
    close_s: float = 2.0


# For the server to find out that we are gone; on our side each use of a connection has its own limit.
_KEEPALIVES = {
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
}


class Postgresql:
    """One server's database, shared with other services."""

    def __init__(self, url: sa.URL, limits: TimeLimits | None = None) -> None:
        self._limits = limits or TimeLimits()
        self._engine = _engine(url, self._limits, READERS, _OVERFLOW)
        # What one consistent state means for a page and its event position.
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        # For what is one statement: BEGIN and COMMIT would be two round trips more.
        self._asking = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        # Its transactions are begun and ended by `_transact`, so that statements need not pass SQLAlchemy.
        self._writing = _engine(
            url, self._limits, 1, 0, _BY_KEY, isolation_level="AUTOCOMMIT"
        ).execution_options(**{DIRECT: True})
        self._last_poll = time.monotonic()
        self._listening = Outage("listening for other services")

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        return await _read(self._reading, work)

    async def ask(self, work: Callable[[sa.Connection], T]) -> T:
        return await _read(self._asking, work)

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        for attempt in range(_REPEATS + 1):
            try:
                async with self._writing.begin() as connection:
                    return await self._transact(connection, work)
            except (*_FAILURES, UnicodeEncodeError) as error:
                # The server rolled it back as a whole, so it may simply go again.
                if attempt < _REPEATS and _sqlstate(error) in _REPEATED:
                    continue
                raise _translate_postgresql(error) from error
        raise AssertionError("unreachable")

    async def _transact(self, connection: AsyncConnection, work: Callable[[sa.Connection], T]) -> T:
        # Kept, because once SQLAlchemy has seen the connection end it gives none of these any more.
        pooled = await connection.get_raw_connection()
        driver, limit = pooled.driver_connection, pooled.info[LIMIT]
        assert driver is not None
        try:
            async with driver.transaction():
                try:
                    return await connection.run_sync(work)
                finally:
                    limit()
        except BaseException:
            # What is not there any more, or in doubt, must not be given out again; the server rolls it back.
            if (driver.is_closed() or driver.is_in_transaction()) and not connection.invalidated:
                await connection.invalidate()
            raise

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
            except _FAILURES as error:
                self._listening.begin(error)
            await asyncio.sleep(self._listening.pause_s)

    async def _listen_once(self, own_id: str, changed: Callable[[], None]) -> None:
        def heard(_connection: object, _pid: int, _channel: str, sender: object) -> None:
            if sender != own_id:
                changed()

        ended = asyncio.Event()
        # LISTEN needs a connection for itself, for as long as it lasts.
        async with self._engine.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            try:
                raw.add_termination_listener(lambda *_: ended.set())
                await raw.add_listener(NOTIFY_CHANNEL, heard)
                self._listening.end()
                changed()  # what was told while nobody listened
                while not ended.is_set():
                    _disarm(connection.info)  # silence is no fault here, unless it lasts
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._limits.silence_s):
                            await ended.wait()
                    _arm(connection.info, raw, self._limits.answer_s)
                    if not ended.is_set():
                        await raw.execute("SELECT 1")
            finally:
                # The pool must not give it out again: it still listens, and may have ended without the pool's knowing.
                await connection.invalidate()

    async def close(self) -> None:
        await self._engine.dispose()
        await self._writing.dispose()


# For the writer, whose statements find what they need by key. Its plans are made once and kept, and one that was made
# while a table was small would read all of it, or all of an index, however large it has become. A plan that cannot do
# without looks so expensive then that it would be compiled, which costs more than a hundred such statements.
_BY_KEY = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off"}


def _engine(
    url: sa.URL,
    limits: TimeLimits,
    size: int,
    overflow: int,
    settings: Mapping[str, str] = MappingProxyType({}),
    **options: Any,
) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=size,
        max_overflow=overflow,
        pool_timeout=limits.pool_s,
        pool_pre_ping=False,
        json_serializer=json_text,
        json_deserializer=msgspec.json.decode,
        connect_args={
            "timeout": limits.connect_s,
            "server_settings": {
                "application_name": "jobmgr",
                "statement_timeout": _milliseconds(limits.statement_s),
                "idle_in_transaction_session_timeout": _milliseconds(limits.idle_s),
                **_KEEPALIVES,
                **settings,
            },
        },
        **options,
    )
    _hang_up_on_silence(engine.sync_engine, limits)
    return engine


async def _read(engine: AsyncEngine, work: Callable[[sa.Connection], T]) -> T:
    try:
        async with engine.connect() as connection, connection.begin():
            return await connection.run_sync(work)
    except (*_FAILURES, UnicodeEncodeError) as error:
        if _sqlstate(error) == _STATEMENT_TIMEOUT:
            raise QueryTooSlow(TOO_SLOW.format(getattr(error, "orig", error))) from error
        raise _translate_postgresql(error) from error


def _milliseconds(time_s: float) -> str:
    return str(int(time_s * 1000))


_TIMER = "jobmgr_timer"


def _hang_up_on_silence(engine: sa.Engine, limits: TimeLimits) -> None:
    """Close a connection of `engine` that waits longer for one answer than it may; who waits gets an error.

    The driver's own limit would ask the server to cancel, and wait for that.
    """

    # Before SQLAlchemy's own listener, which asks the server for its types and its version.
    @event.listens_for(engine, "connect", insert=True)
    def _connect(connection: Any, record: Any) -> None:
        def limit(may_take_s: float | None = None) -> None:
            _arm(record.info, connection.driver_connection, may_take_s or limits.answer_s)

        record.info[LIMIT] = limit
        limit()

    @event.listens_for(engine, "checkout")
    def _checkout(connection: Any, record: Any, _proxy: object) -> None:
        _arm(record.info, connection.driver_connection, limits.answer_s)

    @event.listens_for(engine, "before_cursor_execute")
    def _execute(connection: sa.Connection, *_: object) -> None:
        may_take_s = connection.get_execution_options().get(MAY_TAKE, limits.answer_s)
        _arm(connection.info, connection.connection.driver_connection, may_take_s)

    @event.listens_for(engine, "commit")
    def _commit(connection: sa.Connection) -> None:
        _arm(connection.info, connection.connection.driver_connection, limits.answer_s)

    @event.listens_for(engine, "checkin")
    def _checkin(_connection: object, record: Any) -> None:
        _disarm(record.info)

    @event.listens_for(engine, "invalidate")
    def _invalidate(_connection: object, record: Any, _error: object) -> None:
        _disarm(record.info)

    # A server that is asked to close says so, if it still can.
    @event.listens_for(engine, "close")
    def _close(connection: Any, record: Any) -> None:
        _arm(record.info, connection.driver_connection, limits.close_s)


def _arm(info: dict[Any, Any], driver_connection: Any, timeout_s: float) -> None:
    _disarm(info)
    info[_TIMER] = asyncio.get_running_loop().call_later(timeout_s, driver_connection.terminate)


def _disarm(info: dict[Any, Any]) -> None:
    limit = info.pop(_TIMER, None)
    if limit is not None:
        limit.cancel()


def _sqlstate(error: Exception) -> str | None:
    return getattr(getattr(error, "orig", error), "sqlstate", None)


def _is_encoding_error(error: BaseException | None) -> bool:
    # The driver wraps it more than once.
    return error is not None and (
        isinstance(error, UnicodeEncodeError) or _is_encoding_error(error.__cause__)
    )


def _translate_postgresql(error: Exception) -> Exception:
    """What a failure means; the error itself if it belongs to whoever caused it: asking again would not help."""
    if _is_encoding_error(error) or _sqlstate(error) == "22021":  # character_not_in_repertoire
        return InvalidRequest("", UNSTORABLE)
    if isinstance(error, sa.exc.TimeoutError):
        return StoreUnavailable("all connections to PostgreSQL are in use")
    if isinstance(error, OSError | TimeoutError):
        return StoreUnavailable(f"PostgreSQL cannot be reached: {error}")
    return StoreUnavailable(f"PostgreSQL: {getattr(error, 'orig', error)}") if _passes(error) else error


def _passes(error: Exception) -> bool:
    state = _sqlstate(error)
    if state is not None:
        return state.startswith(_PASSING)
    # The driver's own: what SQLAlchemy did not take for the end of the connection is about values or their number.
    return error.connection_invalidated if isinstance(error, sa.exc.DBAPIError) else True

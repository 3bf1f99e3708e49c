"""Transactions on PostgreSQL: asyncpg, with the same plain statement functions run in a greenlet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

import asyncpg
import msgspec
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from jobmgr.errors import InvalidRequest, QueryTooSlow, StoreUnavailable
from jobmgr.store.backend import READERS, STATEMENT_TIMEOUT_S, UNSTORABLE, json_text
from jobmgr.store.outage import Outage
from jobmgr.store.transaction import NOTIFY_CHANNEL

T = TypeVar("T")

ANSWER_TIMEOUT_S = STATEMENT_TIMEOUT_S + 10  # for a server that does not even say that it took too long
_OVERFLOW = 4
CONNECTIONS = READERS + 1 + _OVERFLOW  # of one service, at most
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


class Postgresql:
    """One server's database, shared with other services."""

    def __init__(
        self,
        url: sa.URL,
        *,
        pool_timeout_s: float = STATEMENT_TIMEOUT_S,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self._engine = create_async_engine(
            url,
            pool_size=READERS + 1,
            max_overflow=_OVERFLOW,
            pool_timeout=pool_timeout_s,
            pool_pre_ping=False,
            json_serializer=json_text,
            json_deserializer=msgspec.json.decode,
            connect_args={
                "timeout": 10,
                "server_settings": {
                    "application_name": "jobmgr",
                    "statement_timeout": str(int(statement_timeout_s * 1000)),
                    "idle_in_transaction_session_timeout": "60000",
                },
            },
        )
        _hang_up_on_silence(self._engine.sync_engine, answer_timeout_s)
        # What one consistent state means for a page and its event position.
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._last_poll = time.monotonic()
        self._listening = Outage("listening for other services")

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        try:
            async with self._reading.connect() as connection, connection.begin():
                return await connection.run_sync(work)
        except (*_FAILURES, UnicodeEncodeError) as error:
            if _sqlstate(error) == _STATEMENT_TIMEOUT:
                raise QueryTooSlow from error
            raise _translate_postgresql(error) from error

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        for attempt in range(_REPEATS + 1):
            try:
                async with self._engine.begin() as connection:
                    return await connection.run_sync(work)
            except (*_FAILURES, UnicodeEncodeError) as error:
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
                _disarm(connection.info)  # silence is no fault here
                self._listening.end()
                changed()  # what was told while nobody listened
                await ended.wait()
            finally:
                if raw.is_closed():
                    # The pool has not seen it and would give it out again.
                    await connection.invalidate()
                else:
                    await raw.remove_listener(NOTIFY_CHANNEL, heard)

    async def close(self) -> None:
        await self._engine.dispose()


_LIMIT = "jobmgr_limit"


def _hang_up_on_silence(engine: sa.Engine, timeout_s: float) -> None:
    """Close a connection of `engine` that waits longer than `timeout_s` for one answer; who waits gets an error.

    The driver's own limit would ask the server to cancel, and wait for that.
    """

    def arm(info: dict[Any, Any], driver_connection: Any) -> None:
        _disarm(info)
        info[_LIMIT] = asyncio.get_running_loop().call_later(timeout_s, driver_connection.terminate)

    @event.listens_for(engine, "checkout")
    def _checkout(connection: Any, record: Any, _proxy: object) -> None:
        arm(record.info, connection.driver_connection)

    @event.listens_for(engine, "before_cursor_execute")
    def _execute(connection: sa.Connection, *_: object) -> None:
        arm(connection.info, connection.connection.driver_connection)

    @event.listens_for(engine, "commit")
    def _commit(connection: sa.Connection) -> None:
        arm(connection.info, connection.connection.driver_connection)

    @event.listens_for(engine, "checkin")
    def _checkin(_connection: object, record: Any) -> None:
        _disarm(record.info)

    @event.listens_for(engine, "invalidate")
    def _invalidate(_connection: object, record: Any, _error: object) -> None:
        _disarm(record.info)


def _disarm(info: dict[Any, Any]) -> None:
    limit = info.pop(_LIMIT, None)
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

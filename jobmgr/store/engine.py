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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from jobmgr import fault
from jobmgr.domain.access import Caller
from jobmgr.domain.once import Once
from jobmgr.errors import JobmgrError, QueryTooSlow, StoreUnavailable
from jobmgr.store import address, claims, idempotency, schema
from jobmgr.store.backend import Backend
from jobmgr.store.outage import Outage
from jobmgr.store.postgresql import Postgresql
from jobmgr.store.sqlite import Sqlite
from jobmgr.store.transaction import Topic, Transaction

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")

# A batch function gets all items that wait for it and answers each; it runs again if its batch must be split.
Batch = Callable[[Transaction, Sequence[Item]], Sequence[Result]]

_MAX_BATCH = 512


@dataclass(slots=True)
class _Pending:
    batch: Callable[[Transaction, Sequence[Any]], Sequence[Any]]
    items: Sequence[Any]
    answer: asyncio.Future[list[Any]]
    once: Once | None = None
    caller: Caller | None = None


class Database:
    """Reads, and writes that share commits: all writes that wait while one commits go into the next one."""

    def __init__(self, url: str, password: str | None = None) -> None:
        self.url = address.parse(url, password)
        self._backend: Backend = (
            Sqlite(self.url) if self.url.get_backend_name() == "sqlite" else Postgresql(self.url)
        )
        self._waiting: list[_Pending] = []
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[frozenset[Topic]], None]] = []
        self._id = secrets.token_hex(8)
        self._reading = Outage("reading")
        self._writing = Outage("writing")

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
        """Run `statements(connection, …)` on one consistent state. Raises StoreUnavailable, QueryTooSlow."""
        return await self._noted(
            self._backend.read(lambda connection: statements(connection, *args, **kwargs))
        )

    async def ask(
        self, statement: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Like `read` for what sends one statement, which needs no transaction."""
        return await self._noted(self._backend.ask(lambda connection: statement(connection, *args, **kwargs)))

    async def _noted(self, reading: Awaitable[T]) -> T:
        try:
            answer = await reading
        except QueryTooSlow:
            # Whoever asked too much is told; the database is there.
            raise
        except StoreUnavailable as error:
            self._reading.begin(error)
            raise
        self._reading.end()
        return answer

    async def pause(self) -> None:
        """Wait before the next try after StoreUnavailable: the longer it has been away, the longer.

        That it is away is logged here, so whoever tries again need not.
        """
        await asyncio.sleep(max(self._reading.pause_s, self._writing.pause_s))

    async def write(
        self,
        batch: Batch[Item, Result],
        item: Item,
        once: Once | None = None,
        caller: Caller | None = None,
    ) -> Result:
        """Run `batch` on `item`, together with whatever else waits; returns after the commit.

        If it was made under the key of `once` before, only the answer is given again. `caller` is who asked for it,
        None for the service itself. Raises what `batch` raises for this item alone, KeyReused, or StoreUnavailable.
        """
        results = await self.write_all(batch, [item], once, caller)
        return results[0]

    async def write_all(
        self,
        batch: Batch[Item, Result],
        items: Sequence[Item],
        once: Once | None = None,
        caller: Caller | None = None,
    ) -> list[Result]:
        """Like `write` for several items that succeed or fail together."""
        if self._writer is None:
            raise StoreUnavailable("the database is closed")
        pending = _Pending(batch, items, asyncio.get_running_loop().create_future(), once, caller)
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
            group.create_task(self._listen_forever())
            group.create_task(self._poll_forever(poll_s))

    async def _listen_forever(self) -> None:
        while True:
            try:
                await self._backend.listen(self._id, self._tell_all)
            except Exception:  # boundary: without this loop others' commits are noticed late
                logger.exception("listening for other services failed")
                await self.pause()
            else:
                return

    async def _poll_forever(self, poll_s: float) -> None:
        while True:
            await asyncio.sleep(poll_s * random.uniform(0.75, 1.25))
            try:
                if await self._backend.was_changed():
                    self._tell_all()
            except JobmgrError as error:
                self._reading.begin(error)
            except Exception:  # boundary: without this loop others' commits are not noticed
                logger.exception("looking for commits of others failed")
                await self.pause()

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
            if isinstance(error, StoreUnavailable):
                self._writing.begin(error)
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
        self._writing.end()
        _reach(taken, "committed")
        for pending, results in zip(taken, answers, strict=True):
            if not pending.answer.done():
                pending.answer.set_result(results)
        if topics:
            self._tell(topics)


def _apply(
    connection: sa.Connection, taken: Sequence[_Pending], sender: str
) -> tuple[list[list[Any]], frozenset[Topic]]:
    """Run all pending writes on one transaction: those of a caller for the same batch function as one call."""
    transaction = Transaction(connection, datetime.now(UTC), sender)
    answers: list[list[Any]] = [[] for _ in taken]
    repeated = _begin_once(transaction, taken, answers)
    groups: dict[Any, list[int]] = {}
    for index, pending in enumerate(taken):
        if index not in repeated:
            groups.setdefault((pending.batch, pending.caller), []).append(index)
    # Claims come last: into the room that ends of this transaction make, and with the locks that they take in the order
    # in which all others take them.
    for (batch, caller), members in sorted(groups.items(), key=lambda group: group[0][0] is claims.claim):
        transaction.caller = caller
        items = [item for index in members for item in taken[index].items]
        results = iter(batch(transaction, items))
        for index in members:
            answers[index] = [next(results) for _ in taken[index].items]
    _end_once(transaction, taken, answers, repeated)
    transaction.finish()
    _reach(taken, "committing")
    return answers, frozenset(transaction.topics)


def _begin_once(
    transaction: Transaction, taken: Sequence[_Pending], answers: list[list[Any]]
) -> frozenset[int]:
    """Take the keys of `taken`, and give the answers of those that were made before: at these indices."""
    keyed = {index: pending.once for index, pending in enumerate(taken) if pending.once is not None}
    if not keyed:
        return frozenset()
    known = idempotency.begin(transaction, keyed.values())
    repeated = {index for index, once in keyed.items() if once in known}
    for index in repeated:
        once = keyed[index]
        answers[index] = idempotency.read(once, known[once], taken[index].batch)
    return frozenset(repeated)


def _end_once(
    transaction: Transaction,
    taken: Sequence[_Pending],
    answers: list[list[Any]],
    repeated: frozenset[int],
) -> None:
    """Store the answers to what was made under a key."""
    made = {
        pending.once: idempotency.written(answers[index])
        for index, pending in enumerate(taken)
        if pending.once is not None and index not in repeated
    }
    idempotency.end(transaction, made)


def _reach(taken: Sequence[_Pending], when: str) -> None:
    if not fault.is_on:
        return
    for pending in taken:
        name = f"{pending.batch.__module__.rpartition('.')[2]}.{pending.batch.__name__}:{when}"
        if name in fault.STEPS:
            fault.reach(name)

"""One real database for a whole campaign: emptied for each example, written to, and read as the twin has it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

import sqlalchemy as sa

from jobmgr.domain.access import Caller
from jobmgr.domain.job import Event as EventView
from jobmgr.domain.job import EventPosition, When
from jobmgr.domain.once import Once
from jobmgr.domain.queue import Tally
from jobmgr.domain.status import Status
from jobmgr.errors import StoreUnavailable
from jobmgr.store import dispatchers, events
from jobmgr.store.engine import Batch, Database, Item, Result
from jobmgr.store.tables import Attempt, Base, Dependency, Dispatcher, Event, Job, Queue
from jobmgr.store.transaction import AnyRow, Transaction
from tests.model.twin import TICK_S, AttemptState, Fact, JobState, QueueState

DISPATCHERS = ("first", "second", "third")
QUEUES = ("default", "narrow")
_KEPT = ("installation", "sites", "dispatchers", "limits", "alembic_version")
EARLIER_BOOT = "earlier"
_PAGE = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """The whole database at one moment; `log` are the events since the example began."""

    jobs: Mapping[str, JobState]
    queues: Mapping[str, QueueState]
    facts: Sequence[Fact]
    log: Sequence[EventView]
    rows: Mapping[str, AnyRow]

    @property
    def keys(self) -> dict[str, int]:
        """The keys of the jobs."""
        return {name: row.id for name, row in self.rows.items()}

    @property
    def tokens(self) -> dict[tuple[str, int], str]:
        """The tokens of the attempts, by job and number."""
        return {
            (job.job_id, number): attempt.token
            for job in self.jobs.values()
            for number, attempt in enumerate(job.attempts, 1)
        }


Loss = Literal["", "question", "answer"]


class Forgetful(Database):
    """A database whose connection is lost when that is asked for: before the next write, or after its commit."""

    loses_next: Loss = ""

    async def write_all(
        self,
        batch: Batch[Item, Result],
        items: Sequence[Item],
        once: Once | None = None,
        caller: Caller | None = None,
    ) -> list[Result]:
        loss, self.loses_next = self.loses_next, ""
        if loss == "question":
            raise StoreUnavailable("the connection was lost")
        answers = await super().write_all(batch, items, once, caller)
        if loss == "answer":
            raise StoreUnavailable("the connection was lost during COMMIT")
        return answers

    async def pause(self) -> None:
        """Try again at once."""


class Stage:
    """Two services' connections to one database, driven from plain functions."""

    def __init__(self, runner: asyncio.Runner, databases: Sequence[Forgetful]) -> None:
        self._runner = runner
        self.databases = databases
        self._origin = EventPosition("", 0)
        self._log: list[EventView] = []
        self._names = itertools.count(1)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is an SQLite file, where a step costs half of what it costs on PostgreSQL."""
        return self.databases[0].is_sqlite

    def new_name(self) -> str:
        """A name that no dispatcher had before."""
        return f"service{next(self._names)}"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end of `work`; background tasks go on meanwhile only."""
        # Not Runner.run, which takes half a millisecond to watch for interrupts.
        return self._runner.get_loop().run_until_complete(work)

    def empty(self) -> None:
        """A database without jobs and with the queues as they are made. Takes 5 ms, a fresh one 50."""
        self.run(self.databases[0].write(_empty, None))
        self._origin = self.run(self.databases[0].read(events.position))
        self._log = []

    def pass_time(self, ticks: int) -> None:
        """Let jobs become due earlier, which is the same as being later."""
        self.run(self.databases[0].write(_pass_time, ticks * TICK_S))

    def bury(self, dispatcher: str) -> None:
        """Make what the dispatcher's row says be true of no living process."""
        self.run(self.databases[0].write(_bury, (dispatcher, {"start_ticks": 0})))

    def restart(self, dispatchers: Iterable[str]) -> None:
        """Let the rows of these dispatchers be of the boot before this one."""
        for name in dispatchers:
            self.run(self.databases[0].write(_bury, (name, {"boot_id": EARLIER_BOOT})))

    def look(self) -> Seen:
        """Read everything, and the events since the last look page by page."""
        return self.run(self.databases[0].read(self._look))

    def read_log(self, limit: int) -> list[EventView]:
        """All events of the example, in pages of `limit`."""
        return self.run(self.databases[-1].read(_pages, self._origin, limit))

    def _look(self, connection: sa.Connection) -> Seen:
        after = EventPosition(self._origin.epoch, self._log[-1].seq) if self._log else self._origin
        new = _pages(connection, after, _PAGE)
        rows = list(connection.execute(sa.select(Event.seq).where(Event.seq > after.seq).order_by(Event.seq)))
        assert [event.seq for event in new] == [row.seq for row in rows], "the pages are not the whole log"
        self._log += new
        rows_by_name = {row.job_id: row for row in connection.execute(_JOBS)}
        jobs = {row.id: _job(row) for row in rows_by_name.values()}
        for row in connection.execute(_ATTEMPTS):
            job = jobs[row.job]
            assert row.number == len(job.attempts) + 1, "attempt numbers have a gap"
            job.attempts.append(_attempt(row))
        for row in connection.execute(sa.select(*Dependency.__table__.c)):
            jobs[row.child].conditions[jobs[row.parent].job_id] = When(row.condition), row.met
        return Seen(
            jobs={job.job_id: job for job in jobs.values()},
            queues={row.name: _queue(row) for row in connection.execute(sa.select(*Queue.__table__.c))},
            facts=[_fact(event) for event in new],
            log=list(self._log),
            rows=rows_by_name,
        )


@contextmanager
def open_stage(url: str) -> Iterator[Stage]:
    """A stage on the database at `url`, with all dispatchers registered."""
    with asyncio.Runner() as runner:
        databases = runner.run(_open(url))
        yield Stage(runner, databases)
        for database in databases:
            runner.run(database.close())


async def _open(url: str) -> list[Forgetful]:
    databases = [Forgetful(url), Forgetful(url)]
    for database in databases:
        await database.start()
    for name in DISPATCHERS:
        identity = dispatchers.Identity(name, "host", "boot", "namespace", 1, 1)
        await databases[0].write(dispatchers.register, identity)
    return databases


def _empty(tx: Transaction, items: Sequence[None]) -> Sequence[None]:
    for table in reversed(Base.metadata.sorted_tables):
        if table.name not in _KEPT:
            tx.connection.execute(sa.delete(table))
    tx.connection.execute(sa.insert(Queue), [{"name": name} for name in QUEUES])
    return items


def _pass_time(tx: Transaction, amounts: Sequence[int]) -> Sequence[None]:
    rows = tx.connection.execute(sa.select(Job.id, Job.due_at).where(Job.due_at.is_not(None))).all()
    for row in rows:
        earlier = row.due_at - timedelta(seconds=sum(amounts))
        tx.connection.execute(sa.update(Job).where(Job.id == row.id).values(due_at=earlier))
    return [None] * len(amounts)


def _bury(tx: Transaction, items: Sequence[tuple[str, Mapping[str, Any]]]) -> Sequence[None]:
    for name, values in items:
        tx.connection.execute(sa.update(Dispatcher).where(Dispatcher.id == name).values(**values))
    return [None] * len(items)


def _pages(connection: sa.Connection, after: EventPosition, limit: int) -> list[EventView]:
    found: list[EventView] = []
    for _ in itertools.count():
        page = events.page(connection, after, limit)
        found += page
        if len(page) < limit:
            break
        after = EventPosition(after.epoch, page[-1].seq)
    return found


_JOBS = sa.select(
    Job.id, Job.job_id, Job.status, Job.queue, Job.priority, Job.draft, Job.held_at, Job.due_at, Job.deps_left,
    Job.cancel_requested_at, Job.pause_requested_at, Job.attempt, Job.attempts_counted, Job.v, Job.exit_code,
    Job.error_code, Job.started_at, Job.finished_at,
)  # fmt: skip
_ATTEMPTS = sa.select(*Attempt.__table__.c).order_by(Attempt.job, Attempt.number)


def _job(row: AnyRow) -> JobState:
    return JobState(
        job_id=row.job_id,
        status=Status(row.status),
        queue=row.queue,
        priority=row.priority,
        draft=row.draft,
        due=_ticks(row.due_at),
        deps_left=row.deps_left,
        conditions={},
        v=row.v,
        is_held=row.held_at is not None,
        is_cancel_wished=row.cancel_requested_at is not None,
        is_pause_wished=row.pause_requested_at is not None,
        counted=row.attempts_counted,
        has_started=row.started_at is not None,
        exit_code=row.exit_code,
        error=row.error_code,
    )


def _attempt(row: AnyRow) -> AttemptState:
    return AttemptState(
        dispatcher=row.dispatcher,
        token=row.token,
        lease=row.lease,
        counted=row.counted,
        has_started=row.started_at is not None,
        is_unreachable=row.unreachable_at is not None,
        outcome=row.outcome,
        exit_code=row.exit_code,
        error=row.error_code,
    )


def _queue(row: AnyRow) -> QueueState:
    counts = {tally.value: getattr(row, tally.value) for tally in Tally}
    return QueueState(row.paused, row.max_running, {name: count for name, count in counts.items() if count})


def _fact(event: EventView) -> Fact:
    error: Mapping[str, Any] = event.data.get("error") or {}
    return Fact(
        kind=event.kind,
        job_id=event.job_id,
        v=event.v,
        status=event.data.get("status"),
        attempt=event.data.get("attempt"),
        error=error.get("code"),
    )


def _ticks(moment: datetime | None) -> int | None:
    """How many ticks from now; what is a few minutes off is the time that the example took."""
    return None if moment is None else round((moment - datetime.now(UTC)).total_seconds() / TICK_S)

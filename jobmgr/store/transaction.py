"""One write transaction: the connection, its time, and what is written last: events, tallies, the wake-up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa

from jobmgr.domain.access import Caller
from jobmgr.domain.queue import Tally
from jobmgr.domain.status import Status, may_follow
from jobmgr.store.prepared import Prepared, listed
from jobmgr.store.tables import Event, Queue

# A row whatever its columns; what a statement selects stands beside it.
AnyRow: TypeAlias = sa.Row[*tuple[Any, ...]]

NOTIFY_CHANNEL = "jobmgr"
# Serialises the tail of all transactions that write events, so that numbers are visible in order of commit.
EVENT_LOCK = 0x6A6F626D6772


def about_row(row: Any, version: int) -> dict[str, Any]:
    """What an event says about the job of `row`, at this version."""
    return {"id": row.id, "job_id": row.job_id, "user": row.user, "v": version}


class Topic(StrEnum):
    """What a commit may have changed for those who wait: queued work, a due time, a wish, a site, whose an attempt is,
    who a user or an API token is, any event.
    """

    WORK = "work"
    TIME = "time"
    WISH = "wish"
    SITE = "site"
    OWNER = "owner"
    IDENTITY = "identity"
    EVENT = "event"


class Fact(NamedTuple):
    """An event before it is a row, which takes four times as much memory.

    `job` and what follows are of the job it is about, `v` its version after the change.
    """

    kind: str
    job: int | None
    job_id: str | None
    user: str
    v: int
    data: dict[str, Any]

    def row(self, at: datetime, caller: Caller | None) -> dict[str, Any]:
        """The row of the event, which happened then, because `caller` asked for it."""
        return {
            "at": at,
            "kind": self.kind,
            "job": self.job,
            "job_id": self.job_id,
            "user": self.user,
            "v": self.v,
            "data": self.data,
            "actor": None if caller is None else caller.principal.name,
            "origin": None if caller is None else caller.origin,
        }


@dataclass(slots=True)
class Transaction:
    """What statement functions get. They add facts here; `finish` writes them at the end, in fixed order.

    `caller` is who asked for what is being written; None: the service itself, which may do everything.
    """

    connection: sa.Connection
    now: datetime
    sender: str = ""
    caller: Caller | None = None
    events: list[tuple[Caller | None, Iterable[Fact]]] = field(default_factory=list)
    tallies: Counter[tuple[str, Tally]] = field(default_factory=Counter)
    topics: set[Topic] = field(default_factory=set)

    @property
    def is_postgresql(self) -> bool:
        """Whether rows must be locked one by one; SQLite has one writer, so nothing else changes them."""
        return self.connection.dialect.name == "postgresql"

    def record(self, kind: str, job: Mapping[str, Any] | None, **data: Any) -> None:
        """Add an event about `job`, which needs `id`, `job_id`, `user` and `v` (the version after the change)."""
        if job is None:
            fact = Fact(kind, None, None, "", 0, data)
        else:
            fact = Fact(kind, job["id"], job["job_id"], job["user"], job["v"], data)
        self.record_all((fact,))

    def record_all(self, facts: Iterable[Fact]) -> None:
        """Add events that are made one by one when they are written."""
        self.events.append((self.caller, facts))

    def move(self, queue: str, old: Status | str | None, new: Status | str | None) -> None:
        """Count one job of `queue` out of `old` and into `new`. Every change of a status passes here and is judged."""
        if old is not None and new is not None and not may_follow(Status(old), Status(new)):
            raise AssertionError(f"a job cannot go from {old} to {new}")
        if old is not None:
            self.tallies[queue, Tally.of(Status(old))] -= 1
        if new is not None:
            self.tallies[queue, Tally.of(Status(new))] += 1
        if new == Status.QUEUED:
            self.topics.add(Topic.WORK)
        elif new == Status.PENDING:
            self.topics.add(Topic.TIME)

    def finish(self) -> None:
        """Write tallies, then events behind their lock: the last statements of all."""
        self._write_tallies()
        if not self.events:
            return
        self.topics.add(Topic.EVENT)
        if self.is_postgresql:
            # The server notifies when it has committed.
            _LOCK_AND_NOTIFY.rows(self.connection, {"sender": self.sender})
        _INSERT_EVENTS.run(
            self.connection, (fact.row(self.now, caller) for caller, facts in self.events for fact in facts)
        )

    def _write_tallies(self) -> None:
        moved: dict[str, dict[str, int]] = {}
        for (queue, tally), delta in self.tallies.items():
            if delta:
                moved.setdefault(queue, {})[tally.value] = delta
        # In order of name, so that two services never wait for each other's rows crosswise.
        rows = [
            {"of_queue": queue, **{f"by_{tally.value}": deltas.get(tally.value, 0) for tally in Tally}}
            for queue, deltas in sorted(moved.items())
        ]
        _ADD_TALLIES.run(self.connection, rows)
        self._wake_limited([queue for queue, deltas in moved.items() if deltas.get(Tally.LIVE, 0) < 0])

    def _wake_limited(self, queues: Sequence[str]) -> None:
        # Where live jobs are limited in number, the end of one lets another start.
        if queues and _LIMITED_BACKLOG.rows(self.connection, {"of_queues": queues}):
            self.topics.add(Topic.WORK)


_LOCK_AND_NOTIFY = Prepared(
    sa.select(
        sa.func.pg_advisory_xact_lock(EVENT_LOCK).label("locked"),
        sa.func.pg_notify(NOTIFY_CHANNEL, sa.bindparam("sender")).label("notified"),
    )
)
_INSERT_EVENTS = Prepared(
    sa.insert(Event), ("at", "kind", "job", "job_id", "user", "v", "data", "actor", "origin")
)
_ADD_TALLIES = Prepared(
    sa.update(Queue)
    .where(Queue.name == sa.bindparam("of_queue"))
    .values({tally.value: getattr(Queue, tally.value) + sa.bindparam(f"by_{tally.value}") for tally in Tally})
)
_LIMITED_BACKLOG = Prepared(
    sa.select(Queue.name).where(
        listed(Queue.name, "of_queues"), Queue.max_running.is_not(None), Queue.queued > sa.literal_column("0")
    )
)

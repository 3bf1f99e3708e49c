"""Who is known to a database: dispatchers, live attempts, and whether it has ever heard of others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from jobmgr.domain.site import LOCAL
from jobmgr.store.dispatchers import Identity, identity_of
from jobmgr.store.portion import portions
from jobmgr.store.tables import Attempt, Dispatcher, Event, Job


@dataclass(frozen=True, slots=True)
class Registered:
    """A dispatcher that has not said goodbye or still has live attempts (`live` is how many)."""

    identity: Identity
    heartbeat: int
    started_at: datetime
    has_stopped: bool
    live: int


@dataclass(frozen=True, slots=True)
class LiveAttempt:
    """An attempt without an end. `work_dir` is its run directory once its start was seen."""

    job_id: str
    number: int
    token: str
    dispatcher: str
    claimed_at: datetime
    work_dir: str | None


@dataclass(frozen=True, slots=True)
class Census:
    """One consistent look; empty as it would be without a database.

    `ended` and `known` are about those that were asked for, see the functions.
    """

    registered: Sequence[Registered] = ()
    live: Sequence[LiveAttempt] = ()
    ended: Mapping[str, bool] = field(default_factory=dict)
    known: AbstractSet[tuple[str, int]] = frozenset()
    newest_event: datetime | None = None


def take(connection: sa.Connection, tokens: Sequence[str], attempts: Collection[tuple[str, int]]) -> Census:
    """All of it in one transaction."""
    return Census(
        registered(connection),
        live_attempts(connection),
        ended(connection, tokens),
        known(connection, attempts),
        newest_event(connection),
    )


def registered(connection: sa.Connection) -> list[Registered]:
    """All such dispatchers, oldest first."""
    live = (
        sa.select(Attempt.dispatcher, sa.func.count().label("live"))
        .where(Attempt.finished_at.is_(None))
        .group_by(Attempt.dispatcher)
        .subquery()
    )
    count = sa.func.coalesce(live.c.live, 0)
    statement = (
        sa.select(*Dispatcher.__table__.c, count.label("live"))
        .outerjoin(live, live.c.dispatcher == Dispatcher.id)
        .where(sa.or_(Dispatcher.stopped_at.is_(None), count > 0))
        .order_by(Dispatcher.started_at)
    )
    return [
        Registered(
            identity_of(row),
            row.heartbeat,
            row.started_at,
            row.stopped_at is not None,
            row.live,
        )
        for row in connection.execute(statement)
    ]


def heartbeats(connection: sa.Connection) -> dict[str, int]:
    """The counters of dispatchers that have not said goodbye, by id."""
    statement = sa.select(Dispatcher.id, Dispatcher.heartbeat).where(Dispatcher.stopped_at.is_(None))
    return {row.id: row.heartbeat for row in connection.execute(statement)}


def live_attempts(connection: sa.Connection) -> list[LiveAttempt]:
    """All live attempts that keepers of ours hold, in the order of their jobs' submission."""
    statement = (
        sa.select(
            Job.job_id,
            Attempt.number,
            Attempt.token,
            Attempt.dispatcher,
            Attempt.claimed_at,
            Attempt.work_dir,
        )
        .join(Job, Job.id == Attempt.job)
        .where(Attempt.finished_at.is_(None), Job.site == LOCAL)
        .order_by(Attempt.job)
    )
    return [LiveAttempt(**row._mapping) for row in connection.execute(statement)]


def ended(connection: sa.Connection, tokens: Sequence[str]) -> dict[str, bool]:
    """Whether the attempts with these tokens have ended; those that the database does not know are left out."""
    found = {}
    for part in portions(tokens):
        statement = sa.select(Attempt.token, Attempt.finished_at).where(Attempt.token.in_(part))
        found.update({row.token: row.finished_at is not None for row in connection.execute(statement)})
    return found


def known(connection: sa.Connection, attempts: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of these attempts (job id and number) that have a row."""
    found: set[tuple[str, int]] = set()
    for part in portions(sorted({job_id for job_id, _ in attempts})):
        statement = (
            sa.select(Job.job_id, Attempt.number).join(Job, Job.id == Attempt.job).where(Job.job_id.in_(part))
        )
        found.update((row.job_id, row.number) for row in connection.execute(statement))
    return found


def newest_event(connection: sa.Connection) -> datetime | None:
    """When the last event was written, by the clock of who wrote it; None if there is none."""
    return connection.execute(sa.select(Event.at).order_by(Event.seq.desc()).limit(1)).scalar()

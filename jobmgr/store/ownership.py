"""Statements on whose the live attempts are: adoption, what nobody can reach, and a user's word about that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from jobmgr.domain.job import Job as JobView
from jobmgr.domain.job import JobError
from jobmgr.domain.outcome import LOST, End, Outcome
from jobmgr.domain.site import LOCAL
from jobmgr.domain.status import Status
from jobmgr.errors import IllegalTransition
from jobmgr.store import attempts, fence, jobs, listing
from jobmgr.store.claims import Claimed, load_adopted
from jobmgr.store.fence import Key
from jobmgr.store.portion import portions
from jobmgr.store.tables import Attempt, Job
from jobmgr.store.transaction import AnyRow, Topic, Transaction, about_row


@dataclass(frozen=True, slots=True)
class Adoption:
    """A wish to take over what `formers` have at these sites: on this machine, unless foreign queues are named."""

    owner: str
    formers: Sequence[str]
    sites: Sequence[str] = (LOCAL,)


def adopt(tx: Transaction, wishes: Sequence[Adoption]) -> list[list[Claimed]]:
    """Take over live attempts of other dispatchers. Raises the leases.

    Whatever the former owners still write is refused by the fence.
    """
    return [_adopt(tx, wish) for wish in wishes]


# Looked up by key for each of a few attempts: there is no index of jobs by site.
_SITE = sa.select(Job.site).where(Job.id == Attempt.job).scalar_subquery()


def _adopt(tx: Transaction, wish: Adoption) -> list[Claimed]:
    taken: list[int] = []
    for portion in portions(wish.formers):
        statement = (
            sa.update(Attempt)
            .where(Attempt.dispatcher.in_(portion), Attempt.finished_at.is_(None), _SITE.in_(wish.sites))
            .values(dispatcher=wish.owner, lease=Attempt.lease + 1)
            .returning(Attempt.job)
        )
        taken += tx.connection.execute(statement).scalars()
    return load_adopted(tx.connection, sorted(taken))


_OF_DISPATCHER = sa.select(Attempt.token, Attempt.unreachable_at.is_not(None).label("is_unreachable")).where(
    Attempt.dispatcher == sa.bindparam("of_dispatcher"), Attempt.finished_at.is_(None)
)


def of_dispatcher(connection: sa.Connection, dispatcher: str) -> dict[str, bool]:
    """The live attempts of a dispatcher by token, and whether they are marked as unreachable."""
    rows = connection.execute(_OF_DISPATCHER, {"of_dispatcher": dispatcher})
    return {row.token: bool(row.is_unreachable) for row in rows}


def reclaim(tx: Transaction, wishes: Sequence[tuple[str, Sequence[str]]]) -> list[list[Claimed]]:
    """Raise the leases of live attempts of one's own: `(owner, tokens)`; answers those that still are."""
    return [_reclaim(tx, owner, tokens) for owner, tokens in wishes]


def _reclaim(tx: Transaction, owner: str, tokens: Sequence[str]) -> list[Claimed]:
    kept: list[int] = []
    for portion in portions(tokens):
        statement = (
            sa.update(Attempt)
            .where(Attempt.token.in_(portion), Attempt.dispatcher == owner, Attempt.finished_at.is_(None))
            .values(lease=Attempt.lease + 1)
            .returning(Attempt.job)
        )
        kept += tx.connection.execute(statement).scalars()
    return load_adopted(tx.connection, sorted(kept))


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Nobody can say now what became of an attempt, and why not."""

    key: Key
    why: str


def unreachable(tx: Transaction, sightings: Sequence[Unreachable]) -> list[bool]:
    """Record since when attempts cannot be reached. False: the attempt is not the caller's any more."""
    held = fence.fenced(tx, [item.key for item in sightings])
    # Of one attempt the first reason stands.
    for key, why in {item.key: item.why for item in reversed(sightings)}.items():
        row = held.get(key)
        if row is not None and row.unreachable_at is None:
            _mark_unreachable(tx, row, why)
    return [item.key in held for item in sightings]


def unattended(tx: Transaction, dispatchers: Sequence[str]) -> list[None]:
    """Record that nobody looks after the live attempts of these dispatchers, which are silent and elsewhere."""
    for portion in portions(dispatchers):
        for row in fence.live_rows(tx, Attempt.dispatcher.in_(portion), Attempt.unreachable_at.is_(None)):
            _mark_unreachable(tx, row, f"its service (dispatcher {row.dispatcher}) has gone silent")
    return [None] * len(dispatchers)


def reachable(tx: Transaction, keys: Sequence[Key]) -> list[bool]:
    """Take that back. False: the attempt is not the caller's any more."""
    held = fence.fenced(tx, keys)
    for row in held.values():
        if row.unreachable_at is not None:
            attempts.mark_reachable(tx, row)
    return [key in held for key in keys]


def _mark_unreachable(tx: Transaction, row: AnyRow, why: str) -> None:
    attempts.set_unreachable(tx, row, tx.now)
    jobs.change(tx, row, "unreachable", {"attempt": row.number, "reason": why})


@dataclass(frozen=True, slots=True)
class AssumeDead:
    """A user's word that the unreachable attempt of a job is dead."""

    job_id: str
    user: str


def retry_assuming_dead(tx: Transaction, wishes: Sequence[AssumeDead]) -> list[JobView]:
    """End unreachable attempts as lost, on the user's word, and queue their jobs for another attempt.

    Raises IllegalTransition if the job's attempt is not unreachable.
    """
    for wish in wishes:
        job = jobs.locked(tx, [wish.job_id])[wish.job_id]
        # Of one job at most one attempt is live.
        row = next(iter(fence.live_rows(tx, Attempt.job == job.id)), None)
        if row is None or row.unreachable_at is None:
            raise IllegalTransition(job.job_id, job.status, "assumed dead; it has no unreachable attempt")
        tx.record(
            "assumed_dead",
            about_row(row, row.v),
            status=row.status,
            attempt=row.number,
            by=wish.user,
        )
        since = f"{row.unreachable_at:%Y-%m-%d %H:%M:%S} UTC"
        message = f"{wish.user} said that it is dead; it was unreachable since {since}"
        end = End(error=JobError("assumed_dead", message), lost=True)
        attempts.finish(tx, [_ending(row, end, tx.now)])
        jobs.retry(tx, [wish.job_id])
        tx.topics.add(Topic.OWNER)
    return listing.get(tx.connection, [wish.job_id for wish in wishes])


def _ending(row: AnyRow, end: End, now: datetime) -> attempts.Finish:
    return attempts.Finish(
        key=Key.of(row),
        end=end,
        decide=lambda _rules, _now: Outcome(Status.FAILED, LOST, end.error),
        started_at=None,
        finished_at=now,
        work_dir=row.work_dir,
    )

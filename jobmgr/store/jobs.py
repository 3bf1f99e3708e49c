"""Statements on waiting and ended jobs: cancel, retry, hold, change, delete.

Batch functions of `Database.write`: each takes what waits and answers item by item; the verbs on one job answer
the job as it is in their own commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from jobmgr.domain import access
from jobmgr.domain.access import Verb
from jobmgr.domain.job import Job as JobView
from jobmgr.domain.site import LOCAL
from jobmgr.domain.status import STARTED, UNSTARTED, WAITING, Status, waiting_status
from jobmgr.errors import IllegalTransition, JobNotFound
from jobmgr.store import dependencies, listing
from jobmgr.store.tables import Attempt, Job, JobTag, Spec
from jobmgr.store.transaction import AnyRow, Topic, Transaction, about_row

_INSERT_TAGS = sa.insert(JobTag)


def locked(tx: Transaction, job_ids: Sequence[str], verb: Verb = Verb.CHANGE) -> dict[str, AnyRow]:
    """The rows of these jobs, locked until the commit, in order of submission, for what `verb` says.

    Raises JobNotFound, and AccessDenied if whoever asks may see a job, but not do this.
    """
    statement = sa.select(*Job.__table__.c).where(Job.job_id.in_(set(job_ids))).order_by(Job.id)
    if tx.is_postgresql:
        statement = statement.with_for_update()
    rows = {row.job_id: row for row in tx.connection.execute(statement)}
    for job_id in job_ids:
        if job_id not in rows:
            raise JobNotFound(job_id)
        if tx.caller is not None:
            access.check(tx.caller.principal, verb, rows[job_id])
    return rows


def change(
    tx: Transaction, row: AnyRow, kind: str, shown: Mapping[str, Any] | None = None, **values: Any
) -> None:
    """Set columns of a locked job, count its status along, and record the event `kind`.

    The event carries the status and `shown`.
    """
    status = Status(values.get("status", row.status))
    tx.connection.execute(sa.update(Job).where(Job.id == row.id).values(v=row.v + 1, **values))
    if status != row.status:
        tx.move(row.queue, row.status, status)
    tx.record(kind, about_row(row, row.v + 1), status=status, **(shown or {}))


def _each(
    apply: Callable[[Transaction, AnyRow], None], tx: Transaction, job_ids: Sequence[str]
) -> list[JobView]:
    # One after the other, each on a fresh row: the same job may be named twice in a batch.
    for job_id in job_ids:
        apply(tx, locked(tx, [job_id])[job_id])
    return listing.get(tx.connection, job_ids)


def cancel(tx: Transaction, job_ids: Sequence[str]) -> list[JobView]:
    """End what nobody has claimed; store the wish on what is live. Ended jobs stay as they are."""
    return _each(_cancel, tx, job_ids)


def _cancel(tx: Transaction, row: AnyRow) -> None:
    status = Status(row.status)
    if status.is_terminal or row.cancel_requested_at is not None:
        return
    if status.is_live:
        tx.topics.add(Topic.WISH)
        change(tx, row, "cancel_requested", cancel_requested_at=tx.now)
        return
    end_unclaimed(tx, row, Status.CANCELLED, "cancelled", "cancelled on request")


def end_unclaimed(tx: Transaction, row: AnyRow, status: Status, code: str, message: str) -> None:
    """End a waiting job without a run, and with it what can never run now."""
    change(
        tx,
        row,
        status.value,
        {"finished_at": tx.now, "error": {"code": code, "message": message}},
        status=status.value,
        finished_at=tx.now,
        error_code=code,
        error_message=message,
        pause_requested_at=None,
    )
    dependencies.resolve(tx, [(row.id, status)])


def pause(tx: Transaction, job_ids: Sequence[str]) -> list[JobView]:
    """Store the wish to stop a live job where it is. Raises IllegalTransition for one that waits or has ended."""
    return _each(_pause, tx, job_ids)


def _pause(tx: Transaction, row: AnyRow) -> None:
    if not Status(row.status).is_live:
        raise IllegalTransition(row.job_id, row.status, "paused; `hold` keeps a waiting job from starting")
    if row.pause_requested_at is None:
        tx.topics.add(Topic.WISH)
        change(tx, row, "pause_requested", pause_requested_at=tx.now, resume_untold=None)


def resume(tx: Transaction, job_ids: Sequence[str]) -> list[JobView]:
    """Take the wish to pause back, or wish that what a foreign queue suspended goes on. Others stay as they are."""
    return _each(_resume, tx, job_ids)


def _resume(tx: Transaction, row: AnyRow) -> None:
    is_suspended = row.status == Status.PAUSED and row.site != LOCAL and row.resume_untold is None
    if row.pause_requested_at is None and not is_suspended:
        return
    tx.topics.add(Topic.WISH)
    # Nothing was paused before its start, and here the status alone tells what is to be done.
    is_told = row.site == LOCAL or Status(row.status) not in STARTED
    untold = None if is_told else row.v + 1
    change(tx, row, "resume_requested", pause_requested_at=None, resume_untold=untold)


def retry(tx: Transaction, job_ids: Sequence[str]) -> list[JobView]:
    """Put ended jobs back in their queues for a new attempt. Raises IllegalTransition if one has not ended,
    or depends on a job that ended otherwise than it requires, be it deleted since.
    """
    return _each(_retry, tx, job_ids)


def _retry(tx: Transaction, row: AnyRow) -> None:
    if not Status(row.status).is_terminal:
        raise IllegalTransition(row.job_id, row.status, "retried before it has ended")
    reopened = dependencies.reopen(tx, row)
    if reopened.has_forgotten:
        what = "retried: a job that it depends on ended otherwise than is required and was deleted; submit it anew"
        raise IllegalTransition(row.job_id, row.status, what)
    if reopened.failed:
        what = f"retried: it depends on {', and on '.join(reopened.failed[:5])}; retry that first"
        raise IllegalTransition(row.job_id, row.status, what)
    _requeue(
        tx,
        row,
        "retrying",
        deps_left=reopened.open_count,
        draft=False,
        held_at=None,
        due_at=None,
        cancel_requested_at=None,
        # A user's retry is a fresh budget.
        attempts_counted=0,
        exit_code=None,
        error_code=None,
        error_message=None,
        started_at=None,
        finished_at=None,
        handle=None,
    )


def _requeue(tx: Transaction, row: AnyRow, kind: str, **values: Any) -> None:
    columns = {
        name: values.get(name, getattr(row, name)) for name in ("draft", "held_at", "due_at", "deps_left")
    }
    status = waiting_status(**columns, now=tx.now)
    if status is Status.QUEUED:
        values["queued_at"] = tx.now
    else:
        # It may wait for its time alone now, though it was pending before.
        tx.topics.add(Topic.TIME)
    change(tx, row, kind, status=status.value, **values)


def hold(tx: Transaction, job_ids: Sequence[str]) -> list[JobView]:
    """Keep waiting jobs from starting: those in our queues at once, those in foreign queues as a wish.

    Raises IllegalTransition for one that runs, is about to here, or has ended.
    """
    return _each(_hold, tx, job_ids)


def _hold(tx: Transaction, row: AnyRow) -> None:
    if Status(row.status) not in WAITING and not _waits_elsewhere(row):
        what = "held; `pause` stops what runs" if Status(row.status).is_live else "held"
        raise IllegalTransition(row.job_id, row.status, what)
    if row.held_at is not None:
        return
    if _waits_elsewhere(row):
        tx.topics.add(Topic.WISH)
        change(tx, row, "hold_requested", held_at=tx.now, hold_untold=row.v + 1)
    else:
        change(tx, row, "held", status=Status.PENDING.value, held_at=tx.now)


def _waits_elsewhere(row: AnyRow) -> bool:
    """Whether it is in a foreign queue, or on the way there."""
    return row.site != LOCAL and Status(row.status) in UNSTARTED


def release(tx: Transaction, job_ids: Sequence[str]) -> list[JobView]:
    """Undo a hold. Jobs that are not held stay as they are; raises IllegalTransition for a draft."""
    return _each(_release, tx, job_ids)


def _release(tx: Transaction, row: AnyRow) -> None:
    if row.draft and row.held_at is None and Status(row.status) is Status.PENDING:
        raise IllegalTransition(row.job_id, row.status, "released: it is a draft; `execute` queues it")
    # A job that ended while it was held keeps the mark.
    if row.held_at is not None and Status(row.status) is Status.PENDING:
        _requeue(tx, row, "unheld", held_at=None)
    elif row.held_at is not None and _waits_elsewhere(row):
        # Also if that queue was not told of the hold yet: it may have been, without our knowing.
        tx.topics.add(Topic.WISH)
        # SLURM forgets a job's rank when it releases it.
        rank = row.v + 1 if row.priority else row.priority_untold
        change(tx, row, "release_requested", held_at=None, hold_untold=row.v + 1, priority_untold=rank)


def execute(tx: Transaction, job_ids: Sequence[str]) -> list[JobView]:
    """Queue drafts. Raises IllegalTransition for a job that is none."""
    return _each(_execute, tx, job_ids)


def _execute(tx: Transaction, row: AnyRow) -> None:
    if not row.draft or Status(row.status) is not Status.PENDING:
        raise IllegalTransition(row.job_id, row.status, "executed; it is not a draft")
    _requeue(tx, row, "queued", draft=False)


@dataclass(frozen=True, slots=True)
class Change:
    """New values for what may change on a stored job: columns, and tags if not None."""

    job_id: str
    values: Mapping[str, Any]
    tags: tuple[str, ...] | None = None
    kind: str = "changed"


def update(tx: Transaction, changes: Sequence[Change]) -> list[JobView]:
    """Change names, priorities, tags and the like. A priority cannot change once the job has ended."""
    for wanted in changes:
        verb = Verb.CHANGE if "priority" in wanted.values else Verb.REPORT
        row = locked(tx, [wanted.job_id], verb)[wanted.job_id]
        if "priority" in wanted.values and Status(row.status).is_terminal:
            raise IllegalTransition(row.job_id, row.status, "given another priority")
        if wanted.tags is not None:
            tx.connection.execute(sa.delete(JobTag).where(JobTag.job == row.id))
            if wanted.tags:
                tx.connection.execute(_INSERT_TAGS, [{"job": row.id, "tag": tag} for tag in wanted.tags])
        shown = dict(wanted.values) if wanted.tags is None else {**wanted.values, "tags": wanted.tags}
        change(tx, row, wanted.kind, shown, **wanted.values, **_untold(tx, row, wanted))
    return listing.get(tx.connection, [wanted.job_id for wanted in changes])


def _untold(tx: Transaction, row: AnyRow, wanted: Change) -> dict[str, Any]:
    if wanted.values.get("priority", row.priority) == row.priority or not _waits_elsewhere(row):
        return {}
    tx.topics.add(Topic.WISH)
    return {"priority_untold": row.v + 1}


def move(tx: Transaction, job_id: str, queue: str) -> None:
    """Put a job that has not been claimed into another queue, which there is."""
    row = locked(tx, [job_id])[job_id]
    tx.move(row.queue, row.status, None)
    tx.move(queue, None, row.status)
    change(tx, row, "changed", {"queue": queue}, queue=queue)


def delete(tx: Transaction, job_ids: Sequence[str]) -> list[dict[int, str]]:
    """Forget ended jobs with their attempts, and answer the tokens of those by number.

    Raises IllegalTransition for a job that has not ended.
    """
    return [_delete(tx, locked(tx, [job_id])[job_id]) for job_id in job_ids]


def _delete(tx: Transaction, row: AnyRow) -> dict[int, str]:
    if not Status(row.status).is_terminal:
        raise IllegalTransition(row.job_id, row.status, "deleted before it has ended")
    tried = sa.select(Attempt.number, Attempt.token).where(Attempt.job == row.id)
    tokens = {attempt.number: attempt.token for attempt in tx.connection.execute(tried)}
    for table in (Spec, Attempt, JobTag):
        tx.connection.execute(sa.delete(table).where(table.job == row.id))
    dependencies.forget(tx, row.id, Status(row.status))
    tx.connection.execute(sa.delete(Job).where(Job.id == row.id))
    tx.move(row.queue, row.status, None)
    tx.record("deleted", about_row(row, row.v + 1), status=row.status)
    return tokens

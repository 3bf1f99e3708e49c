"""Statements that take pending jobs to their queues."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from jobmgr.domain.status import Status
from jobmgr.store.portion import portions
from jobmgr.store.tables import Job
from jobmgr.store.transaction import Transaction, about_row


class _Likely(sa.sql.functions.GenericFunction[Any]):
    """A condition that selects no index by itself, where a planner without statistics would let it.

    SQLite takes an equality for a rare one until somebody runs ANALYZE, and would read and sort all pending jobs.
    """

    name = "likely"
    # A boolean one would be compared with 1, and be no condition of the index then.
    type = sa.types.NullType()
    inherit_cache = True


@compiles(_Likely, "postgresql")
def _as_it_is(element: _Likely, compiler: sa.sql.compiler.SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clause_expr, **options)


# A literal, because a bound value does not match the condition of the index in a prepared plan.
_WAITS_FOR_ITS_TIME = (
    _Likely(Job.status == sa.literal_column("'pending'")),
    Job.due_at.is_not(None),
    ~Job.draft,
    Job.held_at.is_(None),
    Job.deps_left == 0,
)
_DUE = (
    sa.select(Job.id)
    .where(*_WAITS_FOR_ITS_TIME, Job.due_at <= sa.bindparam("now"))
    .order_by(Job.due_at)
    .limit(sa.bindparam("at_most"))
)


def promote_due(tx: Transaction, limits: Sequence[int]) -> list[int]:
    """Queue jobs whose time has come, at most `limit`; answers how many."""
    answers = []
    for limit in limits:
        statement = _DUE.with_for_update(skip_locked=True) if tx.is_postgresql else _DUE
        ids = list(tx.connection.execute(statement, {"now": tx.now, "at_most": limit}).scalars())
        if ids:
            queue_waiting(tx, ids)
        answers.append(len(ids))
    return answers


_QUEUE = (
    sa.update(Job)
    .where(Job.id.in_(sa.bindparam("ids", expanding=True)), Job.status == sa.literal_column("'pending'"))
    .values(status=Status.QUEUED.value, queued_at=sa.bindparam("now"), v=Job.v + 1)
    .returning(Job.id, Job.job_id, Job.user, Job.v, Job.queue, Job.name, Job.priority)
)


def queue_waiting(tx: Transaction, ids: Sequence[int]) -> None:
    """Queue locked pending jobs that nothing holds back any more."""
    for portion in portions(sorted(ids)):
        rows = tx.connection.execute(_QUEUE, {"ids": portion, "now": tx.now})
        for row in sorted(rows, key=lambda row: int(row.id)):
            tx.move(row.queue, Status.PENDING, Status.QUEUED)
            about = about_row(row, row.v)
            tx.record(
                "queued", about, status=Status.QUEUED, name=row.name, queue=row.queue, priority=row.priority
            )


def next_due(connection: sa.Connection) -> datetime | None:
    """When the next pending job is due, if any waits for its time alone."""
    return connection.execute(
        sa.select(sa.func.min(Job.due_at, type_=Job.due_at.type)).where(*_WAITS_FOR_ITS_TIME)
    ).scalar()

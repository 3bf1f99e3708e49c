"""The fence: who writes about a live attempt shows its token and lease, and is compared with the locked row.

The fence is a locking read: rows are read and locked, token and lease are compared, and only what still belongs to
the caller is written, in the same transaction. Events and tallies are made from the rows read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from jobmgr.store.prepared import Prepared, listed
from jobmgr.store.tables import Attempt, Job, Spec
from jobmgr.store.transaction import AnyRow, Transaction


@dataclass(frozen=True, slots=True)
class Key:
    """The right to write about one attempt."""

    job: int
    number: int
    token: str
    lease: int

    @classmethod
    def of(cls, row: AnyRow) -> Key:
        """That of the attempt of this row, as it is now."""
        return cls(row.job, row.number, row.token, row.lease)


# Columns of all three rows; labels keep apart what is called alike.
_COLUMNS = sa.select(
    Attempt.job,
    Attempt.number,
    Attempt.token,
    Attempt.lease,
    Attempt.dispatcher,
    Attempt.work_dir,
    Attempt.unreachable_at,
    Attempt.handle,
    Attempt.started_at.label("attempt_started_at"),
    Job.id,
    Job.job_id,
    Job.user,
    Job.queue,
    Job.site,
    Job.status,
    Job.v,
    Job.attempts_counted,
    Job.cancel_requested_at,
    Job.pause_requested_at,
    Job.held_at,
    Job.hold_untold,
    Job.priority_untold,
    Job.resume_untold,
    Job.started_at,
    Spec.max_attempts,
    Spec.backoff_s,
    Spec.retry_on,
    Spec.growth,
    Spec.on_lost,
    Spec.exit_codes,
)
# SQLite has one writer at a time, so a read inside its transaction is a lock already.
_LIVE = (
    _COLUMNS.join(Job, Job.id == Attempt.job)
    .join(Spec, Spec.job == Attempt.job)
    .where(Attempt.finished_at.is_(None))
    .order_by(Attempt.job)
    .with_for_update(of=[Attempt, Job])
)
_FENCED = Prepared(_LIVE.where(listed(Attempt.job, "jobs")))


def fenced(tx: Transaction, keys: Sequence[Key]) -> dict[Key, AnyRow]:
    """The locked rows of those attempts that are still the callers', by the key that may write about them.

    By the whole key, because an old and the new right to the same attempt may stand in one batch.
    """
    wanted = set(keys)
    jobs = sorted({key.job for key in keys})
    held: dict[Key, AnyRow] = {}
    for row in _FENCED.rows(tx.connection, {"jobs": jobs}) if jobs else ():
        key = Key.of(row)
        if key in wanted:
            held[key] = row
    return held


def live_rows(tx: Transaction, *conditions: sa.ColumnElement[bool]) -> list[AnyRow]:
    """The same rows, locked, of all live attempts that meet these conditions, whosever they are."""
    return list(tx.connection.execute(_LIVE.where(*conditions)))

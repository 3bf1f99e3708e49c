"""Statements on jobs that were made of something: to store one under the id that it brought along, and to read many
with what they were made of, as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from jobmgr.domain.access import Sight
from jobmgr.domain.job import Job as JobView
from jobmgr.domain.job import NewJob
from jobmgr.domain.site import LOCAL
from jobmgr.domain.status import TERMINAL, Status
from jobmgr.errors import AccessDenied, JobExists, JobNotFound, SimulationExists
from jobmgr.hfss.status import WORDS
from jobmgr.store import jobs, listing, submissions
from jobmgr.store.jobs import Change
from jobmgr.store.prepared import Prepared, listed
from jobmgr.store.tables import Job, Spec
from jobmgr.store.transaction import AnyRow, Transaction
from jobmgr.store.view import travelling
from jobmgr.wire.pyedb import SimulationShown

_LATELY = 1000
_ENDED = sorted(status.value for status in TERMINAL)

_KNOWN = Prepared(
    sa.select(Job.job_id, Job.kind, Spec.payload)
    .join(Spec, Spec.job == Job.id)
    .where(listed(Job.job_id, "job_ids"))
)


def submit(tx: Transaction, asked: Sequence[NewJob]) -> list[JobView]:
    """Store jobs under ids that were chosen before, and answer them as they are then.

    One that is there already, made of the same, stays as it is while it lives; once it has ended it is run again, in
    the queue and with the priority that are asked for now. Raises SimulationExists if it is made of something else, and
    what `submissions.insert` raises.
    """
    ids = [job.job_id for job in asked]
    known = {row.job_id: row for row in _KNOWN.rows(tx.connection, {"job_ids": ids})}
    new = [job for job in asked if job.job_id not in known]
    if new:
        submissions.insert(tx, [new])
    for job in asked:
        if job.job_id in known:
            _again(tx, known[job.job_id], job)
    return listing.get(tx.connection, ids)


def _again(tx: Transaction, known: AnyRow, job: NewJob) -> None:
    # Under the lock that a retry takes: the end of the run may be in this same commit.
    try:
        row = jobs.locked(tx, [job.job_id])[job.job_id]
    except (JobNotFound, AccessDenied):
        # Another user's, of which no more is told than that the id is taken.
        raise JobExists(job.job_id) from None
    one, other = _made_of(known.payload), _made_of(job.payload)
    if known.kind != job.kind or one != other:
        raise SimulationExists(job.job_id, _different(one, other))
    if not Status(row.status).is_terminal:
        return
    jobs.retry(tx, [job.job_id])
    if row.priority != job.priority:
        jobs.update(tx, [Change(job.job_id, {"priority": job.priority}, kind="priority")])
    if row.queue != job.queue:
        submissions.check_queues(tx, [job])
        jobs.move(tx, job.job_id, job.queue)


def _made_of(payload: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a simulation depends on: it is told no `temp_directory`, which is another one in each session by default."""
    if payload is None:
        return {}
    options = payload.get("layout_options")
    if not isinstance(options, Mapping):
        return payload
    return {**payload, "layout_options": {**options, "temp_directory": None}}


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> Sequence[str]:
    found: list[str] = []
    for name in sorted({*one, *other} if one and other else ()):
        first, second = one.get(name), other.get(name)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            found += [f"{name}.{inner}" for inner in _different(first, second)]
        elif first != second:
            found.append(name)
    return found


def payload(connection: sa.Connection, job_id: str) -> tuple[str | None, Any]:
    """The kind of a job, and what it was made of. Raises JobNotFound."""
    row = connection.execute(
        sa.select(Job.kind, Spec.payload).join(Spec, Spec.job == Job.id).where(Job.job_id == job_id)
    ).one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    return row.kind, row.payload


_SHOWN = (
    sa.select(
        # The fields of the answer in their order.
        Job.job_id,
        Job.status,
        Job.status.label("state"),
        Job.priority,
        Job.user,
        Job.name,
        Job.site,
        travelling(Job.started_at).label("start_time"),
        travelling(Job.finished_at).label("end_time"),
        Job.exit_code,
        # Of a job of this machine it names a process.
        sa.case((Job.site == sa.literal_column(f"'{LOCAL}'"), sa.null()), else_=Job.handle).label("handle"),
        Job.error_message,
        sa.cast(Spec.payload, sa.Text).label("config"),
        Job.id,
    )
    .join(Spec, Spec.job == Job.id)
    .where(Job.id > sa.bindparam("after", type_=Job.id.type))
    .order_by(Job.id)
    .limit(sa.bindparam("at_most"))
)
_PAGE = Prepared(_SHOWN)
_PAGE_OF = Prepared(_SHOWN.where(listed(Job.user, "users")))
_ONE = Prepared(_SHOWN.where(Job.job_id == sa.bindparam("only")))


def page(
    connection: sa.Connection, after: int, at_most: int, sight: Sight
) -> tuple[list[SimulationShown], int | None]:
    """Those of the jobs in `sight`, in the order in which they were stored, from behind the one with the key `after`.

    And the key of the last one, None if there are no more. Configurations are as they are stored.
    """
    wanted = {"after": after, "at_most": at_most + 1}
    if sight.job_id is not None:
        rows = _ONE.rows(connection, {**wanted, "only": sight.job_id})
    elif sight.users is not None:
        rows = _PAGE_OF.rows(connection, {**wanted, "users": sorted(sight.users)})
    else:
        rows = _PAGE.rows(connection, wanted)
    return [_shown(row) for row in rows[:at_most]], rows[at_most - 1].id if len(rows) > at_most else None


def _shown(row: Any) -> SimulationShown:
    shown = SimulationShown(*row[:-1])
    shown.status = WORDS[shown.state]
    shown.start_time = _with_offset(shown.start_time)
    shown.end_time = _with_offset(shown.end_time)
    shown.config = msgspec.Raw(row.config or "{}")
    return shown


def _with_offset(moment: str | None) -> str | None:
    return None if moment is None else f"{moment[:-1]}+00:00"


def rivals(connection: sa.Connection, job: JobView) -> list[tuple[str, Mapping[str, Any]]]:
    """Other jobs of its name and user that were made of something, and of what; that were stored lately and have not
    ended, newest first. Only so many are looked through that it costs the same however many there are.
    """
    lately = sa.select(Job.id).order_by(Job.id.desc()).limit(_LATELY).subquery()
    found = connection.execute(
        sa.select(Job.job_id, Spec.payload)
        .join(lately, lately.c.id == Job.id)
        .join(Spec, Spec.job == Job.id)
        .where(
            # What others have is not to be told.
            Job.user == job.user,
            Job.name == job.name,
            Job.job_id != job.job_id,
            Job.kind.is_not(None),
            Job.status.not_in(_ENDED),
        )
        .order_by(Job.id.desc())
    )
    return [(row.job_id, row.payload) for row in found]

"""Reading jobs and attempts: one, or pages by key (no OFFSET), in one consistent state with its event position."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
import sqlalchemy as sa

from jobmgr.domain import environment
from jobmgr.domain.access import Sight
from jobmgr.domain.job import Attempt as AttemptView
from jobmgr.domain.job import Job as JobView
from jobmgr.domain.job import JobError, JobFilter, JobPage, JobSpec, OnLost, Success
from jobmgr.domain.resources import Resources
from jobmgr.domain.retry import Growth, Retry
from jobmgr.domain.status import Status
from jobmgr.errors import InvalidRequest, JobNotFound
from jobmgr.store import dependencies, selection, view
from jobmgr.store.portion import portions
from jobmgr.store.tables import Attempt, Event, Job, Spec
from jobmgr.store.view import Properties
from jobmgr.wire.answers import JobsAnswer
from jobmgr.wire.translation import to_job, to_page

ORDERS = ("-created", "created", "-priority")
MOST_COUNTED = 10_000


def get(connection: sa.Connection, job_ids: Sequence[str]) -> list[JobView]:
    """These jobs, in the order asked for. Raises JobNotFound."""
    found = {job.job_id: to_job(job) for job in view.by_id(connection, job_ids, msgspec.json.decode)}
    for job_id in job_ids:
        if job_id not in found:
            raise JobNotFound(job_id)
    return [found[job_id] for job_id in job_ids]


def page(
    connection: sa.Connection,
    wanted: JobFilter,
    order: str,
    limit: int,
    cursor: str | None,
    *,
    total: bool = False,
) -> JobPage:
    """At most `limit` jobs after `cursor`, and how many there are before and after it, if `total` asks for that.

    Raises InvalidRequest for an unknown order, too many ids, or a foreign cursor.
    """
    return to_page(
        page_answer(connection, wanted, order, limit, cursor, total=total, properties=msgspec.json.decode)
    )


def page_answer(
    connection: sa.Connection,
    wanted: JobFilter,
    order: str,
    limit: int,
    cursor: str | None,
    *,
    total: bool = False,
    properties: Properties = msgspec.Raw,
) -> JobsAnswer:
    """The same page as it travels; properties that are `Raw` can be encoded, and nothing else."""
    if order not in ORDERS:
        raise InvalidRequest("order", f"{order!r} is not one of {', '.join(ORDERS)}")
    mark = _mark(wanted, order)
    after = None if cursor is None else _decode(cursor, mark)
    rows, position = selection.rows(connection, wanted, order, after, limit + 1)
    shown = [view.answer(row, properties) for row in rows[:limit]]
    last = rows[limit - 1] if len(rows) > limit else None
    counted, is_exact = count(connection, wanted) if total else (None, None)
    return JobsAnswer(
        jobs=shown,
        next_cursor=None if last is None else _encode([last.id, last.priority], mark),
        epoch=position.epoch,
        seq=position.seq,
        total=counted,
        total_is_exact=is_exact,
    )


def count(connection: sa.Connection, wanted: JobFilter, at_most: int = MOST_COUNTED) -> tuple[int, bool]:
    """How many jobs there are, counted up to `at_most`, and whether that is all of them."""
    number = selection.count(connection, wanted, at_most + 1)
    return min(number, at_most), number <= at_most


def _mark(wanted: JobFilter, order: str) -> str:
    # A cursor continues one listing; with another filter or order it would skip or repeat jobs silently.
    parts = [
        order,
        None if wanted.status is None else sorted(wanted.status),
        wanted.ids,
        wanted.id_prefix,
        wanted.user,
        wanted.queue,
        wanted.site,
        wanted.executor,
        wanted.tag,
        wanted.name,
        None if wanted.users is None else sorted(wanted.users),
    ]
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=6).hexdigest()


def _encode(key: list[int], mark: str) -> str:
    body = msgspec.json.encode([mark, *key])
    return base64.urlsafe_b64encode(hashlib.blake2b(body, digest_size=4).digest() + body).decode().rstrip("=")


def _decode(cursor: str, mark: str) -> tuple[int, int]:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found_mark, job, priority = msgspec.json.decode(raw[4:], type=tuple[str, int, int])
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise InvalidRequest(
            "cursor", "is not a cursor of ours; use next_cursor of the page before"
        ) from None
    is_possible = 0 <= job < 2**63 and -(2**31) <= priority < 2**31
    if hashlib.blake2b(raw[4:], digest_size=4).digest() != raw[:4] or not is_possible:
        raise InvalidRequest("cursor", "was changed; use next_cursor of the page before as it is")
    if found_mark != mark:
        raise InvalidRequest("cursor", "belongs to a listing with another filter or order")
    return job, priority


def _error(code: str | None, message: str | None) -> JobError | None:
    return None if code is None else JobError(code, message or "")


_ATTEMPT_COLUMNS = (
    Job.job_id, Attempt.number, Attempt.token, Attempt.lease, Attempt.dispatcher, Attempt.counted, Attempt.outcome,
    Attempt.handle, Attempt.work_dir, Attempt.claimed_at, Attempt.started_at, Attempt.finished_at, Attempt.exit_code,
    Attempt.unreachable_at, Attempt.signal, Attempt.ended_by, Attempt.error_code, Attempt.error_message, Attempt.cpu_s,
    Attempt.peak_memory_bytes, Attempt.leftovers, Attempt.allocated_gpus.label("gpus"),
    Attempt.resources.label("grown"),
)  # fmt: skip


def attempts(connection: sa.Connection, job_id: str) -> list[AttemptView]:
    """All attempts of a job, oldest first. Raises JobNotFound."""
    job = key_of(connection, job_id)
    statement = sa.select(*_ATTEMPT_COLUMNS).join(Job, Job.id == Attempt.job).where(Attempt.job == job)
    found = []
    for row in connection.execute(statement.order_by(Attempt.number)):
        values = dict(row._mapping)
        values["error"] = _error(values.pop("error_code"), values.pop("error_message"))
        values["gpus"] = tuple(values["gpus"] or ())
        values["grown"] = Resources.of(values["grown"] or {})
        found.append(AttemptView(**values))
    return found


def run_directory(connection: sa.Connection, job_id: str, number: int) -> str | None:
    """Where an attempt was seen to run; None if it was not yet, or there is no such attempt."""
    statement = (
        sa.select(Attempt.work_dir)
        .join(Job, Job.id == Attempt.job)
        .where(Job.job_id == job_id, Attempt.number == number)
    )
    return connection.execute(statement).scalar()


def spec(connection: sa.Connection, job_id: str, sight: Sight) -> JobSpec:
    """What a job runs, for who sees what is in `sight`. Raises JobNotFound."""
    row = connection.execute(
        sa.select(*Spec.__table__.c, Job.grown).join(Job, Job.id == Spec.job).where(Job.job_id == job_id)
    ).one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    return JobSpec(
        command=tuple(row.command),
        env=environment.of(row.env),
        cwd=row.cwd,
        resources=Resources.of(row.resources),
        retry=Retry(row.max_attempts, row.backoff_s, frozenset(row.retry_on), Growth.of(row.growth)),
        on_lost=OnLost(row.on_lost),
        success=Success(tuple(row.exit_codes), tuple(row.required_files)),
        depends_on=dependencies.of(connection, row.job, sight),
        grown=Resources.of(row.grown or {}),
        payload=row.payload,
    )


@dataclass(frozen=True, slots=True)
class Owned:
    """A job, and whose it is."""

    job_id: str
    user: str


def owners(connection: sa.Connection, job_ids: Sequence[str]) -> list[Owned]:
    """Whose these jobs are. Raises JobNotFound."""
    found = {}
    for portion in portions(job_ids):
        rows = connection.execute(sa.select(Job.job_id, Job.user).where(Job.job_id.in_(portion)))
        found.update({row.job_id: Owned(row.job_id, row.user) for row in rows})
    for job_id in job_ids:
        if job_id not in found:
            raise JobNotFound(job_id)
    return [found[job_id] for job_id in job_ids]


def key_of(connection: sa.Connection, job_id: str) -> int:
    """The integer key of a job. Raises JobNotFound."""
    key = connection.execute(sa.select(Job.id).where(Job.job_id == job_id)).scalar()
    if key is None:
        raise JobNotFound(job_id)
    return int(key)


def ahead(connection: sa.Connection, job_id: str, at_most: int = 10_000) -> int:
    """How many queued jobs of the same queue and site run before this one, counted up to `at_most`."""
    row = connection.execute(
        sa.select(Job.id, Job.site, Job.queue, Job.priority).where(Job.job_id == job_id)
    ).one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    found = (
        sa.select(Job.id)
        .where(
            # As the index of claims has it, literal included: a bound value does not match its condition.
            Job.status == sa.literal_column("'queued'"),
            Job.site == row.site,
            Job.queue == row.queue,
            # Implied by the next one, and where the index ends.
            Job.priority >= row.priority,
            sa.or_(Job.priority > row.priority, Job.id < row.id),
        )
        .limit(at_most)
    )
    return int(connection.execute(sa.select(sa.func.count()).select_from(found.subquery())).scalar_one())


def asked(connection: sa.Connection, job_id: str) -> tuple[int, int, int]:
    """The cpus, memory in bytes and gpus a job asks for; 0 means not asked for."""
    row = connection.execute(
        sa.select(Job.cpus, Job.memory_bytes, Job.gpus).where(Job.job_id == job_id)
    ).one()
    return int(row.cpus), int(row.memory_bytes), int(row.gpus)


def untold(connection: sa.Connection, job_id: str) -> tuple[bool, bool]:
    """Whether the foreign queue of a job is still to be told of a hold or its end, and of its priority."""
    row = connection.execute(
        sa.select(Job.hold_untold, Job.priority_untold).where(Job.job_id == job_id)
    ).one()
    return row.hold_untold is not None, row.priority_untold is not None


def reason(connection: sa.Connection, job_id: str) -> str:
    """Why a foreign queue lets the live attempt of a job wait, in its words; empty if none is known."""
    statement = (
        sa.select(Attempt.reason)
        .join(Job, Job.id == Attempt.job)
        .where(Job.job_id == job_id, Attempt.finished_at.is_(None))
    )
    return connection.execute(statement).scalar() or ""


def unreachable(connection: sa.Connection, job_id: str) -> tuple[datetime, str] | None:
    """Since when the live attempt of a job cannot be reached, and why; None if it can, or there is none."""
    statement = (
        sa.select(Attempt.job, Attempt.unreachable_at)
        .join(Job, Job.id == Attempt.job)
        .where(Job.job_id == job_id, Attempt.finished_at.is_(None), Attempt.unreachable_at.is_not(None))
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    told = sa.select(Event.data).where(Event.job == row.job, Event.kind == "unreachable")
    data = connection.execute(told.order_by(Event.seq.desc()).limit(1)).scalar()
    return row.unreachable_at, str((data or {}).get("reason", ""))


def unfinished(connection: sa.Connection, job_ids: Sequence[str]) -> list[str]:
    """Which of these jobs have not ended. Raises JobNotFound."""
    left = []
    for portion in portions(job_ids):
        rows = connection.execute(sa.select(Job.job_id, Job.status).where(Job.job_id.in_(portion)))
        status = {row.job_id: Status(row.status) for row in rows}
        for job_id in portion:
            if job_id not in status:
                raise JobNotFound(job_id)
            if not status[job_id].is_terminal:
                left.append(job_id)
    return left

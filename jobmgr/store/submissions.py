"""Statements that store new jobs: their rows, specs, tags, dependencies and first events.

A batch function of `Database.write`: all submissions that wait are one insert.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from jobmgr.domain import environment
from jobmgr.domain.job import NewJob
from jobmgr.domain.status import Status, waiting_status
from jobmgr.errors import InvalidRequest, JobExists, QueueNotFound
from jobmgr.store import dependencies, idempotency, sites
from jobmgr.store.portion import portions
from jobmgr.store.prepared import Prepared, listed
from jobmgr.store.tables import Job, JobTag, Queue, Spec
from jobmgr.store.transaction import Fact, Transaction

_INSERT_JOBS = Prepared(
    sa.insert(Job),
    (
        "id", "job_id", "status", "v", "queue", "site", "priority", "user", "key", "name", "description", "cpus",
        "memory_bytes", "gpus", "draft", "due_at", "deps_left", "attempt", "attempts_counted", "created_at",
        "queued_at", "extended_properties", "kind",
    ),
)  # fmt: skip
_INSERT_SPECS = Prepared(
    sa.insert(Spec),
    (
        "job", "command", "env", "cwd", "walltime_s", "resources", "max_attempts", "backoff_s", "retry_on", "growth",
        "on_lost", "exit_codes", "required_files", "fingerprint", "payload",
    ),
)  # fmt: skip
# Taken before the insert, because what an insert returns comes in no order. SQLite has no sequences, but one writer.
_NEXT_KEYS = Prepared(
    sa.select(sa.func.nextval(sa.func.pg_get_serial_sequence("jobs", "id")).label("key")).select_from(
        sa.func.generate_series(1, sa.bindparam("count", type_=sa.Integer))
    )
)
_LAST_KEY = Prepared(
    sa.select(sa.column("seq", sa.Integer))
    .select_from(sa.table("sqlite_sequence"))
    .where(sa.column("name") == sa.literal_column("'jobs'"))
)
_INSERT_TAGS = sa.insert(JobTag)


@dataclass(frozen=True, slots=True)
class Stored:
    """What a submission is answered with."""

    job_id: str
    status: Status


def insert(tx: Transaction, bulks: Sequence[Sequence[NewJob]]) -> list[list[Stored]]:
    """Store jobs, their specs, dependencies and events. Each bulk is all or nothing, together with its batch.

    A job whose key is known is not stored again: the answer is the job that was. Raises JobExists, KeyReused,
    InvalidRequest (unknown queue, site, kind of site or parent) and DependencyCycle, naming the field by the job's
    own `at`.
    """
    jobs = [job for bulk in bulks for job in bulk]
    _check_keys(jobs)
    before = {
        key: Stored(known.job_id, Status(known.status)) for key, known in idempotency.known(tx, jobs).items()
    }
    new = [job for job in jobs if (job.user, job.key) not in before]
    stored = _insert(tx, new) if new else {}
    return [[before.get((job.user, job.key)) or stored[job.job_id] for job in bulk] for bulk in bulks]


def _insert(tx: Transaction, jobs: list[NewJob]) -> dict[str, Stored]:
    check_queues(tx, jobs)
    jobs = sites.place(tx, jobs)
    _check_new(tx, jobs)
    keys = _insert_rows(tx, jobs)
    for job in jobs:
        tx.move(job.queue, None, _first_status(job, tx))
    tx.record_all(_submitted(job, key, tx) for job, key in zip(jobs, keys, strict=True))
    stored = {job.job_id: Stored(job.job_id, _first_status(job, tx)) for job in jobs}
    dependants = [(key, job) for job, key in zip(jobs, keys, strict=True) if job.spec.depends_on]
    if dependants:
        dependencies.insert(tx, dependants, dict(zip(stored, keys, strict=True)))
        # Parents that have ended already may have queued or cancelled some.
        statuses = _statuses(tx, [key for key, _ in dependants])
        stored |= {job.job_id: Stored(job.job_id, statuses[key]) for key, job in dependants}
    return stored


def _submitted(job: NewJob, key: int, tx: Transaction) -> Fact:
    about = {
        "status": _first_status(job, tx),
        "name": job.name,
        "queue": job.queue,
        "priority": job.priority,
    }
    return Fact("submitted", key, job.job_id, job.user, 1, about)


_QUEUES = Prepared(sa.select(Queue.name).where(listed(Queue.name, "names")))
_TAKEN = Prepared(sa.select(Job.job_id).where(listed(Job.job_id, "job_ids")))


def _check_keys(jobs: Sequence[NewJob]) -> None:
    seen: set[tuple[str, str]] = set()
    for job in jobs:
        if job.key is None:
            continue
        if (job.user, job.key) in seen:
            # If it stands in two requests instead, they are split until each stands alone.
            raise InvalidRequest(f"{job.at}key", f"{job.key!r} is the key of two jobs of this request")
        seen.add((job.user, job.key))


def _statuses(tx: Transaction, keys: Sequence[int]) -> dict[int, Status]:
    found: dict[int, Status] = {}
    for portion in portions(keys):
        statement = sa.select(Job.id, Job.status).where(Job.id.in_(portion))
        found.update({row.id: Status(row.status) for row in tx.connection.execute(statement)})
    return found


def _first_status(job: NewJob, tx: Transaction) -> Status:
    return waiting_status(
        draft=job.draft, held_at=None, due_at=job.due_at, deps_left=len(job.spec.depends_on), now=tx.now
    )


def check_queues(tx: Transaction, jobs: Sequence[NewJob]) -> None:
    """Raise InvalidRequest if one of them is for a queue that there is not."""
    missing = {job.queue for job in jobs}
    missing -= {row.name for row in _QUEUES.rows(tx.connection, {"names": sorted(missing)})}
    if missing:
        job = next(job for job in jobs if job.queue in missing)
        raise InvalidRequest(job.at + "queue", str(QueueNotFound(job.queue)))


def _check_new(tx: Transaction, jobs: Sequence[NewJob]) -> None:
    seen: set[str] = set()
    for job in jobs:
        if job.job_id in seen:
            raise JobExists(job.job_id)
        seen.add(job.job_id)
    for taken in _TAKEN.rows(tx.connection, {"job_ids": list(seen)}):
        raise JobExists(taken.job_id)


def _insert_rows(tx: Transaction, jobs: Sequence[NewJob]) -> list[int]:
    keys = _next_keys(tx, len(jobs))
    # One after the other, because a row takes more memory than its job.
    _INSERT_JOBS.run(tx.connection, (_job_row(key, job, tx) for key, job in zip(keys, jobs, strict=True)))
    _INSERT_SPECS.run(tx.connection, (_spec_row(key, job) for key, job in zip(keys, jobs, strict=True)))
    tags = [{"job": key, "tag": tag} for key, job in zip(keys, jobs, strict=True) for tag in job.tags]
    if tags:
        tx.connection.execute(_INSERT_TAGS, tags)
    return keys


def _next_keys(tx: Transaction, count: int) -> list[int]:
    if tx.is_postgresql:
        return [row.key for row in _NEXT_KEYS.rows(tx.connection, {"count": count})]
    last = _LAST_KEY.rows(tx.connection, {})
    first = last[0].seq + 1 if last else 1
    return list(range(first, first + count))


def _job_row(key: int, job: NewJob, tx: Transaction) -> dict[str, Any]:
    resources = job.spec.resources
    status = _first_status(job, tx)
    return {
        "id": key,
        "v": 1,
        "attempt": 0,
        "attempts_counted": 0,
        "job_id": job.job_id,
        "status": status.value,
        "queue": job.queue,
        "site": job.site,
        "priority": job.priority,
        "user": job.user,
        "key": job.key,
        "name": job.name,
        "description": job.description,
        "cpus": resources.cpus or 0,
        "memory_bytes": resources.memory_bytes or 0,
        "gpus": resources.gpus or 0,
        "draft": job.draft,
        "due_at": job.due_at,
        "deps_left": len(job.spec.depends_on),
        "created_at": tx.now,
        "queued_at": tx.now if status is Status.QUEUED else None,
        "extended_properties": job.extended_properties,
        "kind": job.kind,
    }


def _spec_row(key: int, job: NewJob) -> dict[str, Any]:
    spec = job.spec
    return {
        "job": key,
        "command": spec.command,
        "env": environment.stated(spec.env),
        "cwd": spec.cwd,
        "walltime_s": spec.resources.walltime_s,
        "resources": spec.resources.asked(),
        "max_attempts": spec.retry.max_attempts,
        "backoff_s": spec.retry.backoff_s,
        "retry_on": sorted(spec.retry.on),
        "growth": spec.retry.growth.stated() or None,
        "on_lost": spec.on_lost.value,
        "exit_codes": spec.success.exit_codes,
        "required_files": spec.success.required_files,
        "fingerprint": job.fingerprint,
        "payload": job.payload,
    }

"""Statements on queues and on the stored limits of services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from jobmgr.domain.limits import ResourceLimits
from jobmgr.domain.queue import Queue as QueueView
from jobmgr.domain.queue import Tally
from jobmgr.errors import QueueNotFound
from jobmgr.store.tables import Job, Limit, Queue
from jobmgr.store.transaction import AnyRow, Topic, Transaction


@dataclass(frozen=True, slots=True)
class QueueChange:
    """New values for a queue, which is made if it does not exist: `paused`, `max_running`."""

    name: str
    values: Mapping[str, Any]


def listing(connection: sa.Connection) -> list[QueueView]:
    """All queues by name."""
    return [_queue(row) for row in connection.execute(sa.select(*Queue.__table__.c).order_by(Queue.name))]


def get(connection: sa.Connection, name: str) -> QueueView:
    """One queue. Raises QueueNotFound."""
    row = connection.execute(sa.select(*Queue.__table__.c).where(Queue.name == name)).one_or_none()
    if row is None:
        raise QueueNotFound(name)
    return _queue(row)


def _queue(row: AnyRow) -> QueueView:
    counts = {tally: int(getattr(row, tally.value)) for tally in Tally}
    return QueueView(name=row.name, paused=row.paused, max_running=row.max_running, counts=counts)


def backlog(connection: sa.Connection) -> dict[int, int]:
    """How many queued jobs there are of each priority."""
    # As the index of claims has it, literal and order included: by the priority alone SQLite would walk the priorities
    # of all jobs that ever were.
    queued = Job.status == sa.literal_column("'queued'")
    grouped = sa.select(Job.priority, sa.func.count()).where(queued)
    found: dict[int, int] = {}
    for priority, count in connection.execute(grouped.group_by(Job.site, Job.queue, Job.priority)):
        found[priority] = found.get(priority, 0) + int(count)
    return found


def change(tx: Transaction, changes: Sequence[QueueChange]) -> list[QueueView]:
    """Pause, resume or limit queues; one that is new is made."""
    tx.topics.add(Topic.WORK)
    answers = []
    for wanted in changes:
        statement = sa.select(Queue.name).where(Queue.name == wanted.name)
        if tx.connection.execute(statement).scalar() is None:
            tx.connection.execute(sa.insert(Queue).values(name=wanted.name, **wanted.values))
            tx.record("queue_updated", None, queue=wanted.name, **wanted.values)
        elif wanted.values:
            tx.connection.execute(sa.update(Queue).where(Queue.name == wanted.name).values(**wanted.values))
            tx.record("queue_updated", None, queue=wanted.name, **wanted.values)
        # Now, because the same queue may be changed again in this batch.
        answers.append(get(tx.connection, wanted.name))
    return answers


@dataclass(frozen=True, slots=True)
class LimitsChange:
    """New values for some limits of a service, by name."""

    service: str
    values: Mapping[str, Any]


def limits(connection: sa.Connection, service: str) -> ResourceLimits | None:
    """The stored limits of a service; None if none were ever stored."""
    row = connection.execute(sa.select(*Limit.__table__.c).where(Limit.service == service)).one_or_none()
    if row is None:
        return None
    return ResourceLimits(row.max_concurrent_jobs, row.max_cpu_percent, row.min_memory_gb, row.min_disk_gb)


def present_limits(tx: Transaction, services: Sequence[str]) -> list[ResourceLimits]:
    """The stored limits of these services, behind all changes before."""
    return [limits(tx.connection, service) or ResourceLimits() for service in services]


def set_limits(tx: Transaction, changes: Sequence[LimitsChange]) -> list[ResourceLimits]:
    """Change stored limits, and tell of what changed; answers all limits as they are then. Raises InvalidRequest.

    What is not named stays as it is stored, so of two changes at the same time none takes the other back.
    """
    return [_set_limits(tx, wanted) for wanted in changes]


def _set_limits(tx: Transaction, wanted: LimitsChange) -> ResourceLimits:
    old = limits(tx.connection, wanted.service)
    result = replace(old or ResourceLimits(), **wanted.values)
    if old != result:
        new = asdict(result)
        tx.connection.execute(sa.delete(Limit).where(Limit.service == wanted.service))
        tx.connection.execute(sa.insert(Limit).values(service=wanted.service, **new))
        before = asdict(old) if old is not None else {}
        changed = {name: before.get(name) for name, value in new.items() if before.get(name) != value}
        tx.record("limits_updated", None, service=wanted.service, old_limits=changed, new_limits=new)
    return result

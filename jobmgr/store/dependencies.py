"""Statements on dependencies: they count down on the child's row and are settled with the parent's end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from jobmgr.domain import access
from jobmgr.domain.access import Sight
from jobmgr.domain.job import Dependency as DependencyView
from jobmgr.domain.job import NewJob, When
from jobmgr.domain.status import Status, waiting_status
from jobmgr.errors import DependencyCycle, InvalidRequest
from jobmgr.store import waiting
from jobmgr.store.portion import portions
from jobmgr.store.prepared import Prepared, listed
from jobmgr.store.tables import Dependency, Job
from jobmgr.store.transaction import AnyRow, Topic, Transaction, about_row

_FAILED = "dependency_failed"


def insert(tx: Transaction, children: Sequence[tuple[int, NewJob]], ids: Mapping[str, int]) -> None:
    """Store what new jobs wait for; `ids` are the keys of all jobs of the batch.

    Parents are locked, so that none ends between the look and the commit. Raises InvalidRequest for an
    unknown parent and DependencyCycle for jobs that wait for each other.
    """
    if not children:
        return
    _check_acyclic([job for _, job in children])
    parents = _lock_parents(tx, children)
    rows = []
    for child, job in children:
        for index, dependency in enumerate(job.spec.depends_on):
            key = ids.get(dependency.job_id)
            if key is None and dependency.job_id not in parents:
                where = f"{job.at}depends_on[{index}]"
                raise InvalidRequest(where, f"there is no job {dependency.job_id!r}")
            parent = key if key is not None else parents[dependency.job_id].id
            rows.append({"child": child, "parent": parent, "condition": dependency.when.value})
    tx.connection.execute(sa.insert(Dependency), rows)
    ended = [(row.id, Status(row.status)) for row in parents.values() if Status(row.status).is_terminal]
    # Only the new jobs: another one that was retried waits for its ended parent to be retried too.
    resolve(tx, ended, among={child for child, _ in children})


def _lock_parents(tx: Transaction, children: Sequence[tuple[int, NewJob]]) -> dict[str, AnyRow]:
    names = sorted({dependency.job_id for _, job in children for dependency in job.spec.depends_on})
    parents: dict[str, AnyRow] = {}
    for portion in portions(names):
        columns = Job.id, Job.job_id, Job.user, Job.status
        statement = sa.select(*columns).where(Job.job_id.in_(portion)).order_by(Job.id)
        if tx.is_postgresql:
            statement = statement.with_for_update()
        rows = tx.connection.execute(statement)
        parents.update({row.job_id: row for row in rows if _is_seen(tx, row)})
    return parents


def _is_seen(tx: Transaction, row: AnyRow) -> bool:
    return tx.caller is None or access.sees(tx.caller.principal, row)


def _check_acyclic(jobs: Sequence[NewJob]) -> None:
    # Only jobs of one batch can wait for each other: a stored job's dependencies do not change.
    waits = {job.job_id: {dependency.job_id for dependency in job.spec.depends_on} for job in jobs}
    remaining = {name: parents & waits.keys() for name, parents in waits.items()}
    children: dict[str, list[str]] = {}
    for name, parents in remaining.items():
        for parent in parents:
            children.setdefault(parent, []).append(name)
    free = [name for name, parents in remaining.items() if not parents]
    while free:
        done = free.pop()
        del remaining[done]
        for child in children.get(done, ()):
            remaining[child].discard(done)
            if not remaining[child]:
                free.append(child)
    if remaining:
        raise _cycle_among(jobs, remaining)


def _cycle_among(jobs: Sequence[NewJob], remaining: Mapping[str, set[str]]) -> DependencyCycle:
    # What remains is on a cycle or waits for one, so going from parent to parent leads into a cycle.
    passed: dict[str, None] = {}
    name = next(iter(remaining))
    while name not in passed:
        passed[name] = None
        name = min(remaining[name])
    names = list(passed)
    cycle = set(names[names.index(name) :])
    job = next(job for job in jobs if job.job_id in cycle)
    index = next(index for index, dependency in enumerate(job.spec.depends_on) if dependency.job_id in cycle)
    message = f"these jobs wait for each other: {', '.join(sorted(cycle)[:10])}"
    return DependencyCycle(f"{job.at}depends_on[{index}]", message)


def resolve(
    tx: Transaction, ended: Sequence[tuple[int, Status]], among: Collection[int] | None = None
) -> None:
    """Settle what waits (of `among`, if given) for jobs that ended: count down, queue what is free, cancel the rest.

    A cancelled dependant is itself an end that others may wait for, hence the loop.
    """
    while ended:
        ended = _resolve_generation(tx, dict(ended), among)
        among = None


_UNSETTLED = Prepared(
    sa.select(Dependency.child, Dependency.parent, Dependency.condition).where(
        listed(Dependency.parent, "parents"), Dependency.met.is_(None)
    )
)


def _resolve_generation(
    tx: Transaction, ended: Mapping[int, Status], among: Collection[int] | None
) -> list[tuple[int, Status]]:
    found = _UNSETTLED.rows(tx.connection, {"parents": sorted(ended)})
    unsettled = [row for row in found if among is None or row.child in among]
    if not unsettled:
        return []
    met = {(row.child, row.parent): When(row.condition).is_met_by(ended[row.parent]) for row in unsettled}
    tx.connection.execute(
        sa.update(Dependency)
        .where(Dependency.child == sa.bindparam("of_child"), Dependency.parent == sa.bindparam("of_parent"))
        .values(met=sa.bindparam("is_met")),
        [{"of_child": child, "of_parent": parent, "is_met": value} for (child, parent), value in met.items()],
    )
    failed = sorted({child for (child, _), value in met.items() if not value})
    fulfilled: dict[int, int] = {}
    for (child, _), value in met.items():
        if value:
            fulfilled[child] = fulfilled.get(child, 0) + 1
    _count_down(tx, fulfilled)
    return _cancel_dependants(tx, failed)


_LOCK = (
    sa.select(Job.id)
    .where(Job.id.in_(sa.bindparam("children", expanding=True)))
    .order_by(Job.id)
    .with_for_update(key_share=True)
)
_COUNT_DOWN = (
    sa.update(Job)
    .where(Job.id.in_(sa.bindparam("children", expanding=True)))
    .values(deps_left=Job.deps_left - sa.bindparam("met_now"))
    .returning(Job.id, Job.deps_left, Job.draft, Job.held_at, Job.due_at)
)


def _count_down(tx: Transaction, fulfilled: Mapping[int, int]) -> None:
    if tx.is_postgresql:
        # In order of their keys, so that two services with the same children never wait for each other crosswise.
        for portion in portions(sorted(fulfilled)):
            tx.connection.execute(_LOCK, {"children": portion}).all()
    by_count: dict[int, list[int]] = {}
    for child, count in sorted(fulfilled.items()):
        by_count.setdefault(count, []).append(child)
    free: list[int] = []
    for count, children in by_count.items():
        for portion in portions(children):
            rows = tx.connection.execute(_COUNT_DOWN, {"children": portion, "met_now": count})
            free += [row.id for row in rows if _is_free(row, tx)]
    waiting.queue_waiting(tx, free)
    if len(free) < len(fulfilled):
        # Some may wait for their time alone now.
        tx.topics.add(Topic.TIME)


def _is_free(row: AnyRow, tx: Transaction) -> bool:
    status = waiting_status(
        draft=row.draft, held_at=row.held_at, due_at=row.due_at, deps_left=row.deps_left, now=tx.now
    )
    return status is Status.QUEUED


_PARENT = aliased(Job)
# The first parent that ended otherwise, in words; both rows are of this transaction. Who sees a job sees all of its
# user's, and for ever: so the words may be for all its readers. Others' jobs are named where it is known who reads.
_CAUSE = (
    sa.select(
        sa.literal("it depends on the ")
        + Dependency.condition
        + sa.case(
            (
                _PARENT.user == Job.user,
                sa.literal(" of job ") + _PARENT.job_id + ", which is " + _PARENT.status,
            ),
            else_=" of another user's job, which ended otherwise",
        )
    )
    .join(_PARENT, _PARENT.id == Dependency.parent)
    .where(Dependency.child == Job.id, Dependency.met.is_(False))
    .order_by(_PARENT.id)
    .limit(1)
    .scalar_subquery()
)


_CANCEL = (
    sa.update(Job)
    .where(Job.id.in_(sa.bindparam("children", expanding=True)), Job.status == sa.literal_column("'pending'"))
    .values(
        status=Status.CANCELLED.value,
        finished_at=sa.bindparam("now"),
        error_code=_FAILED,
        error_message=_CAUSE,
        v=Job.v + 1,
    )
    .returning(Job.id, Job.job_id, Job.user, Job.v, Job.queue, Job.error_message)
)


def _cancel_dependants(tx: Transaction, children: Sequence[int]) -> list[tuple[int, Status]]:
    rows: list[AnyRow] = []
    for portion in portions(children):
        found = tx.connection.execute(_CANCEL, {"children": portion, "now": tx.now})
        rows += sorted(found, key=lambda row: int(row.id))
    for row in rows:
        error = {"code": _FAILED, "message": row.error_message}
        tx.move(row.queue, Status.PENDING, Status.CANCELLED)
        tx.record(
            "cancelled", about_row(row, row.v), status=Status.CANCELLED, finished_at=tx.now, error=error
        )
    return [(row.id, Status.CANCELLED) for row in rows]


class Reopened(NamedTuple):
    """How many dependencies of a job are open again; in words which parents ended otherwise than is required, so that
    it would wait for ever; and whether one of those was deleted.
    """

    open_count: int
    failed: Sequence[str]
    has_forgotten: bool


def reopen(tx: Transaction, child: AnyRow) -> Reopened:
    """Judge the dependencies of a locked job that is retried by where its parents are now.

    Parents are locked, so that none ends or is deleted between the look and the commit.
    """
    statement = (
        sa.select(Dependency.parent, Dependency.condition, Dependency.met, Job.job_id, Job.user, Job.status)
        .join(Job, Job.id == Dependency.parent)
        .where(Dependency.child == child.id)
        .order_by(Job.id)
    )
    if tx.is_postgresql:
        statement = statement.with_for_update(of=Job)
    open_count, failed = 0, []
    parents = tx.connection.execute(statement).all()
    for row in parents:
        status = Status(row.status)
        met = True if status.is_terminal and When(row.condition).is_met_by(status) else None
        open_count += met is None
        if met is None and status.is_terminal:
            which = (
                f"job {row.job_id!r}, which is {status}"
                if _is_seen(tx, row)
                else "a job that is not yours to see"
            )
            failed.append(f"the {row.condition} of {which}")
        tx.connection.execute(
            sa.update(Dependency)
            .where(Dependency.child == child.id, Dependency.parent == row.parent)
            .values(met=met)
        )
    # Who was deleted and had not ended as is required is still counted on the job's row.
    has_forgotten = child.deps_left > sum(not row.met for row in parents)
    return Reopened(open_count, failed, has_forgotten)


def forget(tx: Transaction, job: int, status: Status) -> None:
    """Drop the dependencies of a deleted job, which has ended so.

    Nothing waits for it: all was settled when it ended, and a retry since then waits only for jobs that run again.
    What never came to be as its dependants require stays counted on their rows, so that no retry takes it for met.
    """
    enough = [when.value for when in When if when.is_met_by(status)]
    # It may have been retried after it had kept them from running.
    met_since = sa.select(Dependency.child).where(
        Dependency.parent == job, Dependency.met.is_(False), Dependency.condition.in_(enough)
    )
    _count_down(tx, dict.fromkeys(tx.connection.execute(met_since).scalars(), 1))
    tx.connection.execute(
        sa.delete(Dependency).where(sa.or_(Dependency.child == job, Dependency.parent == job))
    )


def of(connection: sa.Connection, child: int, sight: Sight) -> tuple[DependencyView, ...]:
    """What the job with this key depends on; what is not in `sight` has no id."""
    rows = connection.execute(
        sa.select(Job.job_id, Job.user, Dependency.condition, Dependency.met)
        .join(Job, Job.id == Dependency.parent)
        .where(Dependency.child == child)
        .order_by(Job.id)
    )
    return tuple(
        DependencyView(row.job_id if sight.shows(row.job_id, row.user) else "", When(row.condition), row.met)
        for row in rows
    )


class Unmet(NamedTuple):
    """A job that another one waits for, and which end of it is waited for."""

    job_id: str
    user: str
    status: Status
    when: When


def unmet(connection: sa.Connection, job_id: str) -> list[Unmet]:
    """What a job still waits for, whosever it is."""
    child = sa.select(Job.id).where(Job.job_id == job_id).scalar_subquery()
    rows = connection.execute(
        sa.select(Job.job_id, Job.user, Job.status, Dependency.condition)
        .join(Job, Job.id == Dependency.parent)
        .where(Dependency.child == child, Dependency.met.is_(None))
        .order_by(Job.id)
        .limit(100)
    )
    return [Unmet(row.job_id, row.user, Status(row.status), When(row.condition)) for row in rows]

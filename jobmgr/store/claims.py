"""Statements that claim: choose among queued jobs under lock, make their attempts, load what runs them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa

from jobmgr.domain import environment
from jobmgr.domain.environment import Environment
from jobmgr.domain.job import Origin
from jobmgr.domain.queue import Tally
from jobmgr.domain.resources import Resources
from jobmgr.domain.retry import Growth, Retry
from jobmgr.domain.status import Status
from jobmgr.store.portion import portions
from jobmgr.store.prepared import Prepared, listed
from jobmgr.store.tables import ASKING, Attempt, Dispatcher, Job, Queue, Site, Spec
from jobmgr.store.transaction import Transaction, about_row


@dataclass(frozen=True, slots=True)
class Room:
    """What a claim may take: slots, and for jobs that ask for them free cpus, memory and gpus (by name).

    Elsewhere a scheduler gives them; there only slots count.
    """

    slots: int
    cpus: int
    memory_bytes: int
    gpus: tuple[str, ...]
    is_elsewhere: bool = False

    @classmethod
    def elsewhere(cls, slots: int) -> Room:
        """So many slots of a foreign queue."""
        return cls(slots, 2**31 - 1, 2**63 - 1, (), is_elsewhere=True)

    @property
    def free_gpus(self) -> int:
        """How many gpus may be asked for."""
        return 2**31 - 1 if self.is_elsewhere else len(self.gpus)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A queued job as admission sees it; `gpus` is how many it asks for."""

    job: int
    job_id: str
    queue: str
    priority: int
    cpus: int
    memory_bytes: int
    gpus: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A wish to claim: by whom, where, how much room, and the pure choice among candidates, best first.

    Of a foreign queue the room is what it may have less what this dispatcher has there, and `work_id` the name of the
    work directory where the attempts are to go: if its site means another one by now, nothing is claimed.
    """

    dispatcher: str
    site: str
    room: Room
    choose: Callable[[Sequence[Candidate], Room, Mapping[str, int | None]], Sequence[Candidate]]
    reserved: int | None = None  # the key of a job that is looked at whatever its rank
    work_id: str = ""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A live attempt in a dispatcher's hands, with everything needed to run and judge it.

    `gpus` are the names of those it was given. `heeds_memory`: its rules tell too little memory from other failures.
    """

    job: int
    job_id: str
    queue: str
    site: str
    number: int
    token: str
    lease: int
    status: Status
    command: tuple[str, ...]
    env: Environment
    cwd: str | None
    walltime_s: float | None
    cpus: int
    memory_bytes: int
    gpus: tuple[str, ...]
    required_files: tuple[str, ...]
    resources: Resources
    heeds_memory: bool = False
    priority: int = 0
    handle: str | None = None
    origin: Origin | None = None  # of an attempt that an earlier service claimed


_CANDIDATE_COLUMNS = (Job.id, Job.job_id, Job.queue, Job.priority, Job.cpus, Job.memory_bytes, Job.gpus)
# Rows that another service takes at this moment are passed over; SQLite has one writer at a time.
_CANDIDATES = Prepared(
    sa.select(*_CANDIDATE_COLUMNS)
    .where(
        Job.status == sa.literal_column("'queued'"),
        Job.site == sa.bindparam("of_site"),
        Job.queue == sa.bindparam("of_queue"),
        Job.cpus <= sa.bindparam("free_cpus"),
        Job.memory_bytes <= sa.bindparam("free_memory"),
        Job.gpus <= sa.bindparam("free_gpus"),
    )
    .order_by(Job.priority.desc(), Job.id)
    .limit(sa.bindparam("at_most"))
    .with_for_update(skip_locked=True)
)
# NO KEY (key_share): who inserts jobs holds its queue by the foreign key, and neither has to wait for the other. All
# open queues, and in order of name, because their tallies are written in that order too.
_QUEUES_WITH_WORK = Prepared(
    sa.select(Queue.name, Queue.max_running, Queue.live)
    .where(~Queue.paused, sa.or_(Queue.queued > sa.literal_column("0"), listed(Queue.name, "touched")))
    .order_by(Queue.name)
    .with_for_update(key_share=True)
)


def claim(tx: Transaction, wishes: Sequence[Claim]) -> list[list[Claimed]]:
    """Claim queued jobs, best first (priority, then order of submission), within the room of each wish.

    Each job goes to one caller. Answers per wish 0..slots attempts in start order, each with a fresh token.
    """
    return [_claim(tx, wish) for wish in wishes]


def _claim(tx: Transaction, wish: Claim) -> list[Claimed]:
    quotas = _quotas(tx)
    candidates: list[Candidate] = []
    for queue, quota in quotas.items():
        if quota != 0:
            candidates += _candidates(tx, wish, queue, quota)
    if wish.reserved is not None and all(candidate.job != wish.reserved for candidate in candidates):
        candidates += _reserved(tx, wish.reserved, quotas)
    candidates.sort(key=lambda candidate: (-candidate.priority, candidate.job))
    room = _left_there(tx, wish) if candidates and wish.room.is_elsewhere else wish.room
    chosen = wish.choose(candidates, room, quotas)
    if not chosen:
        return []
    return _take(tx, wish, chosen)


def _quotas(tx: Transaction) -> dict[str, int | None]:
    """Per open queue how many more of its jobs may run; None: any number. Locks the rows of limited ones."""
    touched = sorted({queue for queue, _ in tx.tallies})
    quotas: dict[str, int | None] = {}
    for row in _QUEUES_WITH_WORK.rows(tx.connection, {"touched": touched}):
        live = row.live + tx.tallies[row.name, Tally.LIVE]
        quotas[row.name] = None if row.max_running is None else max(0, row.max_running - live)
    return quotas


def _candidates(tx: Transaction, wish: Claim, queue: str, quota: int | None) -> list[Candidate]:
    slots = wish.room.slots if quota is None else min(quota, wish.room.slots)
    rows = _CANDIDATES.rows(
        tx.connection,
        {
            "of_site": wish.site,
            "of_queue": queue,
            "free_cpus": wish.room.cpus,
            "free_memory": wish.room.memory_bytes,
            "free_gpus": wish.room.free_gpus,
            "at_most": slots * 2,
        },
    )
    return [Candidate(*row) for row in rows]


def _reserved(tx: Transaction, job: int, quotas: Mapping[str, int | None]) -> list[Candidate]:
    statement = sa.select(*_CANDIDATE_COLUMNS).where(Job.id == job, Job.status == Status.QUEUED.value)
    if tx.is_postgresql:
        statement = statement.with_for_update(skip_locked=True)
    found = [Candidate(*row) for row in tx.connection.execute(statement)]
    return [candidate for candidate in found if quotas.get(candidate.queue, 0) != 0]


# NO KEY, as above: who inserts jobs holds their site by the foreign key.
_SITE = Prepared(
    sa.select(Site.work_id).where(Site.name == sa.bindparam("of_site")).with_for_update(key_share=True)
)
# Where a job is for is looked up by its key, for each live attempt of others: there is no index of jobs by site.
_LIVE_OF_OTHERS = Prepared(
    sa.select(sa.func.count().label("attempts")).where(
        Attempt.finished_at.is_(None),
        Attempt.dispatcher != sa.bindparam("dispatcher"),
        sa.select(Job.site).where(Job.id == Attempt.job).scalar_subquery() == sa.bindparam("of_site"),
    )
)


def _left_there(tx: Transaction, wish: Claim) -> Room:
    """What the other services leave of a foreign queue. Locks its row, so that they count what is claimed now."""
    site = _SITE.rows(tx.connection, {"of_site": wish.site})
    if [row.work_id for row in site] != [wish.work_id]:
        return replace(wish.room, slots=0)
    (live,) = _LIVE_OF_OTHERS.rows(tx.connection, {"of_site": wish.site, "dispatcher": wish.dispatcher})
    return replace(wish.room, slots=max(0, wish.room.slots - live.attempts))


def passed_over(connection: sa.Connection, site: str, room: Room, total: Room) -> Candidate | None:
    """The best job that does not fit into `room`, although `total` is room enough.

    One that the limit of its queue holds back only if there is no other: room that is kept for it may be kept from all
    others for long. But a queue is full at every look if the next jobs are claimed with the ends of those before.
    """
    statement = (
        sa.select(*_CANDIDATE_COLUMNS)
        .join(Queue, Queue.name == Job.queue)
        .where(
            Job.status == sa.literal_column("'queued'"),
            # Repeats the condition of the index, so that a backlog that asks for nothing costs nothing.
            sa.literal_column(f"({ASKING})"),
            Job.site == site,
            ~Queue.paused,
            sa.or_(Job.cpus > room.cpus, Job.memory_bytes > room.memory_bytes, Job.gpus > len(room.gpus)),
            Job.cpus <= total.cpus,
            Job.memory_bytes <= total.memory_bytes,
            Job.gpus <= len(total.gpus),
        )
        .order_by(Job.priority.desc(), Job.id)
        .limit(1)
    )
    may_start = sa.or_(Queue.max_running.is_(None), Queue.live < Queue.max_running)
    for best in (statement.where(may_start), statement):
        row = connection.execute(best).one_or_none()
        if row is not None:
            return Candidate(*row)
    return None


_TAKE = Prepared(
    sa.update(Job)
    # By key alone: the rows are locked and were seen queued. For the status PostgreSQL without statistics would look
    # each id up in the index of the backlog, of which it is the last column: all of it is read then, every time.
    .where(listed(Job.id, "ids"))
    .values(
        status=Status.CLAIMED.value,
        attempt=Job.attempt + 1,
        attempts_counted=Job.attempts_counted + 1,
        v=Job.v + 1,
    )
    .returning(Job.id, Job.job_id, Job.user, Job.v, Job.attempt, Job.queue, Job.grown)
)
_INSERT_ATTEMPTS = Prepared(
    sa.insert(Attempt),
    (
        "job", "number", "token", "lease", "dispatcher", "claimed_by", "counted", "claimed_at", "leftovers",
        "allocated_gpus",
    ),
)  # fmt: skip


def new_token(now: datetime) -> str:
    """Milliseconds, and 80 random bits.

    What is claimed together so lies together in the index of tokens, however many there are: after a checkpoint
    PostgreSQL writes each page of it that changes into its log, whole, once.
    """
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}"


def _take(tx: Transaction, wish: Claim, chosen: Sequence[Candidate]) -> list[Claimed]:
    taken = _TAKE.rows(tx.connection, {"ids": [candidate.job for candidate in chosen]})
    rows = {row.id: row for row in taken}
    tokens = {key: new_token(tx.now) for key in rows}
    free_gpus = iter(wish.room.gpus)
    gpus = {candidate.job: list(islice(free_gpus, candidate.gpus)) for candidate in chosen}
    _INSERT_ATTEMPTS.run(
        tx.connection,
        [
            {
                "job": key,
                "number": row.attempt,
                "token": tokens[key],
                "lease": 1,
                "dispatcher": wish.dispatcher,
                "claimed_by": wish.dispatcher,
                "counted": True,
                "claimed_at": tx.now,
                "leftovers": 0,
                "allocated_gpus": gpus[key],
            }
            for key, row in rows.items()
        ],
    )
    for row in taken:
        if row.grown:
            tx.connection.execute(
                sa.update(Attempt)
                .where(Attempt.job == row.id, Attempt.number == row.attempt)
                .values(resources=row.grown)
            )
    for candidate in chosen:
        row = rows[candidate.job]
        tx.move(row.queue, Status.QUEUED, Status.CLAIMED)
        tx.record("claimed", about_row(row, row.v), status=Status.CLAIMED, attempt=row.attempt)
    by_job = {claimed.job: claimed for claimed in load(tx.connection, list(rows))}
    return [by_job[candidate.job] for candidate in chosen]


_LIVE_ATTEMPTS = Prepared(
    sa.select(
        Attempt.job,
        Job.job_id,
        Job.queue,
        Job.site,
        Attempt.number,
        Attempt.token,
        Attempt.lease,
        Job.status,
        Spec.command,
        Spec.env,
        Spec.cwd,
        Job.cpus,
        Job.memory_bytes,
        Attempt.allocated_gpus.label("gpus"),
        Spec.required_files,
        Spec.resources,
        Attempt.resources.label("grown"),
        Spec.retry_on,
        Spec.growth,
        Job.priority,
        Attempt.handle,
    )
    .join(Job, Job.id == Attempt.job)
    .join(Spec, Spec.job == Attempt.job)
    .where(Attempt.finished_at.is_(None), listed(Attempt.job, "jobs"))
)


def load(connection: sa.Connection, jobs: Sequence[int]) -> list[Claimed]:
    """The live attempts of these jobs, with everything needed to run and judge them."""
    return [_claimed(row) for row in _LIVE_ATTEMPTS.rows(connection, {"jobs": jobs})]


def _claimed(row: Any) -> Claimed:
    values = row._asdict()
    for name in ("command", "gpus", "required_files"):
        # Without gpus: an attempt of a version that named none.
        values[name] = tuple(values[name] or ())
    values["status"] = Status(values["status"])
    values["env"] = environment.of(values["env"])
    resources = Resources.of({**values["resources"], **(values.pop("grown") or {})})
    on, growth = frozenset(values.pop("retry_on")), Growth.of(values.pop("growth"))
    return Claimed(
        **{**values, "resources": resources},
        walltime_s=resources.walltime_s,
        heeds_memory=Retry(on=on, growth=growth).heeds_memory,
    )


_ORIGINS = (
    sa.select(
        Attempt.token,
        Dispatcher.work_dir,
        Dispatcher.work_id,
        Dispatcher.host,
        Dispatcher.boot_id,
        Attempt.started_at,
    )
    .join(Dispatcher, Dispatcher.id == Attempt.claimed_by)
    .where(Attempt.finished_at.is_(None), Attempt.job.in_(sa.bindparam("jobs", expanding=True)))
)


def load_adopted(connection: sa.Connection, jobs: Sequence[int]) -> list[Claimed]:
    """Like `load`, each attempt with its origin."""
    origins: dict[str, Origin] = {}
    for portion in portions(jobs):
        for row in connection.execute(_ORIGINS, {"jobs": portion}):
            has_started = row.started_at is not None
            origins[row.token] = Origin(row.work_dir, row.work_id, row.host, row.boot_id, has_started)
    return [replace(claimed, origin=origins.get(claimed.token)) for claimed in load(connection, jobs)]

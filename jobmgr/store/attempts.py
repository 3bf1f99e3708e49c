"""Statements on live attempts: start, turn, finish, each behind the fence, and what is wished of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from jobmgr.domain.job import JobError, OnLost
from jobmgr.domain.outcome import RELEASED, End, Outcome, Rules
from jobmgr.domain.resources import Resources
from jobmgr.domain.retry import Growth, Retry
from jobmgr.domain.site import LOCAL
from jobmgr.domain.status import STARTED, UNSTARTED, Status
from jobmgr.domain.wish import Hold, Rank, Stored
from jobmgr.store import dependencies, jobs
from jobmgr.store.fence import Key, fenced
from jobmgr.store.prepared import Prepared
from jobmgr.store.tables import PAUSING, UNTOLD, Attempt, Job, Moment, Spec, User
from jobmgr.store.transaction import AnyRow, Topic, Transaction, about_row


@dataclass(frozen=True, slots=True)
class Live:
    """A live attempt: its token, and whose job it is."""

    token: str
    user: str


def live(connection: sa.Connection, job_id: str, number: int) -> Live | None:
    """The attempt of this number, if it is live and its user is not disabled."""
    row = connection.execute(
        sa.select(Attempt.token, Job.user)
        .join(Job, Job.id == Attempt.job)
        .outerjoin(User, User.name == Job.user)
        .where(
            Job.job_id == job_id,
            Attempt.number == number,
            Attempt.finished_at.is_(None),
            User.disabled.is_not(True),  # Nor is whoever has no row.
        )
    ).one_or_none()
    return None if row is None else Live(row.token, row.user)


@dataclass(frozen=True, slots=True)
class Start:
    """An attempt passed its gate: its handle, when, and where it runs."""

    key: Key
    handle: str
    started_at: datetime
    work_dir: str


_START_ATTEMPT = Prepared(
    sa.update(Attempt)
    .where(Attempt.job == sa.bindparam("of_job"), Attempt.number == sa.bindparam("of_number"))
    .values(
        handle=sa.bindparam("new_handle"), started_at=sa.bindparam("at"), work_dir=sa.bindparam("directory")
    )
)
_START_JOB = Prepared(
    sa.update(Job)
    .where(Job.id == sa.bindparam("of_job"))
    .values(
        status=Status.RUNNING.value,
        handle=sa.bindparam("new_handle"),
        started_at=sa.bindparam("at"),
        work_dir=sa.bindparam("directory"),
        # A hold that came too late keeps nothing from starting.
        held_at=sa.null(),
        hold_untold=sa.null(),
        priority_untold=sa.null(),
        v=Job.v + 1,
    )
)


def start(tx: Transaction, starts: Sequence[Start]) -> list[bool]:
    """Record that attempts run. False: the attempt is not the caller's any more, nothing was written."""
    held = fenced(tx, [item.key for item in starts])
    told: set[Key] = set()
    rows = []
    for item in starts:
        row = held.get(item.key)
        # A repeated start (adoption, a lost answer) is harmless and told once, also if it repeats in one batch.
        if row is None or item.key in told:
            continue
        told.add(item.key)
        if row.unreachable_at is not None:
            row = _reached(tx, item.key, row)
        if Status(row.status) in STARTED:
            continue
        if row.pause_requested_at is not None:
            tx.topics.add(Topic.WISH)
        tx.move(row.queue, row.status, Status.RUNNING)
        rows.append(
            {
                "of_job": row.job,
                "of_number": row.number,
                "new_handle": item.handle,
                "at": item.started_at,
                "directory": item.work_dir,
            }
        )
        _tell_start(tx, row, item)
    _START_ATTEMPT.run(tx.connection, rows)
    _START_JOB.run(tx.connection, rows)
    return [item.key in held for item in starts]


def _reached(tx: Transaction, key: Key, row: AnyRow) -> AnyRow:
    """The row as it is when its attempt was found again."""
    mark_reachable(tx, row)
    return fenced(tx, [key])[key]


def _tell_start(tx: Transaction, row: AnyRow, item: Start | Finish) -> None:
    # A hold that came too late is over, and that is told with the start.
    too_late = {} if row.held_at is None else {"held_at": None}
    tx.record(
        "started",
        about_row(row, row.v + 1),
        status=Status.RUNNING,
        attempt=row.number,
        started_at=item.started_at,
        handle=item.handle,
        **too_late,
    )


def mark_reachable(tx: Transaction, row: AnyRow) -> None:
    """An attempt that could not be reached can be again."""
    set_unreachable(tx, row, None)
    jobs.change(tx, row, "reachable", {"attempt": row.number})


def set_unreachable(tx: Transaction, row: AnyRow, at: datetime | None) -> None:
    """Since when an attempt cannot be reached."""
    tx.connection.execute(
        sa.update(Attempt)
        .where(Attempt.job == row.job, Attempt.number == row.number)
        .values(unreachable_at=at)
    )


@dataclass(frozen=True, slots=True)
class Schedule:
    """A foreign queue has an attempt, under this handle."""

    key: Key
    handle: str


_SCHEDULE_ATTEMPT = Prepared(
    sa.update(Attempt)
    .where(Attempt.job == sa.bindparam("of_job"), Attempt.number == sa.bindparam("of_number"))
    .values(handle=sa.bindparam("new_handle"))
)
_SCHEDULE_JOB = Prepared(
    sa.update(Job)
    .where(Job.id == sa.bindparam("of_job"))
    .values(status=Status.SCHEDULED.value, handle=sa.bindparam("new_handle"), v=Job.v + 1)
)


def schedule(tx: Transaction, items: Sequence[Schedule]) -> list[bool]:
    """Record that attempts wait in foreign queues. False: the attempt is not the caller's any more."""
    held = fenced(tx, [item.key for item in items])
    told: set[Key] = set()
    rows, new_rows = [], []
    for item in items:
        row = held.get(item.key)
        if row is None or item.key in told:
            continue
        told.add(item.key)
        if row.unreachable_at is not None:
            row = _reached(tx, item.key, row)
        rows.append({"of_job": row.job, "of_number": row.number, "new_handle": item.handle})
        if row.hold_untold is not None or row.priority_untold is not None:
            tx.topics.add(Topic.WISH)
        if row.status != Status.CLAIMED:
            continue
        tx.move(row.queue, row.status, Status.SCHEDULED)
        new_rows.append(rows[-1])
        about = about_row(row, row.v + 1)
        tx.record("scheduled", about, status=Status.SCHEDULED, attempt=row.number, handle=item.handle)
    _SCHEDULE_ATTEMPT.run(tx.connection, rows)
    _SCHEDULE_JOB.run(tx.connection, new_rows)
    return [item.key in held for item in items]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a foreign queue lets an attempt wait, or suspended it."""

    key: Key
    reason: str


_EXPLAIN = Prepared(
    sa.update(Attempt)
    .where(Attempt.job == sa.bindparam("of_job"), Attempt.number == sa.bindparam("of_number"))
    .values(reason=sa.bindparam("why"))
)


def explain(tx: Transaction, items: Sequence[Reason]) -> list[bool]:
    """Keep what foreign queues say; no event, because some say something else every minute.

    False: the attempt is not the caller's any more, nothing was written.
    """
    held = fenced(tx, [item.key for item in items])
    _EXPLAIN.run(
        tx.connection,
        [
            {"of_job": item.key.job, "of_number": item.key.number, "why": item.reason}
            for item in items
            if item.key in held
        ],
    )
    return [item.key in held for item in items]


@dataclass(frozen=True, slots=True)
class Turn:
    """The processes of an attempt were seen stopped, or going on again."""

    key: Key
    is_paused: bool


def turn(tx: Transaction, turns: Sequence[Turn]) -> list[bool]:
    """Record pauses and their ends. False: the attempt is not the caller's any more, nothing was written."""
    held = fenced(tx, [item.key for item in turns])
    # Status and version of each, which several turns of one batch move along.
    current = {key: (Status(row.status), int(row.v)) for key, row in held.items()}
    for item in turns:
        row = held.get(item.key)
        status = Status.PAUSED if item.is_paused else Status.RUNNING
        if row is None:
            continue
        if row.resume_untold is not None and not item.is_paused:
            # It goes on, whoever brought that about.
            tx.connection.execute(sa.update(Job).where(Job.id == row.id).values(resume_untold=None))
        old, v = current[item.key]
        if old is status or old not in STARTED:
            continue
        current[item.key] = status, v + 1
        tx.connection.execute(sa.update(Job).where(Job.id == row.id).values(v=v + 1, status=status.value))
        tx.move(row.queue, old, status)
        # Another wish may have come in meanwhile.
        tx.topics.add(Topic.WISH)
        about = about_row(row, v + 1)
        tx.record("paused" if item.is_paused else "resumed", about, status=status, attempt=row.number)
    return [item.key in held for item in turns]


@dataclass(frozen=True, slots=True)
class Told:
    """A foreign queue has taken what it was told of an attempt that waits there."""

    key: Key
    wished: Stored


def tell(tx: Transaction, items: Sequence[Told]) -> list[bool]:
    """Record what foreign queues were told. False: the attempt is not the caller's any more, nothing was written.

    What was wished otherwise meanwhile, at another version of the job, is still to be told.
    """
    answers = []
    for item in items:
        # One after the other, each on a fresh row: of one job several things may be told in a batch.
        row = fenced(tx, [item.key]).get(item.key)
        answers.append(row is not None)
        if row is None:
            continue
        match item.wished:
            case Hold(is_held=is_held, v=v) if v == row.hold_untold:
                kind = "held" if is_held else "unheld"
                jobs.change(tx, row, kind, {"attempt": row.number}, hold_untold=None)
            case Rank(priority=priority, v=v) if v == row.priority_untold:
                shown = {"attempt": row.number, "priority": priority}
                jobs.change(tx, row, "prioritised", shown, priority_untold=None)
    return answers


@dataclass(frozen=True, slots=True)
class Finish:
    """How an attempt ended, what was measured, and the pure decision what that means for its job."""

    key: Key
    end: End
    decide: Callable[[Rules, datetime], Outcome]
    started_at: datetime | None
    finished_at: datetime
    work_dir: str | None
    handle: str | None = None  # of an attempt whose start was not written before
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    leftovers: int = 0


def finish(tx: Transaction, ends: Sequence[Finish]) -> list[Outcome | None]:
    """Record ends; dependants become due in the same transaction.

    None: the attempt is not the caller's any more, nothing was written.
    """
    held = fenced(tx, [item.key for item in ends])
    answers: list[Outcome | None] = []
    attempt_rows, job_rows = [], []
    ended: dict[int, Status] = {}
    for item in ends:
        row = held.pop(item.key, None)
        if row is None:
            answers.append(None)
            continue
        outcome = item.decide(_rules(row), tx.now)
        answers.append(outcome)
        # Who only knows that it is lost does not know when it started; what was seen before stands.
        started_at = item.started_at or row.attempt_started_at
        attempt_rows.append(_attempt_end(item, outcome, started_at))
        grown = _grow(tx, row, outcome.error) if row.growth and started_at is not None else {}
        job_rows.append(_job_end(tx, item, outcome, row, started_at, grown))
        if outcome.status.is_terminal:
            ended[row.job] = outcome.status
    _FINISH_ATTEMPT.run(tx.connection, attempt_rows)
    _FINISH_JOB.run(tx.connection, job_rows)
    dependencies.resolve(tx, list(ended.items()))
    return answers


def _rules(row: AnyRow) -> Rules:
    return Rules(
        retry=Retry(row.max_attempts, row.backoff_s, frozenset(row.retry_on)),
        on_lost=OnLost(row.on_lost),
        exit_codes=tuple(row.exit_codes),
        attempts_used=row.attempts_counted,
        cancel_requested=row.cancel_requested_at is not None,
        is_held=row.held_at is not None,
    )


def _grow(tx: Transaction, row: AnyRow, error: JobError | None) -> dict[str, Any]:
    """What the next attempt asks for instead, whoever asks for that one: by name, what has grown."""
    if error is None:
        return {}
    statement = sa.select(Spec.resources, Job.grown).join(Job, Job.id == Spec.job).where(Job.id == row.id)
    found = tx.connection.execute(statement).one()
    before = found.grown or {}
    grown = Growth.of(row.growth).after(error.code, Resources.of({**found.resources, **before}))
    if grown:
        # What a claim compares with the room there is.
        room = {"memory_bytes": grown["memory_bytes"]} if "memory_bytes" in grown else {}
        tx.connection.execute(
            sa.update(Job).where(Job.id == row.id).values(grown={**before, **grown}, **room)
        )
    return grown


_ATTEMPT_END = (
    "counted", "outcome", "started_at", "finished_at", "work_dir", "exit_code", "signal", "ended_by",
    "error_code", "error_message", "cpu_s", "peak_memory_bytes", "leftovers",
)  # fmt: skip
_FINISH_ATTEMPT = Prepared(
    sa.update(Attempt)
    .where(Attempt.job == sa.bindparam("of_job"), Attempt.number == sa.bindparam("of_number"))
    .values(
        {name: sa.bindparam(f"new_{name}") for name in _ATTEMPT_END}
        | {"handle": sa.func.coalesce(sa.bindparam("new_handle"), Attempt.handle)}
    )
)
_JOB_END = (
    "status", "attempts_counted", "exit_code", "error_code", "error_message", "due_at", "held_at",
    "started_at", "finished_at", "work_dir", "v",
)  # fmt: skip
_FINISH_JOB = Prepared(
    sa.update(Job)
    .where(Job.id == sa.bindparam("of_job"))
    .values(
        {name: sa.bindparam(f"new_{name}") for name in _JOB_END}
        | {
            "handle": sa.func.coalesce(sa.bindparam("new_handle"), Job.handle),
            "queued_at": sa.func.coalesce(sa.bindparam("new_queued_at", type_=Moment), Job.queued_at),
            # A wish to pause holds for the next attempt too, until the job has ended.
            "pause_requested_at": sa.case(
                (sa.bindparam("new_finished_at", type_=Moment).is_(None), Job.pause_requested_at), else_=None
            ),
            # Another attempt is handed in as its job is then.
            "hold_untold": sa.null(),
            "priority_untold": sa.null(),
            "resume_untold": sa.null(),
        }
    )
)


def _attempt_end(item: Finish, outcome: Outcome, started_at: datetime | None) -> dict[str, Any]:
    return {
        "of_job": item.key.job,
        "of_number": item.key.number,
        "new_counted": outcome.counted,
        "new_outcome": outcome.attempt,
        "new_started_at": started_at,
        "new_finished_at": item.finished_at,
        "new_work_dir": item.work_dir,
        "new_handle": item.handle,
        "new_exit_code": item.end.exit_code,
        "new_signal": item.end.signal,
        "new_ended_by": item.end.ended_by,
        **_error_values(outcome.error),
        "new_cpu_s": item.cpu_s,
        "new_peak_memory_bytes": item.peak_memory_bytes,
        "new_leftovers": item.leftovers,
    }


def _error_values(error: JobError | None) -> dict[str, str | None]:
    return {
        "new_error_code": error.code if error else None,
        "new_error_message": error.message if error else None,
    }


def _job_end(
    tx: Transaction,
    item: Finish,
    outcome: Outcome,
    row: AnyRow,
    started_at: datetime | None,
    grown: dict[str, Any],
) -> dict[str, Any]:
    status = outcome.status
    finished_at = item.finished_at if status.is_terminal else None
    tx.move(row.queue, row.status, status)
    about = about_row(row, row.v + 1)
    has_run = item.started_at is not None
    if has_run and row.status in UNSTARTED:
        # A fast job: its start and its end are one write, but still two facts.
        _tell_start(tx, row, item)
        about = about_row(row, row.v + 2)
    shown: dict[str, Any] = {"status": status, "attempt": row.number, "exit_code": item.end.exit_code}
    if row.site != LOCAL:
        shown["handle"] = item.handle or row.handle
    if outcome.error is not None:
        shown["error"] = {"code": outcome.error.code, "message": outcome.error.message}
    if finished_at is not None:
        shown["finished_at"] = finished_at
    if outcome.due_at is not None:
        shown["due_at"] = outcome.due_at
    if grown:
        shown["grown"] = grown
    tx.record(_kind(outcome), about, **shown)
    return {
        "of_job": row.job,
        "new_status": status.value,
        "new_attempts_counted": row.attempts_counted - (not outcome.counted),
        "new_exit_code": item.end.exit_code,
        **_error_values(outcome.error),
        "new_due_at": outcome.due_at,
        "new_held_at": None if has_run else row.held_at,
        "new_queued_at": tx.now if status is Status.QUEUED else None,
        "new_started_at": started_at,
        "new_finished_at": finished_at,
        "new_work_dir": item.work_dir,
        "new_handle": item.handle,
        "new_v": about["v"],
    }


def _kind(outcome: Outcome) -> str:
    """The event that tells of a finish: the terminal status itself, or what happens next."""
    if outcome.status.is_terminal:
        return outcome.status.value
    return RELEASED if outcome.attempt == RELEASED else "retrying"


_WISHES = (
    sa.select(Attempt.token)
    .join(Job, Job.id == Attempt.job)
    .where(
        Job.cancel_requested_at.is_not(None),
        Job.finished_at.is_(None),
        Attempt.finished_at.is_(None),
        Attempt.dispatcher == sa.bindparam("of_dispatcher"),
    )
)


def cancel_wishes(connection: sa.Connection, dispatcher: str) -> list[str]:
    """Tokens of the dispatcher's live attempts whose job somebody wants cancelled."""
    return list(connection.execute(_WISHES, {"of_dispatcher": dispatcher}).scalars())


_PAUSES = (
    sa.select(Attempt.token, Job.pause_requested_at.is_not(None).label("wanted"))
    .join(Job, Job.id == Attempt.job)
    .where(
        # As the index says it, so that it is used.
        sa.literal_column(f"({PAUSING})"),
        sa.or_(
            sa.and_(Job.pause_requested_at.is_not(None), Job.status != sa.literal_column("'paused'")),
            Job.resume_untold.is_not(None),
            # Here nobody but us pauses; a foreign queue has its own reasons to.
            sa.and_(
                Job.site == LOCAL,
                Job.pause_requested_at.is_(None),
                Job.status == sa.literal_column("'paused'"),
            ),
        ),
        Job.status.in_([status.value for status in STARTED]),
        Attempt.finished_at.is_(None),
        Attempt.dispatcher == sa.bindparam("of_dispatcher"),
    )
)


def pause_wishes(connection: sa.Connection, dispatcher: str) -> list[tuple[str, bool]]:
    """Running attempts of the dispatcher to pause (True), and paused ones to resume (False), by token.

    What a foreign queue suspended by itself is left alone until a user resumes it.
    """
    rows = connection.execute(_PAUSES, {"of_dispatcher": dispatcher})
    return [(row.token, bool(row.wanted)) for row in rows]


_UNTOLD = (
    sa.select(
        Attempt.token,
        Job.held_at.is_not(None).label("is_held"),
        Job.hold_untold,
        Job.priority,
        Job.priority_untold,
    )
    .join(Job, Job.id == Attempt.job)
    .where(
        sa.literal_column(f"({UNTOLD})"),
        Job.status.in_([status.value for status in UNSTARTED]),
        Attempt.finished_at.is_(None),
        Attempt.dispatcher == sa.bindparam("of_dispatcher"),
    )
)


def untold_wishes(connection: sa.Connection, dispatcher: str) -> list[tuple[str, Stored]]:
    """What foreign queues are still to be told of the dispatcher's attempts that wait there, by token."""
    found: list[tuple[str, Stored]] = []
    for row in connection.execute(_UNTOLD, {"of_dispatcher": dispatcher}):
        if row.hold_untold is not None:
            found.append((row.token, Hold(bool(row.is_held), row.hold_untold)))
        # SLURM releases a job whose rank is changed (22.05), so what is held is told of it behind its release.
        if row.priority_untold is not None and not row.is_held:
            found.append((row.token, Rank(row.priority, row.priority_untold)))
    return found

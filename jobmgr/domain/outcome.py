"""What the end of an attempt means for its job: the one place that decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from jobmgr.domain.job import JobError, OnLost
from jobmgr.domain.retry import Retry
from jobmgr.domain.status import Status
from jobmgr.failure import Failure

# How long the sentence of an error may be.
MAX_SENTENCE = 2000
RELEASED = "released"
LOST = "lost"
# What the warden records for a keeper that was killed between its gate and its command.
NEVER_STARTED = "keeper_died_before_start"


@dataclass(frozen=True, slots=True)
class End:
    """What was observed of an attempt's end. If it neither exited nor failed nor was killed, it never ran."""

    exit_code: int | None = None
    signal: int | None = None
    error: JobError | None = None
    ended_by: str = "self"
    lost: bool = False

    @property
    def never_ran(self) -> bool:
        """Whether the command never ran and never will, through no fault of its job."""
        if self.error is not None:
            return self.error.code == NEVER_STARTED
        return self.exit_code is None and self.signal is None


@dataclass(frozen=True, slots=True)
class Rules:
    """What the job's spec says about ends, and how many counted attempts it has had including this one."""

    retry: Retry
    on_lost: OnLost
    exit_codes: tuple[int, ...]
    attempts_used: int
    cancel_requested: bool
    is_held: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to write: the job's next status, the word for the attempt, the error, and when a retry is due.

    `counted` says whether the attempt spends the retry budget.
    """

    status: Status
    attempt: str
    error: JobError | None = None
    due_at: datetime | None = None
    counted: bool = True


def decide(end: End, rules: Rules, missing_files: tuple[str, ...], now: datetime, jitter: float) -> Outcome:
    """The outcome of an attempt that ended as `end`. `jitter` in [0, 1) spreads the retry."""
    if end.never_ran:
        if rules.cancel_requested:
            return Outcome(Status.CANCELLED, RELEASED, _CANCELLED, counted=False)
        # It may have been held while it waited elsewhere.
        status = Status.PENDING if rules.is_held else Status.QUEUED
        return Outcome(status, RELEASED, counted=False)
    if end.ended_by == "cancel":
        return Outcome(Status.CANCELLED, Status.CANCELLED, _CANCELLED)
    error = _error(end, rules, missing_files)
    if error is None:
        return Outcome(Status.COMPLETED, Status.COMPLETED)
    word = LOST if end.lost else Status.FAILED.value
    if _is_retried(end, error, rules):
        delay = timedelta(seconds=rules.retry.delay_s(rules.attempts_used, jitter))
        return Outcome(Status.PENDING, word, error, due_at=now + delay)
    return Outcome(Status.FAILED, word, error)


_CANCELLED = JobError("cancelled", "cancelled on request")


def _is_retried(end: End, error: JobError, rules: Rules) -> bool:
    if rules.cancel_requested:
        return False
    if end.lost:
        return rules.on_lost is OnLost.RETRY and rules.attempts_used < rules.retry.max_attempts
    return rules.retry.allows(rules.attempts_used, error.code)


def _error(end: End, rules: Rules, missing_files: tuple[str, ...]) -> JobError | None:
    if end.error is not None:
        return end.error
    if end.ended_by == "walltime":
        return JobError(Failure.TIMEOUT, "it ran longer than its walltime and was ended")
    if end.signal is not None:
        return JobError(Failure.SIGNAL, f"it was killed by signal {end.signal}")
    if end.exit_code not in rules.exit_codes:
        return JobError(Failure.EXIT_CODE, f"it exited with code {end.exit_code}")
    if missing_files:
        return JobError(Failure.MISSING_OUTPUT, _shortened(f"it did not write {', '.join(missing_files)}"))
    return None


def _shortened(sentence: str) -> str:
    # It is stored with the job and its attempt, and sent with each event.
    return sentence if len(sentence) <= MAX_SENTENCE else f"{sentence[: MAX_SENTENCE - 3]}..."

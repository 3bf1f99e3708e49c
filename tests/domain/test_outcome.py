"""What the end of an attempt means for its job."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from jobmgr.domain.job import JobError, OnLost
from jobmgr.domain.outcome import MAX_SENTENCE, End, Outcome, Rules, decide
from jobmgr.domain.retry import MAX_BACKOFF_S, Retry
from jobmgr.domain.status import Status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONCE = Rules(Retry(1, 30.0), OnLost.FAIL, (0,), attempts_used=1, cancel_requested=False)
THRICE = replace(ONCE, retry=Retry(3, 30.0))
LOST = End(error=JobError("lost", "nobody knows"), lost=True)
NOT_STARTED = End(error=JobError("not_started", "there is no such program"))
RELEASED = End()
KEEPER_DIED = End(error=JobError("keeper_died_before_start", "its keeper was killed"))


def outcome(end: End, rules: Rules = ONCE, missing: tuple[str, ...] = ()) -> Outcome:
    return decide(end, rules, missing, NOW, jitter=0.5)


@pytest.mark.parametrize(
    ("end", "missing", "status", "word", "code"),
    [
        (End(0), (), Status.COMPLETED, "completed", None),
        (End(0), ("out.txt",), Status.FAILED, "failed", "missing_output"),
        (End(1), (), Status.FAILED, "failed", "exit_code"),
        (End(1), ("out.txt",), Status.FAILED, "failed", "exit_code"),
        (End(None, signal=9), (), Status.FAILED, "failed", "signal"),
        (End(None, signal=15, ended_by="walltime"), (), Status.FAILED, "failed", "timeout"),
        (End(0, ended_by="walltime"), (), Status.FAILED, "failed", "timeout"),
        (End(None, signal=15, ended_by="cancel"), (), Status.CANCELLED, "cancelled", "cancelled"),
        (End(0, ended_by="cancel"), (), Status.CANCELLED, "cancelled", "cancelled"),
        (NOT_STARTED, (), Status.FAILED, "failed", "not_started"),
        (LOST, (), Status.FAILED, "lost", "lost"),
        (RELEASED, (), Status.QUEUED, "released", None),
        (KEEPER_DIED, (), Status.QUEUED, "released", None),
    ],
)
def test_end_without_retries(
    end: End, missing: tuple[str, ...], status: Status, word: str, code: str | None
) -> None:
    found = outcome(end, missing=missing)

    assert (found.status, found.attempt) == (status, word)
    assert (found.error.code if found.error else None) == code
    assert found.due_at is None
    assert found.counted is (word != "released")


def test_sentence_about_many_files_has_an_end() -> None:
    error = outcome(End(0), missing=("x" * 1024,) * 1000).error

    assert error is not None
    assert len(error.message) <= MAX_SENTENCE


@pytest.mark.parametrize(
    ("exit_code", "status"), [(0, Status.FAILED), (3, Status.COMPLETED), (4, Status.COMPLETED)]
)
def test_exit_codes_that_count_as_success_are_the_jobs_choice(exit_code: int, status: Status) -> None:
    assert outcome(End(exit_code), replace(ONCE, exit_codes=(3, 4))).status is status


@pytest.mark.parametrize(
    "end", [End(1), End(None, signal=11), NOT_STARTED, End(None, signal=15, ended_by="walltime")]
)
def test_failure_within_budget_is_retried_later(end: End) -> None:
    found = outcome(end, THRICE)

    assert found.status is Status.PENDING
    assert found.attempt == "failed"
    assert found.due_at == NOW + timedelta(seconds=30)
    assert found.error is not None


@pytest.mark.parametrize(("used", "status"), [(1, Status.PENDING), (2, Status.PENDING), (3, Status.FAILED)])
def test_budget_counts_attempts_including_this_one(used: int, status: Status) -> None:
    assert outcome(End(1), replace(THRICE, attempts_used=used)).status is status


@pytest.mark.parametrize(("end", "status"), [(End(1), Status.PENDING), (End(None, signal=9), Status.FAILED)])
def test_only_named_errors_are_retried(end: End, status: Status) -> None:
    rules = replace(THRICE, retry=Retry(3, 30.0, frozenset({"exit_code", "timeout"})))

    assert outcome(end, rules).status is status


@pytest.mark.parametrize("end", [End(1), LOST, NOT_STARTED])
def test_nothing_is_retried_that_somebody_wants_cancelled(end: End) -> None:
    rules = replace(THRICE, on_lost=OnLost.RETRY, cancel_requested=True)

    assert outcome(end, rules).status is Status.FAILED


def test_job_that_completed_before_its_cancel_completed() -> None:
    assert outcome(End(0), replace(ONCE, cancel_requested=True)).status is Status.COMPLETED


def test_released_attempt_of_a_held_job_waits_on() -> None:
    found = outcome(RELEASED, replace(ONCE, is_held=True))

    assert (found.status, found.attempt, found.due_at) == (Status.PENDING, "released", None)


def test_released_attempt_of_a_cancelled_job_cancels_it() -> None:
    found = outcome(RELEASED, replace(ONCE, cancel_requested=True))

    assert (found.status, found.attempt, found.counted) == (Status.CANCELLED, "released", False)


@pytest.mark.parametrize(
    ("on_lost", "retry", "status"),
    [
        (OnLost.FAIL, Retry(3), Status.FAILED),
        (OnLost.RETRY, Retry(1), Status.FAILED),
        (OnLost.RETRY, Retry(3), Status.PENDING),
        (OnLost.RETRY, Retry(3, on=frozenset({"exit_code"})), Status.PENDING),
    ],
)
def test_lost_attempt_is_retried_only_if_the_job_says_so(
    on_lost: OnLost, retry: Retry, status: Status
) -> None:
    found = outcome(LOST, replace(ONCE, on_lost=on_lost, retry=retry))

    assert (found.status, found.attempt) == (status, "lost")


@pytest.mark.parametrize(("used", "delay_s"), [(1, 10), (2, 20), (3, 40), (5, 160), (12, MAX_BACKOFF_S)])
def test_delay_doubles_up_to_a_bound(used: int, delay_s: float) -> None:
    assert Retry(99, 10.0).delay_s(used, jitter=0.5) == delay_s


@pytest.mark.parametrize("used", [1, 31, 1000, 10**6])
def test_delay_is_finite_after_any_number_of_attempts(used: int) -> None:
    assert 0 <= Retry(99, 1e9).delay_s(used, jitter=0.99) <= MAX_BACKOFF_S * 1.25


def test_jitter_spreads_the_delay_by_a_quarter() -> None:
    assert Retry(3, 100.0).delay_s(1, jitter=0.0) == 75
    assert Retry(3, 100.0).delay_s(1, jitter=0.999) == pytest.approx(125, abs=0.1)

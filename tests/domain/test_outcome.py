from datetime import UTC, datetime, timedelta

import pytest

from jobmgr.domain.job import JobError, OnLost
from jobmgr.domain.outcome import End, Outcome, Rules, decide
from jobmgr.domain.retry import MAX_BACKOFF_S, Retry
from jobmgr.domain.status import Status

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def rules(
    *,
    retry: Retry | None = None,
    on_lost: OnLost = OnLost.FAIL,
    exit_codes: tuple[int, ...] = (0,),
    attempts_used: int = 1,
    cancel_requested: bool = False,
) -> Rules:
    return Rules(retry or Retry(), on_lost, exit_codes, attempts_used, cancel_requested)


def judged(end: End, given: Rules, missing: tuple[str, ...] = ()) -> Outcome:
    return decide(end, given, missing, NOW, jitter=0.5)


def test_exit_code_zero_completes() -> None:
    assert judged(End(exit_code=0), rules()).status is Status.COMPLETED


def test_an_exit_code_that_counts_as_success_completes() -> None:
    assert judged(End(exit_code=3), rules(exit_codes=(0, 3))).status is Status.COMPLETED


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (End(exit_code=1), "exit_code"),
        (End(signal=9), "signal"),
        (End(signal=15, ended_by="walltime"), "timeout"),
        (End(error=JobError("program_not_found", "no such program")), "program_not_found"),
    ],
)
def test_other_ends_fail_with_their_reason(end: End, code: str) -> None:
    outcome = judged(end, rules())

    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.error.code == code


def test_a_missing_required_file_fails_a_job_that_exited_well() -> None:
    outcome = judged(End(exit_code=0), rules(), missing=("result.json",))

    assert outcome.error == JobError("missing_output", "it did not write result.json")


def test_a_failure_is_retried_until_the_budget_is_spent() -> None:
    retry = Retry(max_attempts=2, backoff_s=10)

    first, last = (judged(End(exit_code=1), rules(retry=retry, attempts_used=used)) for used in (1, 2))

    assert (first.status, first.due_at) == (Status.PENDING, NOW + timedelta(seconds=10))
    assert last.status is Status.FAILED


def test_only_the_named_causes_are_retried() -> None:
    retry = Retry(max_attempts=5, on=frozenset({"signal"}))

    assert judged(End(exit_code=1), rules(retry=retry)).status is Status.FAILED
    assert judged(End(signal=9), rules(retry=retry)).status is Status.PENDING


def test_a_cancelled_run_is_cancelled_and_never_retried() -> None:
    outcome = judged(
        End(signal=15, ended_by="cancel"), rules(retry=Retry(max_attempts=5), cancel_requested=True)
    )

    assert outcome.status is Status.CANCELLED


def test_a_job_that_ended_by_itself_before_the_cancel_keeps_its_outcome() -> None:
    assert judged(End(exit_code=0), rules(cancel_requested=True)).status is Status.COMPLETED
    failed = judged(End(exit_code=1), rules(cancel_requested=True, retry=Retry(max_attempts=5)))
    assert failed.status is Status.FAILED


def test_an_attempt_that_never_ran_is_queued_again_and_spends_nothing() -> None:
    outcome = judged(End(), rules())

    assert (outcome.status, outcome.attempt, outcome.counted) == (Status.QUEUED, "released", False)


def test_an_attempt_that_never_ran_of_a_job_to_be_cancelled_is_cancelled() -> None:
    assert judged(End(), rules(cancel_requested=True)).status is Status.CANCELLED


@pytest.mark.parametrize(
    ("on_lost", "expected"), [(OnLost.FAIL, Status.FAILED), (OnLost.RETRY, Status.PENDING)]
)
def test_a_lost_attempt_is_run_again_only_if_the_job_says_so(on_lost: OnLost, expected: Status) -> None:
    end = End(error=JobError("lost", "nobody knows"), lost=True)

    outcome = judged(end, rules(retry=Retry(max_attempts=3), on_lost=on_lost))

    assert (outcome.status, outcome.attempt) == (expected, "lost")


def test_backoff_doubles_spreads_and_is_bounded() -> None:
    retry = Retry(max_attempts=99, backoff_s=8)

    assert [retry.delay_s(used, 0.5) for used in (1, 2, 3)] == [8, 16, 32]
    assert retry.delay_s(1, 0.0) == pytest.approx(6)
    assert retry.delay_s(1, 0.999) == pytest.approx(10, rel=0.01)
    assert retry.delay_s(98, 0.5) == MAX_BACKOFF_S

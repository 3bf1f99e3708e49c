"""Why a job is where it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobmgr.domain.job import Job, JobError, When
from jobmgr.domain.queue import Queue, Tally
from jobmgr.domain.status import Status
from jobmgr.domain.why import Parent, Surroundings, explain

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
OPEN = Queue("default", paused=False, max_running=None, counts=dict.fromkeys(Tally, 0))
AROUND = Surroundings(
    queue=OPEN, unmet=[], ahead=0, slots=2, slots_used=0, closed=[], asks_too_much=[], waits_for_room=[]
)
JOB = Job(
    job_id="a", name="", description="", status=Status.QUEUED, priority=0, queue="default", site="local",
    executor="local", user="me", draft=False, attempt=0, exit_code=None, error=None, created_at=NOW, due_at=None,
    held_at=None, deps_left=0, cancel_requested_at=None, pause_requested_at=None, queued_at=NOW, started_at=None,
    finished_at=None, handle=None, work_dir=None, tags=(), extended_properties={}, key=None, v=1,
)  # fmt: skip


def codes(around: Surroundings = AROUND, **fields: Any) -> list[str]:
    return [reason.code for reason in explain(replace(JOB, **fields), around, NOW)]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"draft": True}, "draft"),
        ({"held_at": NOW}, "held"),
        ({"due_at": NOW + timedelta(seconds=1)}, "not_due"),
        ({"due_at": NOW}, "due"),
    ],
)
def test_pending_job_names_what_holds_it_back(fields: dict[str, Any], code: str) -> None:
    assert codes(status=Status.PENDING, **fields) == [code]


def test_all_that_holds_a_pending_job_back_is_named() -> None:
    around = replace(AROUND, unmet=[Parent(When.SUCCESS, "p", Status.RUNNING)])

    found = codes(around, status=Status.PENDING, draft=True, held_at=NOW, due_at=NOW + timedelta(1))

    assert found == ["draft", "held", "not_due", "dependency"]


@pytest.mark.parametrize(("when", "awaited"), [(When.FAILURE, "failure"), (When.ANY, "end")])
def test_unmet_dependency_names_the_parent(when: When, awaited: str) -> None:
    around = replace(AROUND, unmet=[Parent(when, "p7", Status.RUNNING)])

    (reason,) = explain(replace(JOB, status=Status.PENDING, deps_left=1), around, NOW)

    assert reason.message == f"it waits for the {awaited} of job p7 (running)"


@pytest.mark.parametrize(
    ("around", "code"),
    [
        (AROUND, "next"),
        (replace(AROUND, queue=replace(OPEN, paused=True)), "queue_paused"),
        (replace(AROUND, queue=replace(OPEN, max_running=0)), "queue_limit"),
        (
            replace(AROUND, queue=replace(OPEN, max_running=1, counts={**OPEN.counts, Tally.LIVE: 1})),
            "queue_limit",
        ),
        (replace(AROUND, slots_used=2), "slots"),
        (replace(AROUND, closed=["the memory"]), "host_limit"),
        (replace(AROUND, asks_too_much=["it asks"]), "asks_too_much"),
        (replace(AROUND, waits_for_room=["it asks"]), "resources"),
        (replace(AROUND, ahead=3), "order"),
    ],
)
def test_queued_job_names_what_it_waits_for(around: Surroundings, code: str) -> None:
    assert codes(around) == [code]


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
def test_ended_job_tells_how_it_ended(status: Status) -> None:
    job = replace(JOB, status=status, error=JobError("exit_code", "it exited with code 3"))

    (reason,) = explain(job, AROUND, NOW)

    assert reason.code == status.value
    assert "code 3" in reason.message


def test_live_job_whose_cancel_is_under_way_says_so() -> None:
    assert codes(status=Status.RUNNING, cancel_requested_at=NOW) == ["cancelling"]


def test_claimed_job_tells_why_a_foreign_queue_does_not_have_it_yet() -> None:
    job = replace(JOB, status=Status.CLAIMED, site="lab", attempt=1)
    around = replace(AROUND, said_there="the scheduler of lab does not answer")

    (reason,) = explain(job, around, NOW)
    (cancelled,) = explain(replace(job, cancel_requested_at=NOW), around, NOW)

    assert reason.message == "attempt 1 is to be handed in at lab: the scheduler of lab does not answer"
    assert cancelled.message.endswith("; lab says: the scheduler of lab does not answer")


def test_site_that_is_not_served_is_not_called_full() -> None:
    job = replace(JOB, site="far")

    (reason,) = explain(job, replace(AROUND, slots=0, slots_used=0, closed=["it is not served"]), NOW)

    assert reason.message == "it is not served"


def test_what_a_foreign_queue_suspended_by_itself_is_told_apart_from_a_pause() -> None:
    job = replace(JOB, status=Status.PAUSED, site="lab", handle="7", attempt=1)
    around = replace(AROUND, said_there="SUSPENDED")

    (suspended,) = explain(job, around, NOW)
    (paused,) = explain(replace(job, pause_requested_at=NOW), around, NOW)

    assert suspended.code == paused.code == "paused"
    assert suspended.message.startswith(
        "lab has suspended attempt 1 (7): SUSPENDED; it goes on when lab says so"
    )
    assert paused.message == "attempt 1 is paused; `resume` lets it go on"


def test_what_cannot_be_reached_tells_since_when_and_why() -> None:
    job = replace(JOB, status=Status.RUNNING, site="lab", handle="7", attempt=1)

    (reason,) = explain(job, replace(AROUND, unreachable_at=NOW, unreachable_why="7 is gone"), NOW)

    since = "attempt 1 cannot be reached since 2026-01-01 12:00:00 UTC"
    assert reason.message == (
        f"{since}: 7 is gone; if you know that it is dead, `retry --assume-dead` runs the job again"
    )


def test_job_that_waits_elsewhere_tells_why_and_when_it_is_expected_to_start() -> None:
    at = NOW + timedelta(hours=1)
    job = replace(JOB, status=Status.SCHEDULED, site="lab", handle="7", attempt=1)

    (reason,) = explain(job, replace(AROUND, said_there="Priority", expected_start=at), NOW)
    (late,) = explain(job, replace(AROUND, said_there="Priority", expected_start=NOW), NOW)

    waits = "attempt 1 waits at lab as 7: Priority"
    assert reason.message == f"{waits}; it is expected to start at 2026-01-01 13:00:00 UTC"
    assert reason.expected_start == at
    assert (late.message, late.expected_start) == (waits, None)


@pytest.mark.parametrize(
    ("held_at", "untold", "codes_", "words"),
    [
        (
            NOW,
            {},
            ["held"],
            "held at far as 77 since 2026-01-01 12:00:00 UTC; `release` lets it go: JobHeldUser",
        ),
        (NOW, {"untold_hold": ""}, ["scheduled", "not_told"], "far is about to be told of its hold"),
        (NOW, {"untold_hold": "no"}, ["scheduled", "not_taken"], "far has not taken its hold: no"),
        (None, {"untold_hold": "no"}, ["scheduled", "not_taken"], "far has not taken its release: no"),
        (
            NOW,
            {"untold_priority": ""},
            ["held", "not_told"],
            "far is told of its priority 5 when it is released",
        ),
        (None, {"untold_priority": "no"}, ["scheduled", "not_taken"], "far has not taken its priority 5: no"),
    ],
)
def test_job_that_waits_elsewhere_says_what_its_queue_was_told(
    held_at: datetime | None, untold: dict[str, Any], codes_: list[str], words: str
) -> None:
    job = replace(
        JOB, status=Status.SCHEDULED, site="far", handle="77", attempt=1, priority=5, held_at=held_at
    )

    found = explain(job, replace(AROUND, said_there="JobHeldUser", **untold), NOW)

    assert [reason.code for reason in found] == codes_
    assert words in found[-1].message


@pytest.mark.parametrize("status", list(Status))
def test_there_is_always_a_reason(status: Status) -> None:
    assert codes(status=status)


def test_pause_of_what_does_not_run_yet_is_told_as_what_it_is() -> None:
    job = replace(JOB, status=Status.SCHEDULED, site="lab", handle="7", attempt=1, pause_requested_at=NOW)

    first, second = explain(job, replace(AROUND, said_there="Priority"), NOW)

    assert (first.code, first.message) == ("scheduled", "attempt 1 waits at lab as 7: Priority")
    assert (second.code, second.message) == (
        "pausing",
        "its pause was requested; it is stopped once it has started; `hold` keeps it from starting",
    )


@pytest.mark.parametrize(
    ("untold", "codes_", "words"),
    [
        ("", ["pausing", "not_told"], "lab is about to be told of its pause"),
        ("no", ["pausing", "not_taken"], "lab has not taken its pause: no"),
        (None, ["pausing"], "lab was told, and has not stopped its processes, as far as was seen"),
    ],
)
def test_pause_at_a_foreign_queue_says_what_that_one_was_told(
    untold: str | None, codes_: list[str], words: str
) -> None:
    job = replace(JOB, status=Status.RUNNING, site="lab", handle="7", attempt=1, pause_requested_at=NOW)

    found = explain(job, replace(AROUND, untold_pause=untold), NOW)

    assert [reason.code for reason in found] == codes_
    assert words in found[-1].message


def test_refused_end_of_a_pause_is_told() -> None:
    job = replace(JOB, status=Status.PAUSED, site="lab", handle="7", attempt=1)

    found = explain(job, replace(AROUND, untold_pause="no"), NOW)

    assert [reason.code for reason in found] == ["paused", "not_taken"]
    assert found[-1].message == "lab has not taken its resume: no"


def test_cancel_of_what_does_not_run_ends_no_processes() -> None:
    job = replace(JOB, status=Status.SCHEDULED, site="lab", handle="7", attempt=1, cancel_requested_at=NOW)

    (waits,) = explain(job, AROUND, NOW)
    (runs,) = explain(replace(job, status=Status.RUNNING), AROUND, NOW)

    assert waits.message == "its cancellation was requested; it is being taken back"
    assert runs.message == "its cancellation was requested; its processes are being ended"


def test_cancel_of_what_cannot_be_reached_is_told_too() -> None:
    job = replace(JOB, status=Status.RUNNING, site="lab", handle="7", attempt=1, cancel_requested_at=NOW)

    found = explain(job, replace(AROUND, unreachable_at=NOW), NOW)

    assert [reason.code for reason in found] == ["unreachable", "cancelling"]


def test_job_that_runs_while_its_scheduler_is_silent_says_so() -> None:
    job = replace(JOB, status=Status.RUNNING, site="lab", handle="7", attempt=1)

    (reason,) = explain(job, replace(AROUND, said_there="the scheduler of lab does not tell"), NOW)

    assert reason.message == "attempt 1 is running; the scheduler of lab does not tell"

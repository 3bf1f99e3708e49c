"""What files and a scheduler's words say together, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from jobmgr.dialects import holder
from jobmgr.dialects.dialect import Cause, Phase, Standing
from jobmgr.executors import gate
from jobmgr.executors.pace import Pace
from jobmgr.executors.place import Files
from jobmgr.executors.protocol import RAN_BEFORE, Ended, Lost, NeverRan
from jobmgr.executors.verdict import Known, ToSettle, ToVoid, Vanished, Verdict, Wait, is_put_back, judge
from jobmgr.failure import Failure

TOKEN = "a" * 32
RECORD_COMES_S = Pace().record_comes_s
ABSENT_S = Pace().absent_s
AT = "2026-11-21T10:00:00.000000Z"
RUN: dict[str, Any] = {
    "v": 1,
    "token": TOKEN,
    "decision": "run",
    "nonce": "77",
    "holder": {"site": "lab", "id": "12", "restarts": 0, "host": "n1", "at": AT},
}
VOID = {"v": 1, "token": TOKEN, "decision": "void", "nonce": "78", "reason": "cancelled"}


def record(code: int, signals: str = "") -> dict[str, Any]:
    return {
        "v": 1,
        "token": TOKEN,
        "exit_code": code,
        "signal": None,
        "error": None,
        "ended_by": "self",
        "started_at": AT,
        "ended_at": AT,
        "signals": signals,
        "times": "1m2.5s 0m0.5s",
        "cpu_s": None,
        "peak_memory_bytes": None,
        "leftovers": 0,
    }


def standing(phase: Phase, cause: Cause | None = None, **fields: Any) -> Standing:
    values: dict[str, Any] = {"id": "12", "name": f"jm-{TOKEN}", "word": (cause or phase).name, "restarts": 0}
    return Standing(phase=phase, cause=cause, **{**values, **fields})


def verdict(
    files: Files,
    *standings: Standing,
    gone_s: float = 0.0,
    is_cancelled: bool = False,
    heeds_memory: bool = False,
    recorded_s: float = 0.0,
    waits_s: float = 0.0,
    has_started: bool = False,
    complete: bool = True,
    has_queue: bool | None = None,
) -> Verdict:
    known = Known(
        TOKEN,
        is_cancelled,
        gone_s,
        Pace(),
        heeds_memory=heeds_memory,
        recorded_s=recorded_s,
        waits_s=waits_s,
        has_started=has_started,
    )
    return judge(
        known, files, standings, complete=complete, has_queue=complete if has_queue is None else has_queue
    )


HELD = Files(TOKEN, RUN)
UNDECIDED = Files(TOKEN)


def test_guards_are_what_gate_calls_whole() -> None:
    assert gate.is_gate(RUN)
    assert gate.is_gate(VOID)
    assert gate.is_exit(record(0))


@pytest.mark.parametrize("code", [0, 1, 77])
def test_record_of_a_command_that_ended_itself_is_enough(code: int) -> None:
    for standings in ([], [standing(Phase.RUNNING)], [standing(Phase.ENDED, Cause.FAILED, exit_code=9)]):
        found = verdict(Files(TOKEN, RUN, record(code)), *standings, complete=False)
        assert isinstance(found, Ended)
        assert (found.record.exit_code, found.record.ended_by, found.record.cpu_s) == (code, "self", 63.0)


@pytest.mark.parametrize("times", ["", "1m1.2.3s 0m0s", "9" * 400 + "m1s 0m0s", "1m.s 0m0s", "soon"])
def test_times_that_are_none_are_not_told(times: str) -> None:
    """A job may write its record itself: whoever judges many must not stumble over one."""
    found = verdict(Files(TOKEN, RUN, {**record(0), "times": times}))

    assert isinstance(found, Ended)
    assert found.record.cpu_s is None


def test_record_after_a_signal_waits_for_the_schedulers_reason() -> None:
    ended = Files(TOKEN, RUN, record(143, "TERM"))
    assert isinstance(verdict(ended, standing(Phase.RUNNING)), Wait)
    found = verdict(ended, standing(Phase.RUNNING), gone_s=RECORD_COMES_S)
    assert isinstance(found, Ended)
    assert found.record.exit_code == 143


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (Cause.TIMEOUT, Failure.TIMEOUT),
        (Cause.DEADLINE, Failure.TIMEOUT),
        (Cause.OUT_OF_MEMORY, Failure.OUT_OF_MEMORY),
        (Cause.NODE_FAIL, Failure.NODE_FAIL),
        (Cause.BOOT_FAIL, Failure.NODE_FAIL),
        (Cause.PREEMPTED, Failure.PREEMPTED),
        (Cause.REQUEUED, Failure.PREEMPTED),
        (Cause.REVOKED, Failure.PREEMPTED),
    ],
)
def test_cause_is_told_with_and_without_a_record(cause: Cause, code: Failure) -> None:
    for files in (Files(TOKEN, RUN, record(143, "TERM")), HELD):
        found = verdict(files, standing(Phase.ENDED, cause), gone_s=RECORD_COMES_S)
        assert isinstance(found, Ended)
        assert found.record.error is not None
        assert found.record.error.code == code


def test_want_of_memory_is_told_of_a_plain_exit_code_where_it_matters() -> None:
    """A program whose step was killed for its memory may well end with 1."""
    files = Files(TOKEN, RUN, record(1))
    ended = standing(Phase.ENDED, Cause.OUT_OF_MEMORY)

    waits = verdict(files, standing(Phase.RUNNING), heeds_memory=True)
    found = verdict(files, ended, heeds_memory=True)
    unheeded = verdict(files, ended)

    assert isinstance(waits, Wait)
    assert isinstance(found, Ended)
    assert found.record.error is not None
    assert found.record.error.code == Failure.OUT_OF_MEMORY
    assert isinstance(unheeded, Ended)
    assert (unheeded.record.exit_code, unheeded.record.error) == (1, None)


@pytest.mark.parametrize("cause", [Cause.FAILED, Cause.TIMEOUT, Cause.PREEMPTED, Cause.CANCELLED])
def test_plain_exit_code_stands_beside_any_other_cause(cause: Cause) -> None:
    found = verdict(Files(TOKEN, RUN, record(1)), standing(Phase.ENDED, cause), heeds_memory=True)

    assert isinstance(found, Ended)
    assert (found.record.exit_code, found.record.error, found.record.ended_by) == (1, None, "self")


def test_success_stands_whatever_the_scheduler_calls_it() -> None:
    found = verdict(Files(TOKEN, RUN, record(0)), standing(Phase.ENDED, Cause.TIMEOUT))
    assert isinstance(found, Ended)
    assert found.record.exit_code == 0


@pytest.mark.parametrize("cause", [Cause.CANCELLED, Cause.FAILED, Cause.COMPLETED])
@pytest.mark.parametrize("code", [0, 1, 143])
def test_cancelled_run_is_cancelled_whatever_its_command_answers_the_signal(cause: Cause, code: int) -> None:
    files = Files(TOKEN, RUN, record(code, "TERM"))
    waits = verdict(files, standing(Phase.RUNNING), is_cancelled=True)
    found = verdict(files, standing(Phase.ENDED, cause), is_cancelled=True)
    assert isinstance(waits, Wait)
    assert isinstance(found, Ended)
    assert (found.record.exit_code, found.record.ended_by) == (code, "cancel")


@pytest.mark.parametrize("code", [0, 1])
def test_shell_whose_programs_are_hit_before_its_holder_is_cancelled(code: int) -> None:
    """Signals reach the processes of a run one after the other, so its record may know of none."""
    files = Files(TOKEN, RUN, record(code))
    waits = verdict(files, standing(Phase.RUNNING), is_cancelled=True)
    found = verdict(files, standing(Phase.ENDED, Cause.CANCELLED), is_cancelled=True)
    assert isinstance(waits, Wait)
    assert isinstance(found, Ended)
    assert (found.record.exit_code, found.record.ended_by) == (code, "cancel")


@pytest.mark.parametrize("code", [0, 1])
def test_run_that_ended_before_its_cancel_came_to_it_ended_itself(code: int) -> None:
    for cause in (Cause.COMPLETED, Cause.FAILED, Cause.TIMEOUT):
        found = verdict(Files(TOKEN, RUN, record(code)), standing(Phase.ENDED, cause), is_cancelled=True)
        assert isinstance(found, Ended)
        assert (found.record.exit_code, found.record.ended_by) == (code, "self")


def test_success_after_a_signal_is_a_success_unless_the_run_was_cancelled() -> None:
    for cause, ended_by in ((Cause.TIMEOUT, "self"), (Cause.COMPLETED, "self"), (Cause.CANCELLED, "cancel")):
        found = verdict(Files(TOKEN, RUN, record(0, "TERM")), standing(Phase.ENDED, cause))
        assert isinstance(found, Ended)
        assert (found.record.exit_code, found.record.error, found.record.ended_by) == (0, None, ended_by)


def test_run_cancelled_at_the_scheduler_without_a_record_is_cancelled() -> None:
    found = verdict(HELD, standing(Phase.ENDED, Cause.CANCELLED), gone_s=RECORD_COMES_S)
    assert isinstance(found, Ended)
    assert found.record.ended_by == "cancel"


@pytest.mark.parametrize("cause", [Cause.COMPLETED, Cause.FAILED, None])
def test_cancelled_run_that_was_killed_with_its_holder_is_cancelled(cause: Cause | None) -> None:
    """Also where the scheduler does not tell why it ended."""
    found = verdict(HELD, standing(Phase.ENDED, cause), gone_s=RECORD_COMES_S, is_cancelled=True)
    failed = verdict(HELD, standing(Phase.ENDED, Cause.NODE_FAIL), gone_s=RECORD_COMES_S, is_cancelled=True)

    assert isinstance(found, Ended)
    assert (found.record.exit_code, found.record.ended_by) == (None, "cancel")
    assert isinstance(failed, Ended)
    assert failed.record.error is not None
    assert failed.record.error.code == Failure.NODE_FAIL


def test_record_is_given_time_after_the_scheduler_called_it_ended() -> None:
    for cause in Cause:
        assert isinstance(verdict(HELD, standing(Phase.ENDED, cause), gone_s=RECORD_COMES_S - 1), Wait)


@pytest.mark.parametrize("cause", [Cause.COMPLETED, Cause.FAILED])
def test_schedulers_word_for_a_plain_end_is_not_taken(cause: Cause) -> None:
    found = verdict(HELD, standing(Phase.ENDED, cause, exit_code=0), gone_s=RECORD_COMES_S)
    assert isinstance(found, Lost)


@pytest.mark.parametrize(
    "phase", [Phase.PENDING, Phase.HELD, Phase.RUNNING, Phase.SUSPENDED, Phase.ENDING, Phase.UNKNOWN]
)
def test_run_that_holds_the_gate_and_has_not_ended_is_waited_for(phase: Phase) -> None:
    assert isinstance(verdict(HELD, standing(phase), gone_s=1e6), Wait)
    assert isinstance(verdict(UNDECIDED, standing(phase), gone_s=1e6), Wait)


def test_record_is_taken_when_its_scheduler_goes_on_calling_the_run_alive() -> None:
    ended = Files(TOKEN, RUN, record(139))

    assert isinstance(verdict(ended, standing(Phase.RUNNING), recorded_s=1.0), Wait)
    found = verdict(ended, standing(Phase.RUNNING), recorded_s=Pace().ghost_s)

    assert isinstance(found, Ended)
    assert (found.record.exit_code, found.record.error) == (139, None)


def test_what_accounting_alone_takes_for_alive_is_not_waited_for_for_ever() -> None:
    missing = standing(Phase.MISSING)

    assert isinstance(verdict(UNDECIDED, missing), Wait)
    assert isinstance(verdict(HELD, missing), Wait)
    assert isinstance(verdict(UNDECIDED, missing, gone_s=ABSENT_S), ToVoid)
    assert isinstance(verdict(HELD, missing, gone_s=ABSENT_S), Vanished)
    assert isinstance(verdict(HELD, missing, gone_s=ABSENT_S, is_cancelled=True), Lost)
    # The queue has the last word.
    assert isinstance(verdict(HELD, missing, standing(Phase.RUNNING), gone_s=ABSENT_S), Wait)


def test_end_of_another_run_of_the_name_says_nothing() -> None:
    other = standing(Phase.ENDED, Cause.FAILED, id="13", exit_code=119)
    assert isinstance(verdict(HELD, standing(Phase.RUNNING), other, gone_s=1e6), Wait)


def test_requeued_run_is_over_and_was_preempted() -> None:
    again = standing(Phase.PENDING, restarts=1)
    assert isinstance(verdict(HELD, again), Wait)
    found = verdict(HELD, again, gone_s=RECORD_COMES_S)
    assert isinstance(found, Ended)
    assert found.record.error is not None
    assert found.record.error.code == Failure.PREEMPTED


def test_requeued_run_is_told_as_what_accounting_calls_it() -> None:
    runs = standing(Phase.ENDED, Cause.NODE_FAIL), standing(Phase.RUNNING, restarts=1)
    found = verdict(HELD, *runs, gone_s=RECORD_COMES_S)
    assert isinstance(found, Ended)
    assert found.record.error is not None
    assert found.record.error.code == Failure.NODE_FAIL


def test_requeued_run_is_over_also_where_restarts_are_not_counted() -> None:
    again = standing(Phase.PENDING, restarts=None)
    noted = Files(TOKEN, RUN, note=record(3))

    early = verdict(HELD, again, waits_s=RECORD_COMES_S - 1)
    found = verdict(HELD, again, waits_s=RECORD_COMES_S)
    settled = verdict(noted, again, waits_s=RECORD_COMES_S)

    assert isinstance(early, Wait)
    assert isinstance(found, Ended)
    assert found.record.error is not None
    assert found.record.error.code == Failure.PREEMPTED
    assert settled == ToSettle("77")


def refused(**fields: Any) -> Standing:
    return standing(
        Phase.ENDED, **{"cause": Cause.FAILED, "exit_code": holder.REFUSED, "restarts": None, **fields}
    )


def test_run_that_was_refused_under_the_holders_id_tells_of_a_requeue() -> None:
    """Whoever puts a job back may be quicker than a look that would see it wait."""
    early = verdict(HELD, refused(), gone_s=RECORD_COMES_S - 1)
    found = verdict(HELD, refused(), gone_s=RECORD_COMES_S)
    settled = verdict(Files(TOKEN, RUN, note=record(3)), refused(), gone_s=RECORD_COMES_S)
    recorded = verdict(Files(TOKEN, RUN, record(3)), refused())

    assert isinstance(early, Wait)
    assert isinstance(found, Ended)
    assert found.record.error is not None
    assert found.record.error.code == Failure.PREEMPTED
    assert found.record.error.message == "12 was requeued"
    assert settled == ToSettle("77")
    assert isinstance(recorded, Ended)
    assert recorded.record.exit_code == 3


def test_refusal_that_is_nobodys_requeue_is_told_as_before() -> None:
    """Where restarts are counted a requeue is told by them."""
    counted = verdict(HELD, refused(restarts=0), gone_s=RECORD_COMES_S)
    another = verdict(HELD, refused(exit_code=118), gone_s=RECORD_COMES_S)
    cancelled = verdict(HELD, refused(cause=Cause.CANCELLED), gone_s=RECORD_COMES_S)
    undecided = verdict(UNDECIDED, refused(), gone_s=RECORD_COMES_S)

    assert isinstance(counted, Lost)
    assert isinstance(another, Lost)
    assert isinstance(cancelled, Ended)
    assert cancelled.record.ended_by == "cancel"
    assert isinstance(undecided, ToVoid)


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.HELD])
def test_holders_job_is_put_back_only_where_nothing_else_is_said_of_it(phase: Phase) -> None:
    waits = standing(phase, restarts=None)

    assert is_put_back("12", [waits])
    assert is_put_back("12", [standing(Phase.ENDED, Cause.FAILED, restarts=None), waits])
    assert not is_put_back("12", [waits, standing(Phase.RUNNING, restarts=None)])
    # Whose restarts are counted is told by them: SLURM may know less of a job than its node after a crash.
    assert not is_put_back("12", [standing(phase, restarts=0)])
    assert not is_put_back("13", [waits])
    assert not is_put_back("12", [])


def test_absent_is_lost_only_if_everything_was_listed_and_for_long() -> None:
    assert isinstance(verdict(HELD, gone_s=1e6, complete=False), Wait)
    assert isinstance(verdict(HELD, gone_s=ABSENT_S - 1), Wait)
    assert isinstance(verdict(HELD, gone_s=ABSENT_S), Lost)


def test_gate_that_cannot_be_understood_lets_nothing_start_and_ends_with_the_queues_word() -> None:
    """It may be that a run of the attempt is under way; that it never ran nobody can say any more."""
    spoilt = Files(TOKEN, garbled="gate")
    cancelled = standing(Phase.ENDED, Cause.CANCELLED)

    runs = verdict(spoilt, standing(Phase.RUNNING), gone_s=1e6)
    unlisted = verdict(spoilt, gone_s=1e6, complete=False, has_queue=False)
    early = verdict(spoilt, gone_s=ABSENT_S - 1), verdict(spoilt, cancelled, gone_s=RECORD_COMES_S - 1)
    gone, ended = verdict(spoilt, gone_s=ABSENT_S), verdict(spoilt, cancelled, gone_s=RECORD_COMES_S)
    forgotten = verdict(spoilt, gone_s=1e6, complete=False, has_queue=True)
    given_up = verdict(spoilt, gone_s=1e6, complete=False, has_queue=True, is_cancelled=True)
    void = verdict(Files(TOKEN, VOID, garbled="exit"))
    recorded = verdict(Files(TOKEN, RUN, record(3), garbled=""))

    assert [type(one) for one in (runs, unlisted, *early)] == [Wait] * 4
    assert [type(one) for one in (gone, ended, given_up)] == [Lost] * 3
    assert isinstance(ended, Lost)
    assert ended.evidence == (
        "job 12 is CANCELLED, and its holder left files (gate) that cannot be understood"
    )
    assert isinstance(forgotten, Vanished)
    assert forgotten.why.startswith("its holder left files (gate) that cannot be understood and is gone from")
    assert void == NeverRan(TOKEN, None)
    assert isinstance(recorded, Ended)


@pytest.mark.parametrize("files", [UNDECIDED, Files(), Files(TOKEN, VOID)])
def test_attempt_whose_start_was_seen_is_never_one_that_never_ran(files: Files) -> None:
    """Its control directory is gone; a gate that is void then was made in a new one."""
    cancelled = standing(Phase.ENDED, Cause.CANCELLED)

    runs = verdict(files, standing(Phase.RUNNING), gone_s=1e6, has_started=True)
    unlisted = verdict(files, gone_s=1e6, complete=False, has_queue=False, has_started=True)
    early = verdict(files, gone_s=ABSENT_S - 1, has_started=True)
    gone = verdict(files, gone_s=ABSENT_S, has_started=True)
    ended = verdict(files, cancelled, gone_s=RECORD_COMES_S, has_started=True)
    forgotten = verdict(files, gone_s=1e6, complete=False, has_queue=True, has_started=True)

    assert [type(one) for one in (runs, unlisted, early)] == [Wait] * 3
    assert isinstance(gone, Lost)
    assert ended == Lost(TOKEN, "job 12 is CANCELLED, and it was running, and its control files are gone")
    assert isinstance(forgotten, Vanished)


def test_absent_where_ends_are_not_remembered_is_never_called_an_end_but_by_a_user() -> None:
    """Not even after any time."""
    waits = verdict(HELD, gone_s=ABSENT_S - 1, complete=False, has_queue=True)
    unlisted = verdict(HELD, gone_s=1e6, complete=False, has_queue=False, is_cancelled=True)
    vanished = verdict(HELD, gone_s=1e6, complete=False, has_queue=True)
    cancelled = verdict(HELD, gone_s=ABSENT_S, complete=False, has_queue=True, is_cancelled=True)
    noted = verdict(Files(TOKEN, RUN, note=record(3)), gone_s=ABSENT_S, complete=False, has_queue=True)

    assert isinstance(waits, Wait)
    assert isinstance(unlisted, Wait)
    assert isinstance(vanished, Vanished)
    assert vanished.why.startswith("12 at lab left no record and is gone from the queue")
    assert isinstance(cancelled, Lost)
    assert cancelled.evidence.startswith("12 at lab left no record and is gone from the queue")
    assert noted == ToSettle("77")


def test_unlinked_record_of_a_dead_holder_is_settled() -> None:
    files = Files(TOKEN, RUN, note=record(3))
    assert isinstance(verdict(files, standing(Phase.RUNNING), gone_s=1e6), Wait)
    assert verdict(files, standing(Phase.ENDED, Cause.FAILED), gone_s=RECORD_COMES_S) == ToSettle("77")


def test_void_gate_is_the_end() -> None:
    assert verdict(Files(TOKEN, VOID), standing(Phase.RUNNING)) == NeverRan(TOKEN, None)


def test_undecided_attempt_whose_runs_have_all_ended_is_voided_with_the_reason() -> None:
    ended = standing(Phase.ENDED, Cause.BOOT_FAIL)
    assert isinstance(verdict(UNDECIDED, ended, complete=False, gone_s=1e6), Wait)
    found = verdict(UNDECIDED, ended, gone_s=RECORD_COMES_S)
    assert isinstance(found, ToVoid)
    assert found.error is not None
    assert found.error.code == Failure.NODE_FAIL


def test_undecided_attempt_nobody_knows_is_released() -> None:
    assert isinstance(verdict(UNDECIDED, gone_s=ABSENT_S - 1), Wait)
    assert isinstance(verdict(UNDECIDED, complete=False, gone_s=1e6), Wait)
    assert verdict(UNDECIDED, gone_s=ABSENT_S) == ToVoid(None)
    # Where nobody knows what has ended, what is not in the queue is voided all the same.
    assert verdict(UNDECIDED, gone_s=ABSENT_S, complete=False, has_queue=True) == ToVoid(None)


def test_directory_of_another_attempt_was_there_before_the_database() -> None:
    assert verdict(Files("b" * 32, None)) == Lost(TOKEN, RAN_BEFORE)

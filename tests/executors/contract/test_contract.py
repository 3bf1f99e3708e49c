"""The contract of executors (jobmgr/executors/protocol.py), sentence by sentence, over every kind of them."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from jobmgr.executors import process
from jobmgr.executors.protocol import (
    Ended,
    ExitRecord,
    Launch,
    Lost,
    NeverRan,
    Paused,
    Resumed,
    Scheduled,
    Started,
    Wanted,
)
from jobmgr.failure import Failure
from tests.executors.contract.subject import PACE, Life, Subject
from tests.patience import eventually

pytestmark = pytest.mark.timeout(180)

# Longer than an absence has to last until it counts.
_LONG_S = 1.5 * (PACE.absent_s + PACE.record_comes_s)

T = TypeVar("T")
_GRACE_S = 5.0
_A_FEW = 8
_MANY = 16


def needed(way: T | str) -> T:
    """What this kind can be brought to do; skips the test with the reason why it cannot."""
    if isinstance(way, str):
        pytest.skip(way)
    return way


async def running(life: Life, subject: Subject, launch: Launch) -> str:
    """Launch, and wait until the command has begun; answers the handle."""
    await life.executor.launch([launch])
    started = await life.wait(launch, Started)
    await eventually(lambda: subject.ran(launch))
    return started.handle


def known(life: Life, launch: Launch) -> Launch:
    """The attempt as the database has it for the next service: with its handle in a foreign queue."""
    scheduled = life.said(launch, Scheduled)
    return replace(launch, handle=scheduled[-1].handle if scheduled else None)


# Ends


async def test_each_end_is_told_as_what_it_was(subject: Subject) -> None:
    life = await subject.life()
    launches = [
        subject.once("exit 0"),
        subject.once("exit 7"),
        subject.once("kill -9 $$"),
        subject.launch("no-such-program"),
        subject.launch("true", cwd=str(subject.root / "missing")),
    ]

    await life.executor.launch(launches)

    well, failed, killed, unfound, astray = [await life.record(launch) for launch in launches]
    assert (well.exit_code, failed.exit_code) == (0, 7)
    assert (killed.signal, killed.exit_code) in ((9, None), (None, 137))
    assert [record.ended_by for record in (well, failed, killed)] == ["self"] * 3
    assert code_of(unfound) == "program_not_found"
    assert code_of(astray) == "cwd_not_found"
    assert [subject.ran(launch) for launch in launches] == [1, 1, 1, 0, 0]
    for launch in launches[:3]:
        kinds = [type(report) for report in life.reports if report.token == launch.token]
        assert [kind for kind in kinds if kind in (Started, Ended, NeverRan, Lost)] == [Started, Ended]
        names = {name for report in life.said(launch, Scheduled) for name in report.handle.split()}
        assert not names or life.said(launch, Started)[0].handle in names


def code_of(record: ExitRecord) -> str | None:
    return record.error.code if record.error is not None else None


async def test_command_finds_its_environment_and_its_directories(subject: Subject) -> None:
    life = await subject.life()
    text = 'it\'s; $HOME `false` \n"é" '
    said = 'printf %s "$TEXT"; pwd >&2; echo "$JOBMGR_JOB_ID $JOBMGR_ATTEMPT $JOBMGR_RUN_DIR" > own'
    launch = subject.launch("sh", "-c", said, env={"TEXT": text})

    await life.executor.launch([launch])
    assert (await life.record(launch)).exit_code == 0

    run = Path(life.executor.run_directory(launch))
    assert (run / "stdout").read_text() == text
    assert (run / "stderr").read_text() == f"{run}\n"
    assert (run / "own").read_text() == f"{launch.job_id} 1 {run}\n"
    wanted = [Wanted(launch, ("own", "stdout", "other")), Wanted(launch, ("own",))]
    assert await life.executor.missing(wanted) == [("other",), ()]


async def test_command_runs_in_the_directory_that_is_given(subject: Subject) -> None:
    life = await subject.life()
    elsewhere = subject.root / "some where"
    elsewhere.mkdir()
    launch = subject.launch("touch", "here", cwd=str(elsewhere))

    await life.executor.launch([launch])

    assert (await life.record(launch)).exit_code == 0
    assert (elsewhere / "here").exists()


async def test_command_ignores_no_signal(subject: Subject) -> None:
    """What a shell starts in the background would, and all that it starts in turn."""
    life = await subject.life()
    launch = subject.once("sh -c 'kill -INT $$; echo survived' && exit 3; exit 4")

    await life.executor.launch([launch])

    assert (await life.record(launch)).exit_code == 4


async def test_time_limit_ends_the_command_and_is_told(subject: Subject) -> None:
    limited = needed(subject.ways.walltime)
    life = await subject.life()
    launch = subject.once("exec sleep 600", resources=limited, walltime_s=limited.walltime_s)

    await life.executor.launch([launch])

    record = await life.record(launch)
    assert record.ended_by == "walltime" or code_of(record) == Failure.TIMEOUT


async def test_refusal_is_told_in_the_schedulers_words(subject: Subject) -> None:
    refused = needed(subject.ways.refused)
    life = await subject.life()
    launch = subject.once("true", resources=refused.asked)

    await life.executor.launch([launch])

    found = await life.final(launch)
    assert isinstance(found, NeverRan)
    assert found.error is not None
    assert found.error.code == Failure.SUBMIT_REFUSED
    assert refused.words in found.error.message
    assert subject.ran(launch) == 0


# Wishes


async def test_cancel_right_after_launch_ends_the_attempt(subject: Subject) -> None:
    life = await subject.life()
    launch = subject.once("exec sleep 600")

    await life.executor.launch([launch])
    await life.executor.cancel(launch.token, _GRACE_S)

    found = await life.final(launch)
    if isinstance(found, Ended):
        assert found.record.ended_by == "cancel"
    else:
        assert found == NeverRan(launch.token, None)
        assert subject.ran(launch) == 0


async def test_cancelled_while_it_waits_it_never_runs(subject: Subject) -> None:
    waiting = needed(subject.ways.waiting)
    life = await subject.life()
    launch = subject.once("true", resources=waiting)
    await life.executor.launch([launch])
    await life.wait(launch, Scheduled)

    await life.executor.cancel(launch.token, _GRACE_S)

    assert await life.final(launch) == NeverRan(launch.token, None)
    assert subject.ran(launch) == 0


async def test_scheduler_is_left_in_peace_after_a_cancel(subject: Subject) -> None:
    """What a cancel left in its queue is looked for, a few times."""
    waiting = needed(subject.ways.waiting)
    life = await subject.life()
    launch = subject.once("true", resources=waiting)
    await life.executor.launch([launch])
    await life.wait(launch, Scheduled)
    await life.executor.cancel(launch.token, _GRACE_S)
    await life.final(launch)
    before = len(subject.commands_sent)

    await silence(subject)

    assert len(subject.commands_sent) - before <= _A_FEW


async def silence(subject: Subject) -> None:
    """Wait until nothing was asked for longer than any pause."""
    asked = -1
    while asked != len(subject.commands_sent):
        asked = len(subject.commands_sent)
        await asyncio.sleep(4 * PACE.again_max_s)


async def test_cancel_ends_the_running_command(subject: Subject) -> None:
    life = await subject.life()
    launch = subject.once("sleep 600 & wait")
    await running(life, subject, launch)

    await life.executor.cancel(launch.token, _GRACE_S)

    assert (await life.record(launch)).ended_by == "cancel"


async def test_cancelled_command_that_then_ends_well_is_cancelled(subject: Subject) -> None:
    needed(subject.ways.warns)
    life = await subject.life()
    noted = f"echo ran >> '{subject.root}'/ran-$JOBMGR_JOB_ID"
    launch = subject.launch("sh", "-c", f"trap 'exit 0' INT TERM; {noted}; sleep 600 & wait")
    await running(life, subject, launch)

    await life.executor.cancel(launch.token, _GRACE_S)

    record = await life.record(launch)
    assert (record.exit_code, record.ended_by) == (0, "cancel")


async def test_command_that_heeds_no_signal_is_killed(subject: Subject) -> None:
    """Nobody may be left to record that. A scheduler has its time for it, which does not begin anew all the time."""
    needed(subject.ways.warns)
    killed = needed(subject.ways.killed)
    life = await subject.life()
    launch = subject.once("trap '' INT TERM; while sleep 1; do :; done")
    await running(life, subject, launch)

    await life.executor.cancel(launch.token, _GRACE_S)

    found = await life.final(launch)
    assert isinstance(found, killed)
    assert not isinstance(found, Ended) or found.record.ended_by == "cancel"
    assert not process.moving(subject.commands(launch))


async def test_end_that_somebody_wished_at_the_scheduler_is_a_cancel(subject: Subject) -> None:
    needed(subject.ways.tells_who_cancelled)
    life = await subject.life()
    launch = subject.once("exec sleep 600")
    handle = await running(life, subject, launch)

    await subject.cancel_there(handle)

    assert (await life.record(launch)).ended_by == "cancel"


async def test_pause_stops_the_command_until_it_may_go_on(subject: Subject) -> None:
    needed(subject.ways.pause)
    life = await subject.life()
    launch = subject.until_told(5)
    await running(life, subject, launch)

    await life.executor.pause(launch.token)
    await life.wait(launch, Paused)
    # A shell that is just starting a program cannot be seen to stop before that has become one.
    await eventually(lambda: not process.moving(subject.commands(launch)))
    await life.executor.resume(launch.token)
    await life.wait(launch, Resumed)
    subject.tell()

    assert (await life.record(launch)).exit_code == 5


async def test_resume_is_answered_though_nothing_was_paused(subject: Subject) -> None:
    needed(subject.ways.pause)
    life = await subject.life()
    launch = subject.until_told(5)
    await running(life, subject, launch)

    await life.executor.resume(launch.token)

    await life.wait(launch, Resumed)
    subject.tell()
    assert (await life.record(launch)).exit_code == 5


async def test_paused_attempt_does_not_go_on_because_the_scheduler_is_away(subject: Subject) -> None:
    needed(subject.ways.pause)
    needed(subject.ways.away)
    life = await subject.life()
    launch = subject.until_told(5)
    await running(life, subject, launch)
    await life.executor.pause(launch.token)
    await life.wait(launch, Paused)

    subject.go_away()
    asked = len(subject.commands_sent)
    await eventually(lambda: len(subject.commands_sent) > asked + _MANY)
    told = life.said(launch, Resumed)
    subject.come_back()
    await life.executor.resume(launch.token)
    subject.tell()

    assert (await life.record(launch)).exit_code == 5
    assert told == []


# Once


async def test_launched_by_two_services_it_runs_once(subject: Subject) -> None:
    first, second = await subject.life(), await subject.life()
    launch = subject.once("sleep 1; exit 7")

    await asyncio.gather(first.executor.launch([launch]), second.executor.launch([launch]))

    ends = [end for end in (await first.final(launch), await second.final(launch)) if isinstance(end, Ended)]
    assert [end.record.exit_code for end in ends] == [7] * len(ends)
    assert ends
    assert subject.ran(launch) == 1


async def test_launched_again_after_its_end_it_is_told_again(subject: Subject) -> None:
    first, second = await subject.life(), await subject.life()
    launch = subject.once("exit 7")
    await first.executor.launch([launch])
    before = await first.record(launch)

    await second.executor.launch([launch])

    assert (await second.record(launch)).exit_code == before.exit_code
    assert subject.ran(launch) == 1


async def test_submission_that_was_taken_twice_in_silence_runs_once(subject: Subject) -> None:
    needed(subject.ways.stutter)
    life = await subject.life()
    launch, quick = subject.once("sleep 1; exit 7"), subject.once("exit 3")

    subject.stutter()
    await life.executor.launch([launch, quick])

    assert [(await life.record(each)).exit_code for each in (launch, quick)] == [7, 3]
    assert [subject.ran(each) for each in (launch, quick)] == [1, 1]


async def test_submission_that_was_lost_in_silence_is_handed_in_again(subject: Subject) -> None:
    needed(subject.ways.stutter)
    life = await subject.life()
    launch = subject.once("exit 7")

    subject.swallow()
    await life.executor.launch([launch])

    assert (await life.record(launch)).exit_code == 7
    assert subject.ran(launch) == 1


async def test_attempt_that_was_killed_with_its_holder_is_lost(subject: Subject) -> None:
    needed(subject.ways.lost)
    life = await subject.life()
    launch = subject.once("exec sleep 600")
    await running(life, subject, launch)

    process.send_signals(subject.holders(launch), signal.SIGKILL)

    assert isinstance(await life.final(launch), Lost)


# The next service


async def test_claim_that_was_not_handed_in_runs_once_or_is_released(subject: Subject) -> None:
    life = await subject.life()
    launch = subject.once("exit 4")

    await life.executor.recover([launch])

    found = await life.final(launch)
    if isinstance(found, Ended):
        assert found.record.exit_code == 4
        assert subject.ran(launch) == 1
    else:
        assert found == NeverRan(launch.token, None)
        assert subject.ran(launch) == 0


async def test_next_service_takes_up_what_runs(subject: Subject) -> None:
    """Also what was handed in just before the former one was killed, so that its handle was not stored."""
    first = await subject.life()
    launches = [subject.until_told(7), subject.until_told(6)]
    for launch in launches:
        await running(first, subject, launch)
    await first.executor.stop()
    second = await subject.life()

    await second.executor.recover([known(first, launches[0]), launches[1]])
    for launch in launches:
        assert await second.wait(launch, Started) == first.said(launch, Started)[0]
    subject.tell()

    assert [(await second.record(launch)).exit_code for launch in launches] == [7, 6]
    assert [subject.ran(launch) for launch in launches] == [1, 1]
    assert [first.finals(launch) for launch in launches] == [[], []]


async def test_next_service_sees_what_ended_meanwhile(subject: Subject) -> None:
    first = await subject.life()
    launches = [subject.until_told(7), subject.until_told(6)]
    for launch in launches:
        await running(first, subject, launch)
    await first.executor.stop()
    subject.tell()
    for launch in launches:
        await eventually((subject.control(launch) / "exit").exists)
    second = await subject.life()

    await second.executor.recover([known(first, launches[0]), launches[1]])

    assert [(await second.record(launch)).exit_code for launch in launches] == [7, 6]
    assert [subject.ran(launch) for launch in launches] == [1, 1]


async def test_next_service_takes_up_what_waits(subject: Subject) -> None:
    waiting = needed(subject.ways.waiting)
    first = await subject.life()
    launches = [subject.once("true", resources=waiting) for _ in range(2)]
    await first.executor.launch(launches)
    handles = [(await first.wait(launch, Scheduled)).handle for launch in launches]
    await first.executor.stop()
    second = await subject.life()

    await second.executor.recover([known(first, launches[0]), launches[1]])
    assert (await second.wait(launches[1], Scheduled)).handle == handles[1]
    for launch in launches:
        await second.executor.cancel(launch.token, _GRACE_S)

    assert [await second.final(launch) for launch in launches] == [
        NeverRan(launch.token, None) for launch in launches
    ]
    assert [subject.ran(launch) for launch in launches] == [0, 0]


async def test_forgotten_attempt_is_left_alone(subject: Subject) -> None:
    life = await subject.life()
    launch, other = subject.until_told(7), subject.until_told(3)
    await running(life, subject, launch)
    await running(life, subject, other)

    await life.executor.forget(launch.token)
    await life.executor.cancel(launch.token, _GRACE_S)
    subject.tell()

    assert (await life.record(other)).exit_code == 3
    stranger = await subject.life()
    await stranger.executor.recover([known(life, launch)])
    assert (await stranger.record(launch)).exit_code == 7
    assert life.finals(launch) == []


# A scheduler that is away


async def test_scheduler_that_is_away_for_a_while_decides_nothing(subject: Subject) -> None:
    needed(subject.ways.away)
    life = await subject.life()
    runs, cancelled = subject.until_told(9), subject.once("exec sleep 600")
    launched, claimed = subject.once("exit 3"), subject.once("exit 4")
    await running(life, subject, runs)
    await running(life, subject, cancelled)

    subject.go_away()
    await life.executor.cancel(cancelled.token, _GRACE_S)
    await life.executor.launch([launched])
    await life.executor.recover([claimed])
    await asyncio.sleep(_LONG_S)
    assert [life.finals(each) for each in (runs, cancelled, launched, claimed)] == [[]] * 4
    subject.come_back()
    subject.tell()

    assert (await life.record(cancelled)).ended_by == "cancel"
    assert [(await life.record(each)).exit_code for each in (runs, launched, claimed)] == [9, 3, 4]
    assert [subject.ran(each) for each in (runs, cancelled, launched, claimed)] == [1] * 4

"""How attempts are ended: cancel, walltime, and what a command leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobmgr.executors import gate, process
from jobmgr.executors.hold import Hold
from jobmgr.executors.note import Assignment, Leader, Note
from jobmgr.executors.protocol import ExitRecord, Launch, NeverRan

from .conftest import Service, Site, eventually

STUBBORN = "trap '' TERM; while :; do sleep 0.05; done"


async def _started(service: Service, launch: Launch, ready: str = "ready") -> None:
    """Launch, and wait until the command has written `ready`."""
    await service.executor.launch([launch])
    await service.started(launch)
    await eventually(lambda: ready.encode() in service.output(launch))


async def _cancelled(service: Service, launch: Launch, grace_s: float) -> ExitRecord:
    await service.executor.cancel(launch.token, grace_s)
    return await service.record(launch)


async def test_cancel_terminates_the_whole_tree(site: Site, service: Service) -> None:
    launch = site.shell("sleep 60 & sleep 60 & echo ready; wait")
    await _started(service, launch)

    record = await _cancelled(service, launch, 20.0)

    assert (record.ended_by, record.exit_code, record.signal) == ("cancel", None, signal.SIGTERM)
    assert site.commands() == []


async def test_cancelled_command_may_end_in_its_own_way(site: Site, service: Service) -> None:
    launch = site.shell("trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done")
    await _started(service, launch)

    record = await _cancelled(service, launch, 20.0)

    assert (record.ended_by, record.exit_code) == ("cancel", 9)


async def test_tree_that_ignores_term_is_killed_after_the_grace(site: Site, service: Service) -> None:
    launch = site.shell(f"({STUBBORN}) & echo ready; {STUBBORN}")
    await _started(service, launch)
    asked_at = time.monotonic()

    record = await _cancelled(service, launch, 0.5)

    assert time.monotonic() - asked_at >= 0.5
    assert (record.ended_by, record.signal) == ("cancel", signal.SIGKILL)
    assert site.commands() == []


async def test_second_cancel_shortens_the_grace(site: Site, service: Service) -> None:
    launch = site.shell(f"echo ready; {STUBBORN}")
    await _started(service, launch)
    await service.executor.cancel(launch.token, 3600.0)

    record = await _cancelled(service, launch, 0.0)

    assert record.signal == signal.SIGKILL


async def test_stopped_command_is_cancelled(site: Site, service: Service) -> None:
    launch = site.shell("trap 'exit 9' TERM; echo ready; kill -STOP $$; while :; do sleep 0.02; done")
    await _started(service, launch)
    await eventually(lambda: any(stat.state == "T" for stat in site.commands()))

    record = await _cancelled(service, launch, 20.0)

    assert (record.ended_by, record.exit_code) == ("cancel", 9)


async def test_walltime_ends_the_attempt(site: Site, service: Service) -> None:
    launch = site.shell("sleep 60 & wait", walltime_s=0.2)

    record = await service.run(launch)

    assert (record.ended_by, record.signal) == ("walltime", signal.SIGTERM)
    assert record.started_at is not None
    assert (record.ended_at - record.started_at).total_seconds() >= 0.2
    assert site.commands() == []


async def test_walltime_kills_after_its_own_grace(site: Site) -> None:
    service = await site.service(walltime_grace_s=0.3)

    record = await service.run(site.shell(STUBBORN, walltime_s=0.1))

    assert (record.ended_by, record.signal) == ("walltime", signal.SIGKILL)


async def test_walltime_that_is_not_reached_changes_nothing(site: Site, service: Service) -> None:
    record = await service.run(site.shell("sleep 0.1", walltime_s=60.0))

    assert (record.ended_by, record.exit_code) == ("self", 0)


@pytest.mark.parametrize("walltime_s", [30 * 86400.0, 3650 * 86400.0])
async def test_walltime_longer_than_a_poll_may_last_ends_no_keeper(
    site: Site, service: Service, walltime_s: float
) -> None:
    record = await service.run(site.shell("sleep 0.1", walltime_s=walltime_s))

    assert (record.ended_by, record.exit_code) == ("self", 0)
    assert (service.work / "keepers.log").read_text() == ""


async def test_daemon_is_ended_and_counted(site: Site, service: Service) -> None:
    launch = site.shell(
        "(setsid sh -c 'echo $$; exec sleep 60' &) ; while [ ! -s stdout ]; do :; done; exit 7"
    )

    record = await service.run(launch)

    assert (record.ended_by, record.exit_code, record.leftovers) == ("self", 7, 1)
    assert process.read_stat(int(service.output(launch))) is None


async def test_stubborn_leftovers_are_killed_after_their_grace(site: Site) -> None:
    service = await site.service(leftover_grace_s=0.3)
    launch = site.shell(f"(trap '' TERM; echo ready; {STUBBORN}) & while [ ! -s stdout ]; do :; done; exit 7")

    record = await service.run(launch)

    assert (record.ended_by, record.exit_code) == ("self", 7)
    assert record.leftovers >= 1
    assert site.commands() == []


async def test_leader_that_forks_and_exits_decides_the_attempt(site: Site, service: Service) -> None:
    record = await service.run(site.shell("sleep 600 & exit 0"))

    assert (record.exit_code, record.leftovers) == (0, 1)


async def test_orphans_that_end_meanwhile_do_not_pile_up(site: Site, service: Service) -> None:
    launch = site.shell("for i in 1 2 3 4 5; do (sleep 0.01 &) ; done; sleep 0.3; echo ready; exec sleep 60")
    await _started(service, launch)
    keeper = service.holder(launch)["pid"]

    children = [stat for stat in process.all_processes() if stat.parent == keeper]

    assert [stat.state for stat in children] == ["S"]
    record = await _cancelled(service, launch, 20.0)
    assert record.leftovers == 0


async def test_leader_that_ended_by_itself_is_not_called_cancelled(site: Site) -> None:
    service = await site.service(leftover_grace_s=60.0)
    launch = site.shell(f"(trap '' TERM; echo ready; {STUBBORN}) & while [ ! -s stdout ]; do :; done; exit 5")
    await _started(service, launch)
    await eventually(lambda: _is_noted(service, launch))

    record = await _cancelled(service, launch, 0.0)

    assert (record.ended_by, record.exit_code) == ("self", 5)


def _is_noted(service: Service, launch: Launch) -> bool:
    """Whether the holder has written down the status of the leader."""
    decision = gate.read(str(service.control(launch)))
    assert decision is not None
    note = gate.read_note(str(service.control(launch)), decision["nonce"])
    return note is not None and note.get("exit_code") is not None


async def test_cancel_before_the_gate_voids_it(site: Site, service: Service) -> None:
    launch = site.shell("echo ran")
    launching = asyncio.ensure_future(service.executor.launch([launch]))
    await asyncio.sleep(0)  # The attempt is entered, its directories are being made.

    await service.executor.cancel(launch.token, 20.0)

    await launching
    assert await service.final(launch) == NeverRan(launch.token, None)
    decision = gate.read(str(service.control(launch)))
    assert decision is not None
    assert decision["decision"] == "void"
    assert not (service.run_dir(launch) / "stdout").exists()


async def test_cancel_reaches_an_attempt_whose_keeper_is_not_reading(site: Site, service: Service) -> None:
    await service.run(site.shell(":", job_id="first"))
    keeper = _keeper(service, "first")
    stopped = process.read_stat(keeper)
    assert stopped is not None
    process.send_signals([stopped], signal.SIGSTOP)
    launch = site.shell("echo ran")
    await service.executor.launch([launch])

    await service.executor.cancel(launch.token, 20.0)

    process.send_signals([stopped], signal.SIGCONT)
    assert await service.final(launch) == NeverRan(launch.token, None)


def _keeper(service: Service, job_id: str) -> int:
    decision = gate.read(str(service.work / "control" / job_id / "1"))
    assert decision is not None
    return int(decision["holder"]["pid"])


async def test_cancel_of_an_unknown_attempt_is_ignored(service: Service) -> None:
    await service.executor.cancel("no-such-token", 1.0)

    assert service.reports == []


@pytest.mark.parametrize("grace_s", [0.0, 0.2])
async def test_fork_storm_is_ended(site: Site, service: Service, grace_s: float) -> None:
    storm = "trap '' TERM; f() { while :; do (sleep 0.02) & sleep 0.01; done; }; f & f & f & echo ready; wait"
    launch = site.shell(storm)
    await _started(service, launch)

    record = await _cancelled(service, launch, grace_s)

    assert record.ended_by == "cancel"
    assert site.commands() == []


class _Nobody:
    """The family of a leader that was all there was."""

    def members(self) -> list[process.ProcessStat]:
        return []

    def is_gone(self) -> bool:
        return True


@pytest.mark.parametrize("is_keeper", [True, False], ids=["keeper", "warden"])
def test_child_that_is_killed_before_it_is_the_command_never_started(
    tmp_path: Path, *, is_keeper: bool
) -> None:
    control = str(tmp_path / "1")
    gate.make(control, "token")
    child = os.fork()
    if child == 0:
        while True:
            signal.pause()
    leader = Leader(child, process.start_ticks(child), time.time_ns(), 0.0)
    assignment = Assignment(control, "token", "nonce", None, 1.0, 1.0)
    note = Note() if is_keeper else None
    if note is not None:
        note.assign(assignment)
    hold = Hold(assignment, leader, _Nobody(), gate.ExitSpace(control, "nonce"), note)
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)

    hold.leader_exited(process.Exited(child, None, signal.SIGKILL))

    record = hold.advance()
    assert record is not None
    assert record["error"]["code"] == "keeper_died_before_start"
    assert record["signal"] is None
    assert gate.read_exit(control) == record
    assert process.read_stat(child) is None


class _Child:
    """A family of one child, which ends by TERM; its leader."""

    def __init__(self) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            while True:
                signal.pause()

    def members(self) -> list[process.ProcessStat]:
        stat = process.read_stat(self.pid)
        return [] if stat is None else [stat]

    def is_gone(self) -> bool:
        return not self.members()

    def reap(self) -> int:
        """The signal that ended it."""
        return os.WTERMSIG(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def child() -> Iterator[_Child]:
    child = _Child()
    yield child
    if process.read_stat(child.pid) is not None:
        os.kill(child.pid, signal.SIGKILL)
        child.reap()


def _hold(control: str, child: _Child, note: Note | None) -> Hold:
    gate.make(control, "token")
    leader = Leader(child.pid, process.start_ticks(child.pid), time.time_ns(), 0.0)
    assignment = Assignment(control, "token", "nonce", None, 1.0, 1.0)
    if note is not None:
        note.assign(assignment)
        note.running(leader)
    return Hold(assignment, leader, child, gate.ExitSpace(control, "nonce"), note)


def test_warden_asks_what_a_keeper_had_no_time_to_ask(tmp_path: Path, child: _Child) -> None:
    note, kill_at = Note(), time.monotonic() + 3600.0
    note.pressed("cancel", kill_at)
    hold = _hold(str(tmp_path / "1"), child, None)
    hold.take_over(note)

    hold.advance()

    assert child.reap() == signal.SIGTERM
    assert hold.wake_at() == kill_at


def test_grace_that_is_shortened_is_noted_for_the_warden(tmp_path: Path, child: _Child) -> None:
    note = Note()
    hold = _hold(str(tmp_path / "1"), child, note)
    hold.end("cancel", 3600.0)

    hold.end("cancel", 10.0)

    ended_by, kill_at = note.press
    assert ended_by == "cancel"
    assert kill_at <= time.monotonic() + 10.0

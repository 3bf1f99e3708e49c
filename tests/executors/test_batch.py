"""Attempts in a real SLURM, with faults between it and us: each command runs once, and is told as what it was.

What all executors promise is in tests/executors/contract.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from jobmgr.dialects.dialect import Command
from jobmgr.dialects.slurm import Slurm as Dialect
from jobmgr.domain.job import Origin
from jobmgr.domain.resources import Resources
from jobmgr.executors.batch import BatchExecutor
from jobmgr.executors.pace import Pace
from jobmgr.executors.protocol import (
    Ended,
    Final,
    Launch,
    Lost,
    NeverRan,
    Report,
    Scheduled,
    Started,
    Unreachable,
)
from jobmgr.failure import Failure
from jobmgr.transports.local import LocalTransport
from tests.executors.contract.subject import Heard
from tests.patience import eventually
from tests.slurm import Slurm

pytestmark = pytest.mark.timeout(180)

SMALL = Resources(memory_bytes=10 * 2**20)
QUICK = Pace(
    files_s=0.2,
    ask_first_s=0.3,
    ask_max_s=1.0,
    again_first_s=0.3,
    again_max_s=1.0,
    in_doubt_s=1.5,
    record_comes_s=2.0,
    absent_s=4.0,
)

R = TypeVar("R", bound=Report)


@dataclass
class Site:
    """A cluster with a work directory, faults that may stand before its programs, and what executors reported."""

    slurm: Slurm
    root: Path
    reports: dict[str, list[Report]] = field(default_factory=dict)
    open: list[BatchExecutor] = field(default_factory=list)
    commands_sent: list[Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.root / "faults").mkdir(parents=True)
        (self.root / "control").mkdir()
        (self.root / "runs").mkdir()

    async def executor(self, pace: Pace = QUICK) -> BatchExecutor:
        environment = self.slurm.environment
        environment["PATH"] = f"{self.root}/faults:{environment['PATH']}"
        transport = Heard(LocalTransport(environment), self.commands_sent)
        executor = BatchExecutor("lab", Dialect(), transport, str(self.root), self._take, pace=pace)
        await executor.start()
        self.open.append(executor)
        return executor

    def _take(self, report: Report) -> None:
        self.reports.setdefault(report.token, []).append(report)

    def launch(self, *command: str, **fields: Any) -> Launch:
        values: dict[str, Any] = {"resources": SMALL, **fields}
        return Launch(f"job-{secrets.token_hex(4)}", 1, secrets.token_hex(16), command, **values)

    def once(self, script: str, **fields: Any) -> Launch:
        """A command that says in a file of its own that it ran."""
        return self.launch("sh", "-c", f"echo ran >> {self.root}/ledger-$JOBMGR_JOB_ID; {script}", **fields)

    def ran(self, launch: Launch) -> int:
        ledger = self.root / f"ledger-{launch.job_id}"
        return len(ledger.read_text().split()) if ledger.exists() else 0

    def fault(self, program: str, script: str) -> None:
        """Let `script` stand before a program of SLURM, which is `$real`."""
        path = self.root / "faults" / program
        unfinished = path.with_suffix(".new")
        unfinished.write_text(
            f"#!/bin/sh\nreal={self.slurm.programs}/{program}\nhere={self.root}\n{script}\n"
        )
        unfinished.chmod(0o755)
        unfinished.rename(path)

    def programs(self, start: int) -> list[str]:
        """What was run at the site, from that command on: a program of SLURM, or a shell that sees to files."""
        return [
            next((name for name in ("squeue", "sacct") if name in command.argv), command.argv[0])
            for command in self.commands_sent[start:]
        ]

    def mend(self) -> None:
        """Take all faults away."""
        for path in (self.root / "faults").iterdir():
            path.unlink()

    def said(self, launch: Launch, kind: type[R]) -> R | None:
        """What was reported of this kind."""
        return next((one for one in self.reports.get(launch.token, []) if isinstance(one, kind)), None)

    def count(self, launch: Launch, kind: type[Report]) -> int:
        """How often this was reported."""
        return sum(isinstance(one, kind) for one in self.reports.get(launch.token, []))

    async def wait(self, launch: Launch, kind: type[R], timeout_s: float = 60) -> R:
        found = await eventually(lambda: self.said(launch, kind), timeout_s=timeout_s)
        assert isinstance(found, kind)
        return found

    async def taken_up(self, launch: Launch) -> None:
        """Wait until it is known to wait or to run."""
        await eventually(lambda: self.said(launch, Scheduled) or self.said(launch, Started))

    async def end(self, launch: Launch, timeout_s: float = 60) -> Final:
        found = await eventually(
            lambda: next((one for one in self.reports.get(launch.token, []) if isinstance(one, Final)), None),
            timeout_s=timeout_s,
        )
        assert isinstance(found, Final)
        return found

    async def exit(self, launch: Launch, timeout_s: float = 60) -> Ended:
        found = await self.end(launch, timeout_s)
        assert isinstance(found, Ended), found
        return found

    async def until(self, *argv: str, has: str = "", timeout_s: float = 100) -> None:
        """Wait until a command of SLURM says this; nothing, unless `has` is given."""

        async def is_so() -> bool:
            said = await asyncio.to_thread(self.slurm.say, *argv)
            await asyncio.sleep(0.3)
            return has in said if has else not said.strip()

        await eventually(is_so, timeout_s=timeout_s)

    def jobs_named(self, launch: Launch) -> list[str]:
        """Ids of all jobs that SLURM has under the attempt's name, ended ones too."""
        lines = self.slurm.say("sacct", "-X", "-n", "-P", "-D", "-o", "JobID", "--name", f"jm-{launch.token}")
        return lines.split()


@pytest_asyncio.fixture
async def site(slurm: Slurm) -> AsyncIterator[Site]:
    # Where the cluster is, because nodes see the same files there.
    root = slurm.directory / f"work-{secrets.token_hex(4)}"
    site = Site(slurm, root)
    yield site
    for executor in site.open:
        await executor.stop()
    slurm.run(["scancel", "--me"])
    shutil.rmtree(root, ignore_errors=True)


async def test_what_cannot_be_said_to_the_scheduler_fails_the_attempt_naming_the_field(site: Site) -> None:
    executor = await site.executor()
    launch = site.once("true", resources=Resources(partition="a b\n#SBATCH --wrap=x"))
    await executor.launch([launch])
    ended = await site.end(launch)
    assert isinstance(ended, NeverRan)
    assert ended.error is not None
    assert "resources.partition" in ended.error.message


async def test_cancelled_attempt_that_ignores_the_signal_is_killed(site: Site) -> None:
    executor = await site.executor()
    launch = site.once("trap '' TERM; while :; do sleep 1; done")
    await executor.launch([launch])
    await site.wait(launch, Started)
    await executor.cancel(launch.token, 5.0)
    assert (await site.exit(launch)).record.ended_by == "cancel"


async def test_waiting_attempt_is_cancelled_before_it_starts(site: Site) -> None:
    executor = await site.executor()
    launch = site.once("true", resources=Resources(partition="shut", memory_bytes=2**20))
    await executor.launch([launch])
    await site.wait(launch, Scheduled)
    await eventually(lambda: executor.reason(launch.token), timeout_s=30)
    assert "PartitionDown" in executor.reason(launch.token)
    await executor.cancel(launch.token, 5.0)
    assert await site.end(launch) == NeverRan(launch.token, None)
    await site.until(
        "sacct", "-X", "-n", "-P", "-o", "State", "--name", f"jm-{launch.token}", has="CANCELLED"
    )
    assert site.ran(launch) == 0


async def test_what_slurm_starts_on_a_node_that_does_not_answer_is_told_as_not_begun(
    site: Site, slurm: Slurm
) -> None:
    executor = await site.executor()
    launch = site.once("exit 3", resources=Resources(partition="short", memory_bytes=2**20))
    slurm.freeze("n1")
    try:
        await executor.launch([launch])
        words = "said to run on n1, and nothing of its script was seen yet"
        await eventually(lambda: executor.reason(launch.token) == words, timeout_s=30)
    finally:
        slurm.thaw("n1")

    assert (await site.exit(launch)).record.exit_code == 3
    assert site.ran(launch) == 1


@pytest.mark.parametrize("knows_handle", [True, False])
async def test_next_service_takes_up_what_runs(site: Site, *, knows_handle: bool) -> None:
    first = await site.executor()
    launch = site.once("sleep 2; exit 7")
    await first.launch([launch])
    handle = (await site.wait(launch, Scheduled)).handle
    await first.stop()
    site.reports.clear()
    second = await site.executor()
    await second.recover([_with_handle(launch, handle if knows_handle else None)])
    assert (await site.exit(launch)).record.exit_code == 7
    assert site.ran(launch) == 1
    await eventually(lambda: site.jobs_named(launch), timeout_s=30)  # accounting is told a little later
    assert site.jobs_named(launch) == [handle]


def _with_handle(launch: Launch, handle: str | None) -> Launch:
    return Launch(launch.job_id, 1, launch.token, launch.command, resources=launch.resources, handle=handle)


REAL = '"$real" "$@"'


def _fails(words: str) -> str:
    return f'echo "sbatch: error: {words}" >&2; exit 1'


def _at_first(name: str, words: str) -> str:
    return f'if mkdir "$here/{name}" 2>/dev/null; then {_fails(words)}; fi; exec {REAL}'


SUBMISSION_FAILED = "Batch job submission failed: "
# What stands before sbatch in a test.
FAULTS = {
    "accepts, and its answer is late": (
        f"{REAL} >/dev/null; sleep 1; {_fails(SUBMISSION_FAILED + 'Socket timed out on send/recv operation')}"
    ),
    "accepts and dies": f"{REAL} >/dev/null; kill -9 $$",
    "accepts and answers nothing": f"{REAL} >/dev/null",
    "accepts and answers garbage": f"{REAL} | tr 0-9 a-j",
    "accepts, names the job, and calls it an error": f"{REAL}; {_fails('slurm_persist_conn_open: failed')}",
    "hands in twice": f"{REAL} >/dev/null; exec {REAL}",
    "hands in five and names none": f"for i in 1 2 3 4 5; do {REAL} >/dev/null; done; exit 1",
    "hands in after its error": (
        f"( sleep 1; exec {REAL} ) >/dev/null 2>&1 & "
        f"{_fails('Unable to contact slurm controller (connect failure)')}"
    ),
    "is busy at first": _at_first("busy", SUBMISSION_FAILED + "Resource temporarily unavailable"),
    "cannot reach the controller at first": _at_first(
        "down", SUBMISSION_FAILED + "Unable to contact slurm controller (connect failure)"
    ),
    "is slow": f"sleep 3; exec {REAL}",
}


@pytest.mark.parametrize("fault", list(FAULTS))
async def test_command_runs_once_when_sbatch(site: Site, fault: str) -> None:
    site.fault("sbatch", FAULTS[fault])
    executor = await site.executor()
    launch = site.once("sleep 1; exit 6")
    await executor.launch([launch])
    assert (await site.exit(launch, 120)).record.exit_code == 6
    # Whatever else waits under its name will be refused.
    await site.until("squeue", "-h", "--me", "-t", "PD,R,CG")
    assert site.ran(launch) == 1


LOOKS = {
    "squeue answers nothing": ("squeue", "exit 0"),
    "squeue fails": (
        "squeue",
        'echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1',
    ),
    "squeue answers garbage": ("squeue", "head -c 2000 /dev/urandom"),
    "squeue does not end": ("squeue", "exec sleep 600"),
    "sacct answers nothing": ("sacct", "exit 0"),
    "sacct fails": ("sacct", 'echo "sacct: error: Problem talking to the database" >&2; exit 1'),
}


# Each takes its time, because silence has to last; the others run with --long.
_SHORT = {"squeue answers nothing", "sacct fails"}


@pytest.mark.parametrize(
    "fault", [fault if fault in _SHORT else pytest.param(fault, marks=pytest.mark.slow) for fault in LOOKS]
)
async def test_running_attempt_is_left_alone_when(site: Site, fault: str) -> None:
    executor = await site.executor()
    launch = site.once(f"while [ ! -e {site.root}/go ]; do sleep 0.1; done; exit 9")
    await executor.launch([launch])
    await site.wait(launch, Started)
    program, script = LOOKS[fault]
    site.fault(program, script)
    await asyncio.sleep(2 * (QUICK.absent_s + QUICK.record_comes_s))
    assert not [one for one in site.reports[launch.token] if isinstance(one, Final)]
    (site.root / "go").touch()
    assert (await site.exit(launch, 100)).record.exit_code == 9


async def test_waiting_attempt_is_left_alone_when_nothing_is_listed(site: Site) -> None:
    executor = await site.executor()
    launch = site.once("exit 2", resources=Resources(partition="shut", memory_bytes=2**20))
    await executor.launch([launch])
    handle = (await site.wait(launch, Scheduled)).handle
    site.fault("squeue", "exit 1")
    await asyncio.sleep(2 * QUICK.absent_s)
    site.mend()
    site.slurm.say("scontrol", "update", f"jobid={handle}", "partition=debug")
    assert (await site.exit(launch)).record.exit_code == 2


async def _running(site: Site, executor: BatchExecutor) -> tuple[Launch, str]:
    launch = site.once("sleep 600")
    await executor.launch([launch])
    handle = (await site.wait(launch, Started)).handle
    await eventually(lambda: site.ran(launch))
    return launch, handle


@pytest.mark.parametrize("by", ["its scheduler", "jobmgr"])
async def test_run_whose_control_files_are_gone_did_run(site: Site, by: str) -> None:
    executor = await site.executor()
    launch, handle = await _running(site, executor)
    shutil.rmtree(site.root / "control" / launch.job_id)

    if by == "jobmgr":
        await executor.cancel(launch.token, 5.0)
    else:
        site.slurm.say("scancel", handle)

    assert (await site.exit(launch)).record.ended_by == "cancel"
    await site.until("squeue", "-h", "--me")
    assert site.ran(launch) == 1


async def test_run_that_an_earlier_service_saw_did_run_also_without_its_control_files(site: Site) -> None:
    first = await site.executor()
    launch, handle = await _running(site, first)
    await first.stop()
    shutil.rmtree(site.root / "control" / launch.job_id)
    site.reports.clear()
    second = await site.executor()
    origin = Origin(str(site.root), "", "here", "another boot", has_started=True)
    await second.recover([replace(launch, handle=handle, origin=origin)])
    await asyncio.sleep(QUICK.absent_s)  # while it runs on
    assert not site.reports.get(launch.token)

    site.slurm.say("scancel", handle)

    end = await site.end(launch)
    assert isinstance(end, Lost)
    assert end.evidence.endswith("it was running, and its control files are gone")
    await site.until("squeue", "-h", "--me")
    assert site.ran(launch) == 1


async def test_attempt_that_vanished_is_released_and_never_runs(site: Site) -> None:
    """Its job is gone from the queue, and accounting does not know it."""
    executor = await site.executor()
    launch = site.once("true", resources=Resources(partition="shut", memory_bytes=2**20))
    await executor.launch([launch])
    handle = (await site.wait(launch, Scheduled)).handle
    for program in ("squeue", "sacct"):
        site.fault(program, f'"$real" "$@" | grep -av {launch.token}; exit 0')
    assert await site.end(launch) == NeverRan(launch.token, None)
    site.mend()
    site.slurm.run(["scontrol", "update", f"jobid={handle}", "partition=debug"])
    await site.until("squeue", "-h", "--me", "-t", "PD,R,CG")
    assert site.ran(launch) == 0


async def test_holder_killed_with_its_command_is_lost(site: Site) -> None:
    executor = await site.executor()
    launch = site.once("exec sleep 600")
    await executor.launch([launch])
    await site.wait(launch, Started)
    remnants = [stat for stat in site.slurm.remnants() if launch.token in _arguments(stat.pid)]
    assert remnants
    for stat in remnants:
        with contextlib.suppress(ProcessLookupError):
            os.kill(stat.pid, 9)
    found = await site.end(launch)
    assert isinstance(found, Lost), found


async def test_run_whose_gate_was_emptied_is_waited_for_and_ends_as_lost(site: Site) -> None:
    """As a full quota or a power cut leaves files: how it ended nobody can say, and it does not run again."""
    executor = await site.executor()
    launch = site.once("exec sleep 600")
    await executor.launch([launch])
    handle = (await site.wait(launch, Started)).handle
    (control,) = [path.parent for path in site.root.rglob("gate") if launch.token in path.read_text()]
    (control / "gate").write_text("")
    (control / "exit").write_text("")

    looks = executor.asked["look"]
    await eventually(lambda: executor.asked["look"] >= looks + 3, timeout_s=60)
    waited = not any(isinstance(report, Lost) for report in site.reports[launch.token])
    site.slurm.run(["scancel", handle])
    found = await site.end(launch)

    assert waited
    assert isinstance(found, Lost), found
    assert found.evidence.startswith(f"job {handle} is CANCELLED")
    assert found.evidence.endswith("its holder left files (gate and exit) that cannot be understood")
    assert site.ran(launch) == 1


async def test_what_is_gone_where_no_ends_are_remembered_is_unreachable_until_a_user_ends_it(
    site: Site,
) -> None:
    executor = await site.executor()
    launch = site.once("exec sleep 600")
    await executor.launch([launch])
    await site.wait(launch, Started)
    vanish(site, launch)
    why = (await site.wait(launch, Unreachable)).why
    # It was there all the while.
    site.mend()
    await eventually(lambda: site.count(launch, Started) == 2, timeout_s=60)
    vanish(site, launch)
    for stat in site.slurm.remnants():
        if launch.token in _arguments(stat.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(stat.pid, 9)
    await eventually(lambda: site.count(launch, Unreachable) == 2, timeout_s=60)
    before, looks = list(site.reports[launch.token]), executor.asked["look"]
    await eventually(lambda: executor.asked["look"] >= looks + 2, timeout_s=60)

    assert site.reports[launch.token] == before  # nothing but a user's word ends it, and it is said once
    assert "is gone from the queue, and the scheduler tells no end of it; `cancel`" in why
    await executor.cancel(launch.token, 1.0)
    found = await site.end(launch)
    assert isinstance(found, Lost), found
    assert "its end was wished" in found.evidence


def vanish(site: Site, launch: Launch) -> None:
    """Let the cluster be one without accounting, whose queue does not have the job."""
    site.fault("sacct", 'echo "Slurm accounting storage is disabled" >&2; exit 1')
    site.fault("squeue", f'"$real" "$@" | grep -av {launch.token}; exit 0')


def _arguments(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace") + Path(
            f"/proc/{pid}/cmdline"
        ).read_bytes().decode(errors="replace")
    return ""


async def test_requeued_run_is_preempted_and_the_next_one_is_refused(site: Site) -> None:
    executor = await site.executor()
    launch = site.once("exec sleep 600")
    await executor.launch([launch])
    handle = (await site.wait(launch, Started)).handle
    site.slurm.say("scontrol", "update", f"jobid={handle}", "requeue=1")
    site.slurm.say("scontrol", "requeue", handle)
    ended = await site.exit(launch, 100)
    assert ended.record.error is not None
    assert ended.record.error.code == Failure.PREEMPTED
    await site.until("squeue", "-h", "--me", "-t", "PD,R,CG")
    assert site.ran(launch) == 1


IN_SHUT = Resources(partition="shut", memory_bytes=2**20)


async def test_one_query_per_look_however_many_submissions(site: Site) -> None:
    executor = await site.executor()
    # No array, because no two of them are alike.
    launches = [site.once("true", resources=IN_SHUT, priority=number) for number in range(20)]
    await executor.launch(launches)
    handles = {(await site.wait(launch, Scheduled)).handle for launch in launches}
    before = len(site.commands_sent)
    await eventually(lambda: len(_queries(site.programs(before))) > 10, timeout_s=60)

    # The first and the last may not be whole.
    assert _queries(site.programs(before))[1:10] == [["squeue", "sacct"]] * 9
    last = next(command for command in reversed(site.commands_sent) if "sacct" in command.argv)
    assert f"--jobs={','.join(sorted(handles))}" in last.argv
    assert (executor.asked["submit"], len(handles)) == (20, 20)
    for launch in launches:
        await executor.cancel(launch.token, 1.0)
        assert await site.end(launch) == NeverRan(launch.token, None)


def _queries(programs: Sequence[str]) -> list[list[str]]:
    """What was asked between two looks at files, of which the watch has one each time."""
    return [list(asked) for is_of_files, asked in groupby(programs, key="sh".__eq__) if not is_of_files]


async def test_array_of_sixty_ends_as_each_element_did(site: Site) -> None:
    executor = await site.executor()
    cancelled = set(range(55, 60))
    launches = [
        site.once("exec sleep 600" if number in cancelled else f"exit {number % 9}") for number in range(60)
    ]
    await executor.launch(launches)
    await site.wait(launches[0], Started)
    # The last ones still wait.
    for number in sorted(cancelled):
        await executor.cancel(launches[number].token, 1.0)
    for number, launch in enumerate(launches):
        ended = await site.end(launch, 150)
        if number in cancelled:
            assert isinstance(ended, NeverRan) or (
                isinstance(ended, Ended) and ended.record.ended_by == "cancel"
            ), (number, ended)
        else:
            assert isinstance(ended, Ended), (number, ended)
            assert ended.record.exit_code == number % 9
            assert site.ran(launch) == 1
    assert executor.asked["submit"] == 1
    await site.until("squeue", "-h", "--me", "-t", "PD,R,CG")


async def test_running_element_is_cancelled_and_no_other(site: Site) -> None:
    executor = await site.executor()
    launches = [site.once(f"while [ ! -e {site.root}/go ]; do sleep 0.1; done; exit 3") for _ in range(3)]
    await executor.launch(launches)
    for launch in launches:
        await site.wait(launch, Started)
    await executor.cancel(launches[1].token, 1.0)
    assert (await site.exit(launches[1])).record.ended_by == "cancel"
    (site.root / "go").touch()
    for launch in (launches[0], launches[2]):
        assert (await site.exit(launch)).record.exit_code == 3


async def test_a_thousand_like_attempts_take_few_commands(site: Site) -> None:
    executor = await site.executor()
    launches = [site.once("true", resources=IN_SHUT) for _ in range(1000)]
    await executor.launch(launches)
    for launch in launches:
        await site.wait(launch, Scheduled)
    assert (executor.asked["submit"], executor.asked["find"]) == (1, 0)
    for launch in launches:
        await executor.cancel(launch.token, 1.0)
    for launch in launches:
        assert await site.end(launch) == NeverRan(launch.token, None)
    await site.until("squeue", "-h", "--me")
    assert executor.asked["submit"] == 1
    assert executor.asked["cancel"] <= 10


async def test_refused_array_fails_each_attempt_with_the_schedulers_own_words(site: Site) -> None:
    executor = await site.executor()
    launches = [site.once("true", resources=Resources(partition="no-such-partition")) for _ in range(3)]
    await executor.launch(launches)
    for launch in launches:
        ended = await site.end(launch)
        assert isinstance(ended, NeverRan)
        assert ended.error is not None
        assert "Invalid partition name specified" in ended.error.message
    assert executor.asked["submit"] == 1


@pytest.mark.parametrize(
    "fault",
    ["accepts, and its answer is late", "hands in twice", "hands in after its error", "is busy at first"],
)
async def test_each_element_runs_once_when_sbatch(site: Site, fault: str) -> None:
    site.fault("sbatch", FAULTS[fault])
    executor = await site.executor()
    launches = [site.once(f"sleep 1; exit {code}") for code in range(6)]
    await executor.launch(launches)
    for code, launch in enumerate(launches):
        assert (await site.exit(launch, 120)).record.exit_code == code
    await site.until("squeue", "-h", "--me", "-t", "PD,R,CG")
    assert [site.ran(launch) for launch in launches] == [1] * 6


@pytest.mark.parametrize("knows_handles", [True, False])
async def test_next_service_takes_up_an_array(site: Site, *, knows_handles: bool) -> None:
    first = await site.executor()
    launches = [
        site.once(f"while [ ! -e {site.root}/go ]; do sleep 0.1; done; exit {code}") for code in range(20)
    ]
    await first.launch(launches)
    handles = {launch.token: (await site.wait(launch, Scheduled)).handle for launch in launches}
    await site.wait(launches[0], Started)
    await first.stop()
    site.reports.clear()
    second = await site.executor()
    await second.recover(
        [_with_handle(launch, handles[launch.token] if knows_handles else None) for launch in launches]
    )
    if not knows_handles:
        for launch in launches:
            await site.taken_up(launch)
    (site.root / "go").touch()
    for code, launch in enumerate(launches):
        assert (await site.exit(launch, 120)).record.exit_code == code
    assert [site.ran(launch) for launch in launches] == [1] * 20
    # All are looked up together.
    assert second.asked["find"] <= 1
    assert second.asked["submit"] == 0


async def test_array_above_the_limit_of_a_user_runs_in_parts(site: Site) -> None:
    """Of SLURM's QOS `tight` a user may have one job at a time."""
    executor = await site.executor()
    tight = Resources(qos="tight", memory_bytes=10 * 2**20)
    launches = [site.once(f"exit {code}", resources=tight) for code in range(3)]
    await executor.launch(launches)
    for code, launch in enumerate(launches):
        assert (await site.exit(launch, 120)).record.exit_code == code
    assert [site.ran(launch) for launch in launches] == [1] * 3


async def test_what_is_called_running_long_after_its_end_is_cancelled_once(site: Site) -> None:
    site.fault("scancel", 'echo "$@" >>"$here/cancelled"')
    # The controller was killed, and takes for running what has ended.
    site.fault("squeue", '"$real" "$@" | sed -E "s/(COMPLETED|COMPLETING)/RUNNING/"')
    executor = await site.executor(replace(QUICK, ghost_s=2.0))
    launch = site.once("exit 0")
    await executor.launch([launch])
    handle = (await site.wait(launch, Scheduled)).handle
    await site.exit(launch)
    cancelled = site.root / "cancelled"
    await eventually(cancelled.exists, timeout_s=60)
    other = site.once("exit 0")
    await executor.launch([other])
    await site.exit(other)
    await eventually(lambda: len(cancelled.read_text().splitlines()) == 2, timeout_s=60)

    first, second = cancelled.read_text().splitlines()
    assert (first, second != first) == (handle, True)


async def test_what_its_scheduler_knows_to_have_ended_is_not_asked_about_any_more(site: Site) -> None:
    site.fault("scancel", 'touch "$here/cancelled"')
    executor = await site.executor(replace(QUICK, ghost_s=2.0))
    launch = site.once("exit 0")
    await executor.launch([launch])
    await site.exit(launch)
    await site.until("squeue", "-h", "--me", "-t", "PD,R,CG")
    looks = -1
    while looks != executor.asked["look"]:
        looks = executor.asked["look"]
        await asyncio.sleep(3 * QUICK.ask_max_s)  # longer than any pause between two looks
    assert not (site.root / "cancelled").exists()

"""Attempts at a Windows HPC Pack, which is played (tests/hpcpack.py): no Windows machine was at hand.

What all executors promise is in tests/executors/contract.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from jobmgr.dialects import registry
from jobmgr.domain.resources import Resources
from jobmgr.executors.batch import BatchExecutor
from jobmgr.executors.pace import Pace
from jobmgr.executors.protocol import Ended, Final, Launch, Report, Scheduled, Started
from jobmgr.transports.local import LocalTransport
from tests.hpcpack import HpcPack
from tests.patience import eventually

QUICK = Pace(
    files_s=0.1,
    ask_first_s=0.2,
    ask_max_s=0.5,
    again_first_s=0.2,
    again_max_s=0.5,
    in_doubt_s=1.0,
    record_comes_s=1.0,
    absent_s=2.0,
)
R = TypeVar("R", bound=Report)


@dataclass
class Site:
    """A played cluster with a work directory on a share, and what executors reported."""

    hpc: HpcPack
    root: Path
    reports: list[Report] = field(default_factory=list)
    open: list[BatchExecutor] = field(default_factory=list)

    @property
    def share(self) -> str:
        """The work directory as a shell on Windows has it: two slashes are the beginning of a share's name."""
        return f"/{self.root}"

    async def executor(self) -> BatchExecutor:
        transport = LocalTransport({"PATH": f"{self.root}/faults:{self.hpc.programs}:{os.environ['PATH']}"})
        dialect = registry.dialect("windows_hpc")
        executor = BatchExecutor("hpc", dialect, transport, self.share, self.reports.append, pace=QUICK)
        await executor.start()
        self.open.append(executor)
        return executor

    def once(self, script: str, **fields: Any) -> Launch:
        """A command that says in a file of its own that it ran."""
        command = ("sh", "-c", f"echo ran >> {self.root}/ledger-$JOBMGR_JOB_ID; {script}")
        return Launch(f"job-{secrets.token_hex(4)}", 1, secrets.token_hex(16), command, **fields)

    def ran(self, launch: Launch) -> int:
        ledger = self.root / f"ledger-{launch.job_id}"
        return len(ledger.read_text().split()) if ledger.exists() else 0

    def fault(self, script: str) -> None:
        """Let `script` stand before `job submit`; all else passes to the real one, `$real`."""
        path = self.root / "faults" / "job"
        path.write_text(
            f'#!/bin/sh\nreal={self.hpc.programs}/job\n[ "$1" = submit ] || exec "$real" "$@"\n{script}\n'
        )
        path.chmod(0o755)

    async def wait(self, launch: Launch, kind: type[R]) -> R:
        def found() -> Report | None:
            mine = [one for one in self.reports if one.token == launch.token]
            return next((one for one in mine if isinstance(one, kind)), None)

        report = await eventually(found, timeout_s=60)
        assert isinstance(report, kind)
        return report

    async def end(self, launch: Launch) -> Final:
        await eventually(lambda: self._final(launch), timeout_s=60)
        final = self._final(launch)
        assert final is not None
        return final

    def _final(self, launch: Launch) -> Final | None:
        return next(
            (one for one in self.reports if isinstance(one, Final) and one.token == launch.token), None
        )

    async def exit(self, launch: Launch) -> Ended:
        found = await self.end(launch)
        assert isinstance(found, Ended), found
        return found


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    hpc = HpcPack(tmp_path / "hpc")
    hpc.install()
    root = tmp_path / "work"
    for name in ("control", "runs", "faults"):
        (root / name).mkdir(parents=True)
    site = Site(hpc, root)
    yield site
    for executor in site.open:
        await executor.stop()
    hpc.remove()


async def test_every_step_of_the_trial_goes_well(site: Site) -> None:
    steps = await (await site.executor()).trial()

    assert [(step.name, step.is_well) for step in steps] == [
        ("connection", True),
        ("scheduler", True),
        ("installation", True),
        ("work directory", True),
        ("partitions", True),
    ]
    assert (steps[1].said, steps[4].said) == (
        "Windows HPC Pack 5.3.6450.0",
        "ComputeNodes, Drained, Head Nodes",
    )


async def test_command_runs_and_is_told_of(site: Site) -> None:
    executor = await site.executor()
    script = 'echo "$GREETING"; echo complained >&2; exit 3'
    launch = site.once(script, env={"GREETING": "héllo 'w' %PATH% \"&\" *"}, resources=Resources(cpus=2))

    await executor.launch([launch])
    ended = await site.exit(launch)

    assert (ended.record.exit_code, ended.record.ended_by) == (3, "self")
    assert (await site.wait(launch, Scheduled)).handle == (await site.wait(launch, Started)).handle == "35"
    run = Path(executor.run_directory(launch))
    assert (run / "stdout").read_text() == "héllo 'w' %PATH% \"&\" *\n"
    assert (run / "stderr").read_text() == "complained\n"
    (job,) = site.hpc.jobs()
    assert (job["MinCores"], job["Task"]["MaxCores"], job["Task"]["IsRerunnable"]) == ("2", "2", "false")
    assert site.ran(launch) == 1


async def test_argument_that_looks_like_a_path_reaches_a_program_of_windows_as_it_is(site: Site) -> None:
    """`job` plays one: MSYS2 would have made a path of `/format:list`, and the program would refuse it."""
    executor = await site.executor()
    launch = Launch("job-1", 1, secrets.token_hex(16), ("job", "list", "/format:list"))

    await executor.launch([launch])

    assert (await site.exit(launch)).record.exit_code == 0
    stdout = Path(executor.run_directory(launch)) / "stdout"
    assert "1 matching jobs" in stdout.read_text()


FAULTS = {
    "accepts and dies": '"$real" "$@" >/dev/null; kill -9 $$',
    "accepts and answers nothing": '"$real" "$@" >/dev/null',
    "hands in twice": '"$real" "$@" >/dev/null; exec "$real" "$@"',
    "cannot connect at first": (
        'if mkdir "${0%/*}/down" 2>/dev/null; then echo "Could not connect to the scheduler." >&2; exit 1; fi\n'
        'exec "$real" "$@"'
    ),
}


@pytest.mark.parametrize("fault", list(FAULTS))
async def test_command_runs_once_when_job_submit(site: Site, fault: str) -> None:
    site.fault(FAULTS[fault])
    executor = await site.executor()
    launch = site.once("exit 6")

    await executor.launch([launch])

    assert (await site.exit(launch)).record.exit_code == 6
    await eventually(lambda: all(job["State"] in ("Finished", "Failed") for job in site.hpc.jobs()))
    assert site.ran(launch) == 1

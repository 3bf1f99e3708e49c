"""What the words of a scheduler that counts no runs of a script mean for the run that holds an attempt."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from jobmgr.dialects import holder
from jobmgr.executors.pace import Pace
from jobmgr.executors.protocol import Ended, Final, Lost, Report, Scheduled, Started
from jobmgr.failure import Failure
from tests.dialects.shell import install
from tests.executors.test_array import KINDS, SHELLS, Site, launches
from tests.patience import eventually

SERVER = r"printf 'Server: pbs\n    job_history_enable = True\n'"
QUICK = Pace(files_s=0.05, gather_s=0.05, ask_first_s=0.1, ask_max_s=0.1, record_comes_s=0.5)


class Lab:
    """A PBS that has taken one job, and a node that runs it."""

    def __init__(self, folder: Path, pace: Pace) -> None:
        self.site = Site(folder, SHELLS[0], KINDS["pbs"])
        self.site.answers("echo 12.pbs")
        (self.launch,) = launches(f"while [ ! -e '{folder}/may-end' ]; do sleep 0.05; done; exit 3")
        self.calls("Q")
        install(self.site.programs, "qdel", f"echo $* >>'{folder}/deleted'")
        self.executor = self.site.executor(pace)

    def calls(self, state: str, **facts: object) -> None:
        """Let qstat say this of the job."""
        told = {"Job_Name": f"jm-{self.launch.token}", "job_state": state, **facts}
        lines = "".join(f"    {name} = {value}\\n" for name, value in told.items())
        is_server = '[ "$1" = -B ]'
        install(
            self.site.programs,
            "qstat",
            f"if {is_server}; then {SERVER}; else printf 'Job Id: 12.pbs\\n{lines}'; fi",
        )

    def may_end(self) -> None:
        (self.site.root / "may-end").touch()

    @property
    def deleted(self) -> str:
        """What qdel was asked to end."""
        path = self.site.root / "deleted"
        return path.read_text() if path.exists() else ""

    def finals(self) -> list[Report]:
        return [one for one in self.site.reports[self.launch.token] if isinstance(one, Final)]


@asynccontextmanager
async def started(folder: Path, pace: Pace = QUICK) -> AsyncIterator[Lab]:
    """A job that runs."""
    lab = Lab(folder, pace)
    await lab.executor.start()
    await lab.executor.launch([lab.launch])
    await lab.site.said(lab.launch, Scheduled)
    node = await asyncio.create_subprocess_exec(
        str(lab.site.programs / "sh"),
        str(lab.site.root / "control" / lab.launch.place / "script"),
        env={"PATH": os.environ["PATH"], "PBS_JOBID": "12.pbs"},
    )
    try:
        await lab.site.said(lab.launch, Started)
        yield lab
    finally:
        await lab.executor.stop()
        lab.may_end()
        with suppress(ProcessLookupError):
            await asyncio.wait_for(node.wait(), 30)


async def test_first_run_after_a_node_that_was_down_is_no_second_one(tmp_path: Path) -> None:
    """PBS counts the tries to send a job to a node, and the first one failed."""
    async with started(tmp_path) as lab:
        lab.calls("R", run_count=2)
        await asyncio.sleep(4 * QUICK.record_comes_s)  # for whoever would take the run for over

        assert lab.finals() == []
        lab.may_end()
        end = await lab.site.said(lab.launch, Ended)
        assert isinstance(end, Ended)
        assert end.record.exit_code == 3


async def test_run_whose_job_waits_again_is_over(tmp_path: Path) -> None:
    async with started(tmp_path) as lab:
        lab.calls("Q", run_count=1)

        end = await lab.site.said(lab.launch, Ended)

        assert isinstance(end, Ended)
        assert end.record.error is not None
        assert end.record.error.code == Failure.PREEMPTED


async def test_run_whose_job_was_run_again_between_two_looks_is_over(tmp_path: Path) -> None:
    """All that can be seen of it is how the next run ended: refused."""
    async with started(tmp_path) as lab:
        lab.calls("F", run_count=2, Exit_status=holder.REFUSED)

        end = await lab.site.said(lab.launch, Ended)

        assert isinstance(end, Ended)
        assert end.record.error is not None
        assert end.record.error.code == Failure.PREEMPTED


async def test_answer_that_is_older_than_the_start_ends_nothing(tmp_path: Path) -> None:
    """A scheduler may be asked seldom, and its answers be a few seconds old."""
    async with started(tmp_path) as lab:
        await asyncio.sleep(QUICK.record_comes_s / 2)  # while it is still said to wait
        lab.calls("R", run_count=1)
        await asyncio.sleep(2 * QUICK.record_comes_s)

        assert lab.finals() == []


async def test_job_of_another_attempt_that_got_the_same_id_is_neither_waited_for_nor_ended(
    tmp_path: Path,
) -> None:
    """A PBS that was installed anew counts from the beginning."""
    async with started(tmp_path, replace(QUICK, absent_s=1.0)) as lab:
        lab.calls("R")
        later = replace(lab.launch, job_id="job-later", token="f" * 32)
        await lab.executor.launch([later])
        await lab.site.said(later, Scheduled)
        lab.calls("R", Job_Name=f"jm-{later.token}")
        looks = lab.executor.asked["look"]
        await eventually(lambda: lab.executor.asked["look"] >= looks + 2)

        await lab.executor.cancel(lab.launch.token, 1.0)

        await lab.site.said(lab.launch, Lost)
        assert lab.deleted == ""
        await lab.executor.cancel(later.token, 1.0)
        await eventually(lambda: "12.pbs" in lab.deleted)

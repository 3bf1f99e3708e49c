"""A campaign in a real SLURM while the service is killed, and in the long form SLURM's own daemons go and come."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from jobmgr.client import Client
from jobmgr.domain.job import Job
from jobmgr.executors import process
from jobmgr.executors.pace import Pace
from tests.crash.service import Service
from tests.slurm import Slurm

SEED = 20261121
_POLL_S = 0.5
_LOOK_AT_ONCE = 50
_ASKED = {"memory": "10MB"}
# Longer than what nobody lists is waited for.
_OUTAGE_S = Pace().absent_s + 15.0
# For 20 s (BatchStartTimeout and MessageTimeout) a controller that was restarted does not believe a node that does
# not list a job.
_NODES_BELIEVED_AFTER_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How a job is to end: by itself with `code`, cancelled while it runs, or by its time limit."""

    number: int
    code: int = 0
    is_cancelled: bool = False
    is_too_long: bool = False

    def submission(self, ledger: Path) -> dict[str, object]:
        """The job, which first of all says in the ledger that it ran."""
        lasts = self.is_cancelled or self.is_too_long
        script = f"echo {self.number} >> {ledger}; " + ("exec sleep 900" if lasts else f"exit {self.code}")
        return {
            "job_id": f"job-{self.number}",
            "command": ["sh", "-c", script],
            "site": "lab",
            "resources": {**_ASKED, **({"walltime": "1m"} if self.is_too_long else {})},
        }

    def is_told(self, job: Job) -> bool:
        """Whether what is said of the job is what it did."""
        if self.is_cancelled:
            return job.status == "cancelled"
        if self.is_too_long:
            return job.error is not None and job.error.code == "timeout"
        return job.exit_code == self.code and job.status == ("failed" if self.code else "completed")


def plans(count: int, *, too_long: int) -> list[Plan]:
    cancelled = max(2, count // 25)
    ends = [Plan(number, code=number % 7) for number in range(count - cancelled - too_long)]
    ends += [Plan(len(ends) + index, is_cancelled=True) for index in range(cancelled)]
    ends += [Plan(len(ends) + index, is_too_long=True) for index in range(too_long)]
    return ends


class Campaign:
    """Jobs in a cluster, and a service that is killed now and then."""

    def __init__(self, slurm: Slurm, home: Path, wanted: Sequence[Plan]) -> None:
        self.slurm = slurm
        self.wanted = wanted
        self.ledger = home / "ledger"
        self.ledger.touch()
        self.service = Service(home, f"sqlite:///{home}/jobs.db", slots=2)
        self._random = random.Random(SEED)

    async def submit(self, **site: int) -> None:
        await self.service.start()
        async with Client(self.service.url) as client:
            await client.put_site("lab", kind="slurm", **site)
            await client.submit_many([plan.submission(self.ledger) for plan in self.wanted])

    async def kill_and_start(self) -> None:
        """After a while, at any instruction."""
        await asyncio.sleep(self._random.uniform(0.5, 6.0))
        process.send_signals([self.service.stat], signal.SIGKILL)
        self.service.wait()
        await self.service.start()

    async def without_slurmctld(self) -> None:
        """Killed, it forgets jobs of its last seconds, and without accounting nobody remembers them."""
        self.slurm.stop_slurmctld(is_immediate=self.slurm.has_accounting)
        await self._outage()
        await asyncio.to_thread(self.slurm.start_slurmctld)

    async def without_slurmdbd(self) -> None:
        """Accounting is away."""
        self.slurm.stop_slurmdbd()
        await self._outage()
        await asyncio.to_thread(self.slurm.start_slurmdbd)

    async def ask_nodes(self) -> None:
        """What an admin does after slurmctld was killed: it forgot what it was told in its last seconds.

        Jobs whose ends these were hold their cores until it asks their nodes, every 33 minutes or when it is told to
        read its configuration. To start the nodes' daemons anew would lose what is being started there.
        """
        await asyncio.sleep(_NODES_BELIEVED_AFTER_S)
        await asyncio.to_thread(self.slurm.run, ["scontrol", "reconfigure"])

    async def _resume_nodes(self) -> None:
        """An admin does that, too: it gives ids of jobs that run to others, and drains the node ("Duplicate jobid")."""
        drained = await asyncio.to_thread(self.slurm.run, ["sinfo", "-h", "-N", "-t", "drain", "-o", "%N"])
        for node in set(drained.stdout.split()):
            await asyncio.to_thread(
                self.slurm.run, ["scontrol", "update", f"NodeName={node}", "State=RESUME"]
            )

    async def _outage(self) -> None:
        """The service is killed in the middle, and then sees nothing for long."""
        await self.kill_and_start()
        await asyncio.sleep(_OUTAGE_S)

    async def jobs(self) -> list[Job]:
        async with Client(self.service.url) as client:
            found: list[Job] = []
            for start in range(0, len(self.wanted), _LOOK_AT_ONCE):
                part = self.wanted[start : start + _LOOK_AT_ONCE]
                found += await asyncio.gather(*(client.get(f"job-{plan.number}") for plan in part))
            return found

    async def finish(self, within_s: float) -> list[Job]:
        """Cancel what runs and is to be cancelled, and wait until all have ended."""
        async with asyncio.timeout(within_s):
            while True:
                jobs = await self.jobs()
                if all(job.status.is_terminal for job in jobs):
                    return jobs
                for plan, job in zip(self.wanted, jobs, strict=True):
                    if plan.is_cancelled and job.status == "running" and job.cancel_requested_at is None:
                        async with Client(self.service.url) as client:
                            await client.cancel(job.job_id)
                await self._resume_nodes()
                await asyncio.sleep(_POLL_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.service.is_running:
            self.service.stop()

    def judge(self, jobs: Sequence[Job]) -> None:
        ran = Counter(int(line) for line in self.ledger.read_text().split())
        assert {number: times for number, times in ran.items() if times > 1} == {}
        assert [plan.number for plan in self.wanted if plan.number not in ran] == []
        told = [
            (job.job_id, job.status, job.exit_code, job.error)
            for plan, job in zip(self.wanted, jobs, strict=True)
            if not plan.is_told(job)
        ]
        assert told == []


@pytest.mark.timeout(300)
async def test_service_killed_while_jobs_are_in_the_queue(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", slurm.environment["PATH"])
    with Campaign(slurm, tmp_path, plans(30, too_long=0)) as campaign:
        await campaign.submit()
        for _ in range(2):
            await campaign.kill_and_start()
        campaign.judge(await campaign.finish(240))


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("cluster", ["slurm", "slurm_without_accounting"])
async def test_service_killed_while_two_thousand_elements_are_in_the_queue(
    cluster: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slurm: Slurm = request.getfixturevalue(cluster)
    monkeypatch.setenv("PATH", slurm.environment["PATH"])
    with Campaign(slurm, tmp_path, plans(2000, too_long=0)) as campaign:
        await campaign.submit(max_submitted=2000)
        for number in range(8):
            await campaign.kill_and_start()
            if number == 2:
                await campaign.without_slurmctld()
        await campaign.ask_nodes()
        jobs = await campaign.finish(1800)
        campaign.judge(jobs)
        arrays = Counter((job.handle or "").partition("_")[0] for job in jobs)
        assert sum(number >= 500 for number in arrays.values()) >= 2, arrays


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("cluster", ["slurm", "slurm_without_accounting"])
async def test_service_and_daemons_that_go_and_come_in_a_long_campaign(
    cluster: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slurm: Slurm = request.getfixturevalue(cluster)
    monkeypatch.setenv("PATH", slurm.environment["PATH"])
    with Campaign(slurm, tmp_path, plans(500, too_long=4)) as campaign:
        await campaign.submit()
        for number in range(10):
            await campaign.kill_and_start()
            if number == 2:
                await campaign.without_slurmctld()
            if number == 5 and slurm.has_accounting:
                await campaign.without_slurmdbd()
        await campaign.ask_nodes()
        campaign.judge(await campaign.finish(1200))

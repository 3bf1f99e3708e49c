"""Sequences of faults between us and a real SLURM: each command runs once, and is told as what it did."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from jobmgr.dialects.slurm import Slurm as Dialect
from jobmgr.domain.resources import Resources
from jobmgr.executors.batch import BatchExecutor
from jobmgr.executors.pace import Pace
from jobmgr.executors.protocol import Ended, Final, Launch, NeverRan, Report, Started
from jobmgr.transports.local import LocalTransport
from tests.executors import saboteur
from tests.patience import eventually
from tests.slurm import Slurm

# Of the absence of a job more is asked than a list of faults can feign.
PACE = Pace(
    files_s=0.2,
    ask_first_s=0.2,
    ask_max_s=0.5,
    command_s=1.5,
    again_first_s=0.2,
    again_max_s=0.5,
    in_doubt_s=0.6,
    record_comes_s=1.5,
    absent_s=8.0,
)
_PATIENCE_S = 60.0
_EXAMPLES, _LONG_EXAMPLES = 6, 200
_MOST_TRIES = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """How a command is to end: with `code`, or, if that is None, because it is cancelled; at once or once it runs."""

    code: int | None
    is_at_once: bool = False


_PLANS = st.lists(
    st.one_of(
        st.builds(Plan, st.sampled_from([0, 1, 7, 119, 137, 255])),
        st.builds(Plan, st.none(), st.booleans()),
    ),
    min_size=3,
    max_size=5,
)
_FAULTS = st.fixed_dictionaries(
    {
        "sbatch": st.lists(st.sampled_from(saboteur.SUBMISSIONS), min_size=2, max_size=6),
        "squeue": st.lists(st.sampled_from(saboteur.ANSWERS), max_size=5),
        "sacct": st.lists(st.sampled_from(saboteur.ANSWERS), max_size=5),
        "scancel": st.lists(st.sampled_from(saboteur.WISHES), max_size=3),
    }
)


class Walk:
    """A few jobs in a cluster, with faults before its programs."""

    def __init__(self, slurm: Slurm, plans: Sequence[Plan], faults: Mapping[str, Sequence[str]]) -> None:
        self.slurm = slurm
        self.root = slurm.directory / f"faults-{secrets.token_hex(4)}"
        self.front = self.root / "front"
        self.reports: list[Report] = []
        self._jobs = {f"job-{number}": plan for number, plan in enumerate(plans)}
        for name in ("control", "runs"):
            (self.root / name).mkdir(parents=True)
        saboteur.install(self.front, slurm.programs, list(faults))
        saboteur.plan(self.front, faults)

    async def go(self) -> None:
        """Run all jobs to their ends, and judge what is told of them."""
        environment = self.slurm.environment
        environment["PATH"] = f"{self.front}:{environment['PATH']}"
        transport = LocalTransport(environment)
        executor = BatchExecutor("lab", Dialect(), transport, str(self.root), self.reports.append, pace=PACE)
        await executor.start()
        try:
            async with asyncio.TaskGroup() as group:
                for job_id in self._jobs:
                    group.create_task(self._see_through(executor, job_id))
        finally:
            await executor.stop()
        await eventually(lambda: saboteur.is_quiet(self.front), _PATIENCE_S)
        await eventually(self._is_empty, _PATIENCE_S)
        ran = {job_id: self._ran(job_id) for job_id in self._jobs}
        assert {job_id: times for job_id, times in ran.items() if times > 1} == {}

    def close(self) -> None:
        """Leave nothing in the cluster."""
        self.slurm.run(["scancel", "--me"])
        shutil.rmtree(self.root, ignore_errors=True)

    async def _see_through(self, executor: BatchExecutor, job_id: str) -> None:
        """As a dispatcher does: what is released is claimed again, as another attempt."""
        plan = self._jobs[job_id]
        for number in range(1, _MOST_TRIES + 1):
            launch = self._launch(job_id, number)
            await executor.launch([launch])
            if plan.code is None:
                if not plan.is_at_once:
                    await eventually(partial(self._has_begun, launch), _PATIENCE_S)
                await executor.cancel(launch.token, 1.0)
            await eventually(partial(self._finals, launch), _PATIENCE_S)
            (final,) = self._finals(launch)
            if plan.code is None or final != NeverRan(launch.token, None):
                break
        self._judge(job_id, final)

    def _launch(self, job_id: str, number: int) -> Launch:
        plan = self._jobs[job_id]
        last = (
            "exec sleep 600"
            if plan.code is None
            else "kill -9 $$"
            if plan.code == 137
            else f"exit {plan.code}"
        )
        script = f"echo ran >> {self.root}/ran-{job_id}; {last}"
        return Launch(
            job_id,
            number,
            secrets.token_hex(16),
            ("sh", "-c", script),
            resources=Resources(memory_bytes=10 * 2**20),
            # Two are an array, and go together with the others.
            priority=int(job_id.removeprefix("job-")) // 2,
        )

    def _judge(self, job_id: str, final: Final) -> None:
        plan = self._jobs[job_id]
        if plan.code is None and isinstance(final, NeverRan):
            assert final.error is None
            assert self._ran(job_id) == 0
            return
        assert isinstance(final, Ended), final
        if plan.code is None:
            assert final.record.ended_by == "cancel", final
        else:
            assert (final.record.exit_code, final.record.ended_by) == (plan.code, "self"), final
        assert self._ran(job_id) == 1

    def _finals(self, launch: Launch) -> list[Final]:
        return [one for one in self.reports if one.token == launch.token and isinstance(one, Final)]

    def _has_begun(self, launch: Launch) -> bool:
        return any(one.token == launch.token and isinstance(one, Started | Final) for one in self.reports)

    def _ran(self, job_id: str) -> int:
        ledger = self.root / f"ran-{job_id}"
        return len(ledger.read_text().split()) if ledger.exists() else 0

    async def _is_empty(self) -> bool:
        """Whether all that was handed in has ended; the second of two runs is refused."""
        said = await asyncio.to_thread(self.slurm.say, "squeue", "-h", "--me", "-t", "PD,R,CG")
        return not said.strip()


def _walk(slurm: Slurm, plans: Sequence[Plan], faults: Mapping[str, Sequence[str]]) -> None:
    walk = Walk(slurm, plans, faults)
    try:
        asyncio.run(walk.go())
    finally:
        walk.close()


def _campaign(slurm: Slurm, examples: int, *, derandomize: bool) -> None:
    # Without shrinking: an example takes seconds, and what it did is printed.
    options = settings(
        max_examples=examples,
        derandomize=derandomize,
        database=None,
        deadline=None,
        phases=[Phase.generate],
    )
    options(given(_PLANS, _FAULTS)(lambda plans, faults: _walk(slurm, plans, faults)))()


@pytest.mark.timeout(300)
def test_each_command_runs_once_and_is_told_as_what_it_did(slurm: Slurm) -> None:
    _campaign(slurm, _EXAMPLES, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_each_command_runs_once_in_a_long_campaign(slurm: Slurm) -> None:
    _campaign(slurm, _LONG_EXAMPLES, derandomize=False)

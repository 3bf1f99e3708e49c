"""Sequences of faults between us and a real SLURM: each command runs once, and is told as what it did."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from jobmgr.dialects.slurm import Slurm as Dialect
from jobmgr.domain.resources import Resources
from jobmgr.executors.batch import BatchExecutor
from jobmgr.executors.pace import Pace
from jobmgr.executors.protocol import Ended, Final, Launch, Lost, NeverRan, Report, Started
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
    end_again_s=1.0,
    record_comes_s=1.5,
    absent_s=8.0,
)
_PATIENCE_S = 60.0
_EXAMPLES, _LONG_EXAMPLES = 6, 200
_MOST_TRIES = 5
_SLEEP = "exec sleep 600"
# The holder first, so that it cannot tell of the end of its command.
_KILL = "kill -9 $PPID $$"
# For so many questions accounting was not told: not at all, less long than an absence has to last, or longer.
_UNTOLD = (0, 3, 3 * round(PACE.absent_s / PACE.ask_max_s))


@dataclass(frozen=True, slots=True)
class Plan:
    """How a command is to end: with `code`, or, if that is None, because it is cancelled; at once or once it runs.

    `is_killed`: with whatever holds it, so that nobody is left to record its end.
    """

    code: int | None = None
    is_at_once: bool = False
    is_killed: bool = False

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody ends it."""
        return self.code is None and not self.is_killed

    @property
    def last_words(self) -> str:
        """What its shell does in the end."""
        if self.is_killed:
            return _KILL
        if self.code is None:
            return _SLEEP
        return "kill -9 $$" if self.code == 137 else f"exit {self.code}"


@dataclass(frozen=True, slots=True)
class Weather:
    """What befalls calls of each program, one after the other; for how many more questions accounting was not told.

    While it is not, the queue has forgotten what has ended.
    """

    faults: Mapping[str, Sequence[str]] = field(default_factory=dict)
    untold: int = 0
    pace: Pace = PACE
    # So late that what was given up is looked for in vain, and handed in again.
    slow_s: float = 4 * PACE.command_s
    patience_s: float = _PATIENCE_S


_PLANS = st.lists(
    st.one_of(
        st.builds(Plan, st.sampled_from([0, 1, 7, 119, 137, 255])),
        st.builds(Plan, st.none(), st.booleans()),
        st.just(Plan(is_killed=True)),
    ),
    min_size=3,
    max_size=5,
)
_WEATHER = st.builds(
    Weather,
    st.fixed_dictionaries(
        {
            "sbatch": st.lists(st.sampled_from(saboteur.SUBMISSIONS), min_size=2, max_size=6),
            "squeue": st.lists(st.sampled_from(saboteur.ANSWERS), max_size=5),
            "sacct": st.lists(st.sampled_from(saboteur.ANSWERS), max_size=5),
            "scancel": st.lists(st.sampled_from(saboteur.WISHES), max_size=3),
        }
    ),
    st.sampled_from(_UNTOLD),
)
_PROGRAMS = ("sbatch", "squeue", "sacct", "scancel")


class Walk:
    """A few jobs in a cluster, with faults before its programs."""

    def __init__(self, slurm: Slurm, plans: Sequence[Plan], weather: Weather) -> None:
        self.slurm = slurm
        self.root = slurm.directory / f"faults-{secrets.token_hex(4)}"
        self.front = self.root / "front"
        self.reports: list[Report] = []
        self._pace = weather.pace
        self._patience_s = weather.patience_s
        self._jobs = {f"job-{number}": plan for number, plan in enumerate(plans)}
        for name in ("control", "runs"):
            (self.root / name).mkdir(parents=True)
        saboteur.install(self.front, slurm.programs, _PROGRAMS, weather.slow_s)
        faults: dict[str, Sequence[str]] = dict.fromkeys(_PROGRAMS, ()) | dict(weather.faults)
        faults["sacct"] = [*faults["sacct"], *[saboteur.UNTOLD] * weather.untold]
        saboteur.plan(self.front, faults)
        if weather.untold:
            saboteur.enforce(self.front, {"squeue": saboteur.FORGETFUL})

    async def go(self) -> None:
        """Run all jobs to their ends, and judge what is told of them."""
        async with self.service() as executor, asyncio.TaskGroup() as group:
            for job_id in self._jobs:
                group.create_task(self._see_through(executor, job_id))
        await eventually(lambda: saboteur.is_quiet(self.front), self._patience_s)
        await eventually(self._is_empty, self._patience_s)
        ran = {job_id: self.ran(job_id) for job_id in self._jobs}
        assert {job_id: times for job_id, times in ran.items() if times > 1} == {}

    @asynccontextmanager
    async def service(self) -> AsyncIterator[BatchExecutor]:
        """One that sees the cluster through the faults."""
        environment = self.slurm.environment
        environment["PATH"] = f"{self.front}:{environment['PATH']}"
        transport = LocalTransport(environment)
        executor = BatchExecutor(
            "lab", Dialect(), transport, str(self.root), self.reports.append, pace=self._pace
        )
        await executor.start()
        try:
            yield executor
        finally:
            await executor.stop()

    def close(self) -> None:
        """Leave nothing in the cluster."""
        self.slurm.run(["scancel", "--me"])
        shutil.rmtree(self.root, ignore_errors=True)

    def launch(self, job_id: str, number: int = 1, last: str = _SLEEP) -> Launch:
        """An attempt that says in a file of its own that it ran."""
        return Launch(
            job_id,
            number,
            secrets.token_hex(16),
            ("sh", "-c", f"echo ran >> {self.root}/ran-{job_id}; {last}"),
            resources=Resources(memory_bytes=10 * 2**20),
            # Two are an array, and go together with the others.
            priority=int(job_id.removeprefix("job-")) // 2,
        )

    def finals(self, launch: Launch) -> list[Final]:
        """What was told of its end."""
        return [one for one in self.reports if one.token == launch.token and isinstance(one, Final)]

    async def end(self, launch: Launch) -> Final:
        """How it ended, once that is told."""
        await eventually(partial(self.finals, launch), self._patience_s)
        (final,) = self.finals(launch)
        return final

    def ran(self, job_id: str) -> int:
        """How often its command was run."""
        ledger = self.root / f"ran-{job_id}"
        return len(ledger.read_text().split()) if ledger.exists() else 0

    async def _see_through(self, executor: BatchExecutor, job_id: str) -> None:
        """As a dispatcher does: what is released is claimed again, as another attempt."""
        plan = self._jobs[job_id]
        for number in range(1, _MOST_TRIES + 1):
            launch = self.launch(job_id, number, plan.last_words)
            await executor.launch([launch])
            if plan.is_cancelled:
                if not plan.is_at_once:
                    await eventually(partial(self._has_begun, launch), self._patience_s)
                await executor.cancel(launch.token, 1.0)
            final = await self.end(launch)
            if plan.is_cancelled or final != NeverRan(launch.token, None):
                break
        self._judge(job_id, final)

    def _judge(self, job_id: str, final: Final) -> None:
        plan = self._jobs[job_id]
        if plan.is_cancelled and isinstance(final, NeverRan):
            assert final.error is None
            assert self.ran(job_id) == 0
            return
        if plan.is_killed:
            assert isinstance(final, Lost), final
        elif plan.is_cancelled:
            assert isinstance(final, Ended), final
            assert final.record.ended_by == "cancel", final
        else:
            assert isinstance(final, Ended), final
            assert (final.record.exit_code, final.record.ended_by) == (plan.code, "self"), final
        assert self.ran(job_id) == 1

    def _has_begun(self, launch: Launch) -> bool:
        return any(one.token == launch.token and isinstance(one, Started | Final) for one in self.reports)

    async def _is_empty(self) -> bool:
        """Whether all that was handed in has ended; the second of two runs is refused."""
        said = await asyncio.to_thread(self.slurm.say, "squeue", "-h", "--me", "-t", "PD,R,CG")
        return not said.strip()


async def _ask_more(executor: BatchExecutor) -> None:
    """Wait until the scheduler was asked several times more."""
    asked = executor.asked["look"]
    await eventually(lambda: executor.asked["look"] >= asked + 4, _PATIENCE_S)


@asynccontextmanager
async def _untold(slurm: Slurm, absent_s: float) -> AsyncIterator[tuple[Walk, BatchExecutor]]:
    """A cluster that forgets ends at once, and whose accounting is not told of them until it is released."""
    walk = Walk(slurm, [], Weather(pace=replace(PACE, absent_s=absent_s, command_s=30.0)))
    saboteur.enforce(walk.front, {"squeue": saboteur.FORGETFUL, "sacct": saboteur.UNTOLD})
    try:
        async with walk.service() as executor:
            yield walk, executor
    finally:
        walk.close()


async def test_accounting_may_be_late_for_as_long_as_an_absence_has_to_last(slurm: Slurm) -> None:
    async with _untold(slurm, absent_s=1000.0) as (walk, executor):
        launch = walk.launch("job-0", last=_KILL)
        await executor.launch([launch])
        await eventually(lambda: walk.ran("job-0"), _PATIENCE_S)
        await _ask_more(executor)
        early = walk.finals(launch)
        saboteur.release(walk.front, "sacct")
        final = await walk.end(launch)

        assert early == []
        assert isinstance(final, Lost)
        assert "is FAILED" in final.evidence


async def test_accounting_that_is_later_than_that_ends_nothing_that_lives_or_left_a_record(
    slurm: Slurm,
) -> None:
    async with _untold(slurm, absent_s=1.0) as (walk, executor):
        waits = f"while [ ! -e {walk.root}/go ]; do sleep 0.1; done"
        killed, ended, running = (
            walk.launch(f"job-{number}", last=last)
            for number, last in ((0, _KILL), (2, "exit 7"), (4, f"{waits}; exit 9"))
        )
        waiting = replace(
            walk.launch("job-6"), resources=Resources(partition="shut", memory_bytes=10 * 2**20)
        )
        await executor.launch([killed, ended, running, waiting])
        lost, recorded = await walk.end(killed), await walk.end(ended)
        await eventually(lambda: walk.ran("job-4"), _PATIENCE_S)
        await _ask_more(executor)
        alive = [walk.finals(launch) for launch in (running, waiting)]
        (walk.root / "go").touch()

        assert isinstance(lost, Lost)
        assert "does not know it any more" in lost.evidence
        assert isinstance(recorded, Ended)
        assert recorded.record.exit_code == 7
        assert alive == [[], []]
        last = await walk.end(running)
        assert isinstance(last, Ended)
        assert last.record.exit_code == 9
        await executor.cancel(waiting.token, 1.0)
        assert await walk.end(waiting) == NeverRan(waiting.token, None)


def _walk(slurm: Slurm, plans: Sequence[Plan], weather: Weather) -> None:
    walk = Walk(slurm, plans, weather)
    try:
        asyncio.run(walk.go())
    finally:
        walk.close()


_EACH = (Plan(0), Plan(7), Plan(137), Plan(is_killed=True), Plan())
_SLOW = {"sbatch": ["slow"] * 2, "scancel": ["slow"]}


@pytest.mark.timeout(120)
def test_what_answers_later_than_it_may_is_done_once(slurm: Slurm) -> None:
    _walk(slurm, _EACH, Weather(_SLOW))


@pytest.mark.timeout(120)
def test_what_is_answered_twice_is_done_once(slurm: Slurm) -> None:
    always = ["doubled"] * 100
    _walk(slurm, _EACH, Weather({"sbatch": always, "squeue": always, "sacct": always}))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_answers_after_thirty_seconds_is_done_once(slurm: Slurm) -> None:
    pace = replace(PACE, command_s=20.0, again_max_s=2.0, in_doubt_s=5.0)
    _walk(slurm, _EACH, Weather(_SLOW, pace=pace, slow_s=30.0, patience_s=600.0))


def _campaign(slurm: Slurm, examples: int, *, derandomize: bool) -> None:
    # Without shrinking: an example takes seconds, and what it did is printed.
    options = settings(
        max_examples=examples,
        derandomize=derandomize,
        database=None,
        deadline=None,
        phases=[Phase.generate],
    )
    options(given(_PLANS, _WEATHER)(lambda plans, weather: _walk(slurm, plans, weather)))()


@pytest.mark.timeout(300)
def test_each_command_runs_once_and_is_told_as_what_it_did(slurm: Slurm) -> None:
    _campaign(slurm, _EXAMPLES, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_each_command_runs_once_in_a_long_campaign(slurm: Slurm) -> None:
    _campaign(slurm, _LONG_EXAMPLES, derandomize=False)

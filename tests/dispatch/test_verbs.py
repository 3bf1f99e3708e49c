"""Every verb on an attempt in a foreign queue, wherever it is there: what its job says, and how often it ran."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobmgr.domain.job import Job
from jobmgr.domain.status import Status
from jobmgr.errors import IllegalTransition
from jobmgr.manager.manager import Manager
from tests.dispatch.yard import Yard, opened
from tests.patience import eventually

pytestmark = pytest.mark.timeout(120)


async def dead_then_cancelled(manager: Manager, job_id: str) -> Job:
    """The wait of the second attempt is not another one."""
    await manager.retry(job_id, assume_dead=True)
    return await manager.cancel(job_id)


async def cancelled_then_dead(manager: Manager, job_id: str) -> Job:
    """Whoever retries it does not want it cancelled."""
    await manager.cancel(job_id)
    return await manager.retry(job_id, assume_dead=True)


VERBS: Mapping[str, Callable[[Manager, str], Awaitable[Job]]] = {
    "cancel": lambda manager, job_id: manager.cancel(job_id),
    "hold": lambda manager, job_id: manager.hold(job_id),
    "release": lambda manager, job_id: manager.release(job_id),
    "pause": lambda manager, job_id: manager.pause(job_id),
    "resume": lambda manager, job_id: manager.resume(job_id),
    "priority": lambda manager, job_id: manager.set_priority(job_id, 50),
    "retry": lambda manager, job_id: manager.retry(job_id),
    "dead": lambda manager, job_id: manager.retry(job_id, assume_dead=True),
    "dead, cancel": dead_then_cancelled,
    "cancel, dead": cancelled_then_dead,
}


@dataclass(frozen=True, slots=True)
class Pair:
    """What comes of a verb in a state: what the job says then, with which reasons; what it is when all is well again;
    which attempts run, and which one does or does not. A verb that is refused changes nothing.
    """

    status: str
    why: frozenset[str]
    later: str
    ran: tuple[int, ...] = (1,)
    may_run: int | None = None
    is_refused: bool = False

    def sure(self, ran: list[int]) -> tuple[int, ...]:
        """Of the attempts that ran, those beside the one that may have."""
        others = list(ran)
        if self.may_run in others:
            others.remove(self.may_run)
        return tuple(others)


def says(
    status: str, *why: str, later: str = "running", ran: tuple[int, ...] = (1,), may_run: int | None = None
) -> Pair:
    return Pair(status, frozenset(why or (status,)), later, ran, may_run)


def refused(status: str, *why: str, later: str = "running") -> Pair:
    return Pair(status, frozenset(why or (status,)), later, is_refused=True)


NEVER: tuple[int, ...] = ()
TWICE = (1, 2)


@dataclass(frozen=True, slots=True)
class State:
    """Where attempts are: how they come there, in which of the scheduler's queues, and what comes of each verb."""

    reach: Callable[[Yard, list[str]], Awaitable[None]]
    pairs: Mapping[str, Pair]
    queue: str = "workq"
    prepare: Callable[[Yard], None] = field(default=lambda _yard: None)


async def waits_to_be_sent(yard: Yard, job_ids: list[str]) -> None:
    for job_id in job_ids:
        await eventually(partial(explains, yard, job_id, "cannot be handed in now"))


async def is_in_doubt(yard: Yard, job_ids: list[str]) -> None:
    await eventually(lambda: len(yard.handles) == len(job_ids))
    for job_id in job_ids:
        await eventually(partial(explains, yard, job_id, "to be handed in"))


async def is_queued(yard: Yard, job_ids: list[str]) -> None:
    await are(yard, job_ids, Status.SCHEDULED)


async def runs(yard: Yard, job_ids: list[str]) -> None:
    await are(yard, job_ids, Status.RUNNING)


async def is_suspended(yard: Yard, job_ids: list[str]) -> None:
    await runs(yard, job_ids)
    await yard.say("qsig", "-s", "suspend", *yard.handles)
    await are(yard, job_ids, Status.PAUSED)


async def is_queued_out_of_reach(yard: Yard, job_ids: list[str]) -> None:
    await is_queued(yard, job_ids)
    await is_out_of_reach(yard, job_ids)


async def runs_out_of_reach(yard: Yard, job_ids: list[str]) -> None:
    await runs(yard, job_ids)
    await is_out_of_reach(yard, job_ids)


async def is_out_of_reach(yard: Yard, job_ids: list[str]) -> None:
    yard.way.is_open = False
    for job_id in job_ids:
        await eventually(partial(explains, yard, job_id, "cannot be reached since"))


async def are(yard: Yard, job_ids: list[str], status: Status) -> None:
    for job_id in job_ids:
        await eventually(partial(yard.is_now, job_id, status))


async def explains(yard: Yard, job_id: str, words: str) -> bool:
    return any(words in reason.message for reason in await yard.manager.why(job_id))


def close(yard: Yard) -> None:
    yard.way.is_open = False


STATES: Mapping[str, State] = {
    "waiting to be sent": State(
        waits_to_be_sent,
        {
            "cancel": says("cancelled", later="cancelled", ran=NEVER),
            "hold": says("pending", "held", later="pending", ran=NEVER),
            "release": says("claimed"),
            "pause": says("claimed", "claimed", "pausing", later="paused"),
            "resume": says("claimed"),
            "priority": says("claimed", "claimed", "not_told"),
            "retry": refused("claimed"),
            "dead": refused("claimed"),
        },
        prepare=close,
    ),
    "in doubt": State(
        is_in_doubt,
        {
            "cancel": says("cancelled", later="cancelled", ran=NEVER),
            "hold": says("claimed", "claimed", "not_told", later="scheduled", ran=NEVER),
            "release": says("claimed"),
            "pause": says("claimed", "claimed", "pausing", later="paused"),
            "resume": says("claimed"),
            "priority": says("claimed", "claimed", "not_told"),
            "retry": refused("claimed"),
            "dead": refused("claimed"),
        },
        queue="stopq",
        prepare=Yard.loses_answers,
    ),
    "queued there": State(
        is_queued,
        {
            "cancel": says("cancelled", later="cancelled", ran=NEVER),
            "hold": says("scheduled", "held", later="scheduled", ran=NEVER),
            "release": says("scheduled"),
            "pause": says("scheduled", "scheduled", "pausing", later="paused"),
            "resume": says("scheduled"),
            "priority": says("scheduled"),
            "retry": refused("scheduled"),
            "dead": refused("scheduled"),
        },
        queue="stopq",
    ),
    "running there": State(
        runs,
        {
            "cancel": says("cancelled", later="cancelled"),
            "hold": refused("running"),
            "release": says("running"),
            "pause": says("paused", later="paused"),
            "resume": says("running"),
            "priority": says("running"),
            "retry": refused("running"),
            "dead": refused("running"),
        },
    ),
    "suspended there": State(
        is_suspended,
        {
            "cancel": says("cancelled", later="cancelled"),
            "hold": refused("paused", later="paused"),
            "release": says("paused", later="paused"),
            "pause": says("paused", later="paused"),
            "resume": says("running"),
            "priority": says("paused", later="paused"),
            "retry": refused("paused", later="paused"),
            "dead": refused("paused", later="paused"),
        },
    ),
    "queued there, out of reach": State(
        is_queued_out_of_reach,
        {
            "cancel": says("scheduled", "unreachable", "cancelling", later="cancelled", ran=NEVER),
            "hold": says("scheduled", "unreachable", "not_taken", later="scheduled", ran=NEVER),
            "release": says("scheduled", "unreachable"),
            "pause": says("scheduled", "unreachable", "pausing", later="paused"),
            "resume": says("scheduled", "unreachable"),
            "priority": says("scheduled", "unreachable", "not_taken"),
            "retry": refused("scheduled", "unreachable"),
            # What is taken for dead may run all the same, each attempt once.
            "dead": says("claimed", ran=TWICE),
            "dead, cancel": says("cancelled", later="cancelled"),
            # Whether the cancel is on its way to the scheduler when the attempt is given up, nobody knows.
            "cancel, dead": says("claimed", ran=(2,), may_run=1),
        },
        queue="stopq",
    ),
    "running there, out of reach": State(
        runs_out_of_reach,
        {
            "cancel": says("running", "unreachable", "cancelling", later="cancelled"),
            "hold": refused("running", "unreachable"),
            "release": says("running", "unreachable"),
            "pause": says("running", "unreachable", "not_taken", later="paused"),
            "resume": says("running", "unreachable"),
            "priority": says("running", "unreachable"),
            "retry": refused("running", "unreachable"),
            "dead": says("claimed", ran=TWICE),
            "dead, cancel": says("cancelled", later="cancelled"),
            "cancel, dead": says("claimed", ran=TWICE),
        },
    ),
}


@pytest.mark.parametrize("name", list(STATES))
async def test_verb_does_what_it_says(name: str, sqlite_url: str, tmp_path: Path) -> None:
    state = STATES[name]
    async with opened(tmp_path, sqlite_url) as yard:
        state.prepare(yard)
        jobs = {verb: await yard.submit(number, state.queue) for number, verb in enumerate(state.pairs)}
        await state.reach(yard, list(jobs.values()))

        for verb, job_id in jobs.items():
            if state.pairs[verb].is_refused:
                with pytest.raises(IllegalTransition):
                    await VERBS[verb](yard.manager, job_id)
            else:
                await VERBS[verb](yard.manager, job_id)
        said = await settled(
            yard, jobs, {verb: (pair.status, pair.why) for verb, pair in state.pairs.items()}
        )
        yard.is_sound()
        for verb, job_id in jobs.items():
            # Before anything is let go there.
            if state.pairs[verb].later == Status.SCHEDULED:
                await eventually(partial(explains, yard, job_id, "is held at lab as"))
        letting_go = asyncio.create_task(let_go(yard))
        later = await settled(yard, jobs, {verb: (pair.later, None) for verb, pair in state.pairs.items()})
        letting_go.cancel()
        yard.go()
        ends = await ended(yard, jobs, state)

    assert said == {verb: (pair.status, pair.why) for verb, pair in state.pairs.items()}
    assert later == {verb: (pair.later, None) for verb, pair in state.pairs.items()}
    assert ends == {verb: (_END[pair.later], pair.ran) for verb, pair in state.pairs.items()}


_END = {"running": "failed"} | dict.fromkeys(("cancelled", "pending", "scheduled", "paused"), "cancelled")

Said = dict[str, tuple[str, Any]]


async def settled(yard: Yard, jobs: Mapping[str, str], expected: Said) -> Said:
    """What the jobs say once that is what is expected, or does not become so."""
    found: Said = {}

    async def is_so() -> bool:
        for verb, job_id in jobs.items():
            job = await yard.manager.get(job_id)
            why = frozenset(await yard.why(job_id)) if expected[verb][1] is not None else None
            found[verb] = (job.status.value, why)
        return found == expected

    with contextlib.suppress(AssertionError):
        await eventually(is_so, timeout_s=20)
    return found


async def let_go(yard: Yard) -> None:
    """Whatever waits in a queue that starts nothing is moved to one that does."""
    moved: set[str] = set()
    while True:
        if new := [handle for handle in yard.handles if handle not in moved]:
            await yard.say("qmove", "workq", *new)
            moved.update(new)
        await asyncio.sleep(0.1)


def has_run(yard: Yard, job_id: str, pair: Pair) -> bool:
    return len(pair.sure(yard.ran(job_id))) >= len(pair.ran)


async def ended(yard: Yard, jobs: Mapping[str, str], state: State) -> dict[str, tuple[str, tuple[int, ...]]]:
    """How the jobs end: those that run by themselves, the others because they are cancelled."""
    for verb, job_id in jobs.items():
        if state.pairs[verb].later != "running":
            await yard.manager.cancel(job_id)
    ends = {verb: await yard.manager.wait(job_id, 30) for verb, job_id in jobs.items()}
    # What a user took for dead is nobody's any more, and may still run.
    for verb, job_id in jobs.items():
        await eventually(partial(has_run, yard, job_id, state.pairs[verb]))
    return {
        verb: (job.status.value, state.pairs[verb].sure(yard.ran(job.job_id))) for verb, job in ends.items()
    }

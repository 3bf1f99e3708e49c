"""A scheduler that took the wish to end a job has its time for that: what it does first is not begun anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest_asyncio

from jobmgr.dialects.slurm import Slurm
from jobmgr.executors.breaker import Breaker
from jobmgr.executors.ender import Ender
from jobmgr.executors.pace import Pace
from jobmgr.executors.scheduler import Scheduler
from jobmgr.transports.local import LocalTransport
from tests.dialects.shell import install

PACE = Pace(gather_s=0.0, end_again_s=60.0, again_first_s=0.0, again_max_s=0.0)
_HOUR_S = 3600.0


@dataclass
class Lab:
    """An ender whose clock a test moves, and a scancel that can be told what to say."""

    folder: Path
    now: float = 1000.0
    work: list[Awaitable[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.says("exit 0")
        install(self.folder, "scontrol", "echo 'MaxArraySize            = 1001'")
        self.transport = LocalTransport({"PATH": f"{self.folder}:/usr/bin:/bin"})
        breaker = Breaker("lab", PACE, self.monotonic)
        scheduler = Scheduler(Slurm(), self.transport, PACE)
        self.ender = Ender(scheduler, PACE, breaker, self.work.append, self.monotonic)

    def monotonic(self) -> float:
        """The time that a test wants it to be."""
        return self.now

    def says(self, script: str) -> None:
        """Let scancel do this; whom it was to end is noted."""
        install(self.folder, "scancel", f"echo $* >>{self.folder}/asked; {script}")

    async def ended(self) -> Sequence[str]:
        """Whom scancel was asked to end since this was asked last."""
        # What is gathered within no time is handed on in the loop's next round.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        while self.work:
            await self.work.pop()
        asked = self.folder / "asked"
        found = asked.read_text().split() if asked.exists() else []
        asked.unlink(missing_ok=True)
        return [word for word in found if word.isdigit()]

    async def wishes(self, *ids: str) -> Sequence[str]:
        """Whom it was asked to end because of this wish."""
        self.ender.end(ids)
        return await self.ended()


@pytest_asyncio.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    found = Lab(tmp_path)
    yield found
    await found.transport.close()


async def test_wish_that_was_taken_has_its_time_doubled_with_each(lab: Lab) -> None:
    assert await lab.wishes("7") == ["7"]
    told = []
    for _ in range(1000):
        lab.now += 10.0
        if await lab.wishes("7"):
            told.append(lab.now)

    assert [at - 1000.0 for at in told][:3] == [60.0, 180.0, 420.0]
    assert max(later - sooner for sooner, later in pairwise(told)) == _HOUR_S


async def test_each_job_has_its_own_time(lab: Lab) -> None:
    await lab.wishes("7")
    lab.now += 30.0

    assert await lab.wishes("7", "8") == ["8"]
    lab.now += 40.0
    assert await lab.wishes("7", "8") == ["7"]


async def test_who_ended_and_whose_id_comes_again_is_told_as_the_first_time(lab: Lab) -> None:
    await lab.wishes("7")
    lab.now += 3 * PACE.end_again_s
    await lab.wishes("8")

    assert await lab.wishes("7") == ["7"]
    lab.now += PACE.end_again_s
    assert await lab.wishes("7") == ["7"]


async def test_wish_that_may_not_have_been_heard_is_told_again(lab: Lab) -> None:
    lab.says("echo 'scancel: error: Unable to contact slurm controller (connect failure)' >&2; exit 1")
    assert await lab.wishes("7") == ["7"]
    lab.says("exit 0")

    assert await lab.wishes("7") == ["7"]
    assert await lab.wishes("7") == []


async def test_wish_that_was_refused_is_told_again(lab: Lab) -> None:
    lab.says("echo 'scancel: error: Kill job error on job id 7: Access/permission denied' >&2; exit 1")

    assert await lab.wishes("7") == ["7"]
    assert await lab.wishes("7") == ["7"]


async def test_what_waits_is_taken_out_as_often_as_it_is_seen(lab: Lab) -> None:
    await lab.wishes("7")

    lab.ender.take_out(["7"])

    assert await lab.ended() == ["7"]

"""What never came to a site is nobody's there: its end needs no word from the site."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from jobmgr.dialects import holder
from jobmgr.dialects.dialect import Answer, Command
from jobmgr.dialects.slurm import Slurm
from jobmgr.domain.wish import Hold
from jobmgr.errors import SiteUnreachable
from jobmgr.executors.batch import BatchExecutor
from jobmgr.executors.breaker import AT_ONCE
from jobmgr.executors.live import Live, Sending, Trace
from jobmgr.executors.pace import Pace
from jobmgr.executors.protocol import Final, Launch, NeverRan, Scheduled, Unreachable
from jobmgr.transports.local import LocalTransport
from tests.dialects.shell import install
from tests.executors.test_array import KINDS, QUICK, SHELLS, Site, launches
from tests.executors.test_breaker import SLOW, singles
from tests.patience import eventually

ARRAYS = "echo 'MaxArraySize            = 1001'"


class Road(LocalTransport):
    """A way that is open for some commands only."""

    def __init__(self, site: Site) -> None:
        super().__init__({**os.environ, "PATH": f"{site.programs}:/usr/bin:/bin"})
        self.is_open = True
        self.closed_for = self.breaks_for = ""
        self.refused = self.broken = 0
        self.ran: Counter[str] = Counter()

    async def run(self, command: Command, timeout_s: float) -> Answer:
        """As any transport does."""
        if not self.is_open or (self.closed_for and self.closed_for in command.argv):
            self.refused += 1
            raise SiteUnreachable("the login node", "no route to it")
        if self.breaks_for and self.breaks_for in command.argv:
            self.broken += 1
            raise RuntimeError("no such road")
        self.ran.update(command.argv)
        return await super().run(command, timeout_s)


@asynccontextmanager
async def lab(folder: Path, pace: Pace = QUICK) -> AsyncIterator[tuple[Site, Road, BatchExecutor]]:
    site = Site(folder, SHELLS[0], KINDS["slurm"])
    install(site.programs, "scontrol", ARRAYS)
    road = Road(site)
    executor = BatchExecutor("lab", Slurm(), road, str(site.root), site.reports_to, pace=pace)
    await executor.start()
    try:
        yield site, road, executor
    finally:
        await executor.stop()


def one() -> Launch:
    (launch,) = launches("true")
    return launch


def stored(site: Site, wanted: Sequence[Launch]) -> list[Launch]:
    """Who came to the site, whether he was handed in or not."""
    return [one for one in wanted if (site.root / "control" / one.place / "script").exists()]


@pytest.mark.parametrize("closed_for", ["", "submit"])
async def test_cancel_of_what_never_left_needs_no_site(tmp_path: Path, closed_for: str) -> None:
    async with lab(tmp_path) as (site, road, executor):
        road.is_open, road.closed_for = bool(closed_for), closed_for
        launch = one()
        await executor.launch([launch])
        await eventually(lambda: road.refused)
        road.is_open = False

        await executor.cancel(launch.token, 1.0)

        assert await site.said(launch, NeverRan) == NeverRan(launch.token, None)
        assert not any(isinstance(report, Unreachable) for report in site.reports[launch.token])
        road.is_open, road.closed_for = True, ""
        later = replace(one(), job_id="later", token="f" * 32)
        await executor.launch([later])
        await site.said(later, Scheduled)
        assert site.asked == 1
        assert not (site.root / "control" / launch.place).exists()


async def test_cancel_while_the_work_directory_is_not_there_needs_no_site(tmp_path: Path) -> None:
    async with lab(tmp_path) as (site, _, executor):
        (site.root / "control").rmdir()
        launch = one()
        await executor.launch([launch])
        await eventually(lambda: "is not there" in executor.reason(launch.token))

        await executor.cancel(launch.token, 1.0)

        assert await site.said(launch, NeverRan) == NeverRan(launch.token, None)


async def test_what_is_cancelled_while_the_installation_is_asked_is_not_handed_in(tmp_path: Path) -> None:
    async with lab(tmp_path) as (site, road, executor):
        version = "[ $1 = --version ] && echo 'slurm-wlm 22.05.8' && exit"
        install(site.programs, "sbatch", f"{version}; echo >>'{site.root}/asked'; echo 12")
        fifo = site.root / "may-answer"
        os.mkfifo(fifo)
        launch = one()
        road.closed_for = "submit"
        await executor.launch([launch])
        await eventually(lambda: road.refused)
        install(site.programs, "scontrol", f"read -r _ <{fifo}; {ARRAYS}")
        trying = asyncio.create_task(executor.trial())
        await eventually(lambda: executor.asked["fit"] == 2)
        await asyncio.sleep(4 * QUICK.again_max_s)  # until the next try waits for that answer, too

        await executor.cancel(launch.token, 1.0)
        await site.said(launch, NeverRan)
        road.closed_for = ""
        await asyncio.to_thread(fifo.write_text, "go\n")
        await trying
        later = replace(one(), job_id="later", token="f" * 32)
        await executor.launch([later])
        await site.said(later, Scheduled)

        assert site.asked == 1
        assert not (site.root / "control" / launch.place).exists()


async def test_elements_that_nobody_wants_any_more_are_sent_as_refused(tmp_path: Path) -> None:
    async with lab(tmp_path) as (site, road, executor):
        wanted = launches("exit 3", "exit 4", "exit 5")
        road.closed_for = "submit"
        await executor.launch(wanted)
        await eventually(lambda: road.refused)
        install(site.programs, "scancel", f"echo $* >>{tmp_path}/cancelled")
        await executor.cancel(wanted[1].token, 1.0)
        await executor.tell(wanted[2].token, Hold(is_held=True, v=2))
        for launch in wanted[1:]:
            assert await site.said(launch, NeverRan) == NeverRan(launch.token, None)

        road.closed_for = ""
        await site.said(wanted[0], Scheduled)

        assert [site.run(index) for index in range(3)] == [3, holder.REFUSED, holder.REFUSED]
        assert not (site.root / "control" / wanted[1].place).exists()
        await eventually((tmp_path / "cancelled").exists)
        assert (tmp_path / "cancelled").read_text() == "12_1\n"


async def test_what_was_stored_is_voided_at_the_site(tmp_path: Path) -> None:
    """The scheduler did not take the array, and its script lies there: an element that is cancelled then runs never."""
    async with lab(tmp_path) as (site, _, executor):
        words, code = site.kind.away
        site.answers(f'echo "{words}" >&2; exit {code}')
        wanted = launches("exit 3", "exit 4")
        await executor.launch(wanted)
        await eventually(lambda: site.asked)
        before = executor.asked["find"]

        await executor.cancel(wanted[1].token, 1.0)
        await site.said(wanted[1], NeverRan)
        site.answers(f"echo '{site.kind.answer}'")
        await site.said(wanted[0], Scheduled)

        assert [site.run(index) for index in range(2)] == [3, holder.REFUSED]
        assert (site.root / "control" / wanted[1].place / "gate").exists()
        assert executor.asked["find"] == before


async def test_element_that_was_stored_waits_for_the_way_to_void_it(tmp_path: Path) -> None:
    """Its array goes out again with what lies there: told as never run before, it would start all the same."""
    async with lab(tmp_path) as (site, road, executor):
        words, code = site.kind.away
        site.answers(f'echo "{words}" >&2; exit {code}')
        wanted = launches("exit 3", "exit 4")
        await executor.launch(wanted)
        await eventually(lambda: site.asked)
        road.closed_for = "void"
        await executor.cancel(wanted[1].token, 1.0)
        await eventually(lambda: road.refused)
        site.answers(f"echo '{site.kind.answer}'")
        await site.said(wanted[0], Scheduled)
        assert not any(isinstance(one, Final) for one in site.reports.get(wanted[1].token, []))

        road.closed_for = ""
        await site.said(wanted[1], NeverRan)

        assert [site.run(index) for index in range(2)] == [3, holder.REFUSED]


async def test_those_that_went_together_to_a_site_that_is_not_there_left_nothing(tmp_path: Path) -> None:
    async with lab(tmp_path, SLOW) as (site, road, executor):
        (site.root / "control").rmdir()
        wanted = singles(8)
        await executor.launch(wanted)
        await eventually(lambda: all("is not there" in executor.reason(one.token) for one in wanted))
        road.is_open = False

        for launch in wanted:
            await executor.cancel(launch.token, 1.0)

        for launch in wanted:
            assert await site.said(launch, NeverRan) == NeverRan(launch.token, None)


async def test_who_waits_at_the_site_for_another_one_is_voided_there(tmp_path: Path) -> None:
    """Those of one command are handed in one after the other; who is cancelled meanwhile has left already."""
    async with lab(tmp_path) as (site, _, executor):
        may_go = tmp_path / "may-go"
        site.answers(f"while [ ! -e '{may_go}' ]; do sleep 0.05; done; echo 12")
        wanted = singles(8)
        await executor.launch(wanted)
        # One of each command, with all commands that go at once.
        await eventually(lambda: site.asked == AT_ONCE)
        left = stored(site, wanted)

        for launch in wanted:
            await executor.cancel(launch.token, 1.0)
        for launch in wanted:
            assert await site.said(launch, NeverRan) == NeverRan(launch.token, None)

        assert AT_ONCE < len(left) < len(wanted)
        assert stored(site, wanted) == left
        assert all((site.root / "control" / one.place / "gate").exists() for one in left)
        may_go.touch()


async def test_what_was_refused_for_certain_is_not_looked_for(tmp_path: Path) -> None:
    async with lab(tmp_path) as (site, _, executor):
        site.answers(
            "echo 'sbatch: error: Batch job submission failed: Invalid qos specification' >&2; exit 1"
        )
        wanted = [replace(launch, priority=number) for number, launch in enumerate(launches(*["true"] * 5))]
        await executor.launch(wanted)
        for launch in wanted:
            await site.said(launch, NeverRan)
        await asyncio.sleep(4 * QUICK.gather_s)  # for whoever would look

        assert executor.asked["find"] == 0


async def test_what_is_stopped_before_it_began_leaves_nothing_behind(tmp_path: Path) -> None:
    """A coroutine that nobody ever awaits is a warning, and so an error here."""
    async with lab(tmp_path) as (_, _, executor):
        await executor.recover([one()])


async def test_trouble_of_one_attempt_is_logged_and_ends_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with lab(tmp_path) as (site, road, executor):
        road.breaks_for = "look"
        known = replace(one(), job_id="known", token="f" * 32)
        await executor.recover([known])
        await eventually(lambda: "could not be attended to" in caplog.text)
        launch = one()
        await executor.launch([launch])
        await site.said(launch, Scheduled)

        assert "no such road" in caplog.text
        road.breaks_for = ""
        await site.said(known, Scheduled)


@pytest.mark.parametrize("breaks_for", ["submit", "scontrol"])
async def test_attempt_is_tried_again_after_an_error_that_nobody_foresaw(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, breaks_for: str
) -> None:
    async with lab(tmp_path) as (site, road, executor):
        road.breaks_for = breaks_for
        launch = one()
        await executor.launch([launch])
        await eventually(lambda: "no such road" in executor.reason(launch.token))
        road.broken = 0
        await eventually(lambda: road.broken > 2)
        assert caplog.text.count("Traceback") == 1

        road.breaks_for = ""

        await site.said(launch, Scheduled)
        assert site.asked == 1


async def test_who_is_looked_up_is_so_again_after_an_error_that_nobody_foresaw(tmp_path: Path) -> None:
    async with lab(tmp_path, replace(QUICK, in_doubt_s=0.3)) as (site, road, executor):
        for program in ("squeue", "sacct"):
            install(site.programs, program, "")
        site.answers("kill -9 $PPID")
        launch = one()
        await executor.launch([launch])
        await eventually(lambda: site.asked)
        road.breaks_for = "look"
        await eventually(lambda: "no such road" in executor.reason(launch.token))
        site.answers("echo 12")

        road.breaks_for = ""

        await site.said(launch, Scheduled)


async def test_cancelled_attempt_ends_after_an_error_that_nobody_foresaw(tmp_path: Path) -> None:
    async with lab(tmp_path) as (site, road, executor):
        road.breaks_for = "void"
        launch = one()
        await executor.recover([launch])
        await executor.cancel(launch.token, 1.0)
        assert "no such road" in str(await site.said(launch, Unreachable))

        road.breaks_for = ""

        assert await site.said(launch, NeverRan) == NeverRan(launch.token, None)


def test_a_try_in_vain_proves_nothing_of_an_earlier_one() -> None:
    live = Live(one(), "jm-1", trace=Trace.NOTHING)
    Sending([live]).left_at_most(Trace.NOTHING)
    traces = [live.trace]
    Sending([live]).left_at_most(Trace.FILES)
    traces.append(live.trace)
    Sending([live]).left_at_most(Trace.NOTHING)
    traces.append(live.trace)
    Sending([live])
    Sending([live]).left_at_most(Trace.NOTHING)
    traces.append(live.trace)

    assert traces == [Trace.NOTHING, Trace.FILES, Trace.FILES, Trace.JOB]

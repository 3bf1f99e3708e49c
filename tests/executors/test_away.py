"""A work directory that is away or full: nobody waits longer than that, and its scheduler is asked all the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobmgr.executors.protocol import NeverRan, Scheduled, Started, Unreachable
from tests.dialects.shell import install
from tests.disk import SmallDisk, mounted
from tests.executors.test_array import QUICK, Site
from tests.executors.test_breaker import PATIENCE, SLOW, singles
from tests.executors.test_breaker import lab as queue
from tests.executors.test_sending import lab, one
from tests.patience import eventually

# What is missed is looked for often, whoever else waits for how long.
WATCHFUL = replace(SLOW, away_max_s=0.1)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small one for the work directory of the site."""
    with mounted(tmp_path / "small", size_mb=4) as disk:
        yield disk


def unmount(site: Site) -> None:
    (site.root / "control").rename(site.root / "elsewhere")


def mount(site: Site) -> None:
    (site.root / "elsewhere").rename(site.root / "control")


async def test_what_could_not_be_stored_goes_on_as_soon_as_the_work_directory_is_back(tmp_path: Path) -> None:
    async with queue(tmp_path, WATCHFUL) as (site, executor):
        unmount(site)
        wanted = singles(2 * PATIENCE)
        await executor.launch(wanted)
        await eventually(lambda: "does not answer" in executor.reason(wanted[0].token))
        mount(site)
        for launch in wanted:
            await site.said(launch, Scheduled)

        assert site.asked == len(wanted)


async def test_cancel_goes_on_as_soon_as_the_work_directory_is_back(tmp_path: Path) -> None:
    async with queue(tmp_path, replace(WATCHFUL, files_s=1000.0)) as (site, executor):
        (launch,) = singles(1)
        await executor.launch([launch])
        await site.said(launch, Scheduled)
        unmount(site)
        await executor.cancel(launch.token, 1.0)
        await site.said(launch, Unreachable)
        mount(site)

        assert await site.said(launch, NeverRan) == NeverRan(launch.token, None)


async def test_site_that_was_away_for_very_long_is_watched_again(tmp_path: Path) -> None:
    async with lab(tmp_path, replace(QUICK, files_s=0.0, away_max_s=0.0, rest=0.0)) as (site, road, executor):
        launch = one()
        await executor.launch([launch])
        await site.said(launch, Scheduled)
        road.is_open = False
        # Twice as often as doubling a pause can be written as a number.
        await eventually(lambda: road.refused > 4 * 1024)
        road.is_open = True
        site.run(0, site.root / "control" / launch.place / "script")

        await site.said(launch, Started)


async def test_scheduler_is_asked_to_end_what_cannot_be_voided_because_the_disk_is_full(
    disk: SmallDisk,
) -> None:
    async with lab(disk.path / "site") as (site, _, executor):
        for program in ("squeue", "sacct"):
            install(site.programs, program, "")
        ended = disk.path.parent / "ended"
        install(site.programs, "scancel", f"echo \"$@\" >>'{ended}'")
        launch = one()
        await executor.launch([launch])
        await site.said(launch, Scheduled)
        disk.fill()

        await executor.cancel(launch.token, 1.0)

        await eventually(ended.exists)
        assert ended.read_text().split()[0] == "12"
        assert not [report for report in site.reports[launch.token] if isinstance(report, NeverRan)]
        disk.free()
        assert await site.said(launch, NeverRan) == NeverRan(launch.token, None)


async def test_what_cannot_be_voided_leaves_nothing_behind_and_is_told_why(
    disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    async with lab(disk.path / "site") as (site, road, executor):
        for program in ("squeue", "sacct", "scancel"):
            install(site.programs, program, "")
        launch = one()
        await executor.launch([launch])
        await site.said(launch, Scheduled)
        control = site.root / "control" / launch.place
        before = sorted(path.name for path in control.iterdir())
        disk.fill()

        await executor.cancel(launch.token, 1.0)

        why = "its gate cannot be written at the site: No space left on device"
        await eventually(lambda: executor.reason(launch.token) == why)
        await eventually(lambda: road.ran["void"] > 3)
        # A try may be under way.
        await eventually(lambda: sorted(path.name for path in control.iterdir()) == before)
        assert caplog.text.count(why) == 1
        disk.free()
        await site.said(launch, NeverRan)


async def test_what_was_refused_needs_no_room_on_a_full_disk_to_be_over(disk: SmallDisk) -> None:
    async with lab(disk.path / "site") as (site, _, executor):
        words, code = site.kind.full
        site.answers(f'echo "{words}" >&2; exit {code}')
        launch = one()
        await executor.launch([launch])
        await eventually(lambda: executor.reason(launch.token))
        disk.fill()

        await executor.cancel(launch.token, 1.0)

        assert await site.said(launch, NeverRan) == NeverRan(launch.token, None)
        assert not (site.root / "control" / launch.place / "gate").exists()

"""What may wait in a queue for attempts that are over is taken back, of all with few questions."""

from __future__ import annotations

from pathlib import Path

from jobmgr.executors.protocol import NeverRan
from tests.dialects.shell import install
from tests.executors.test_array import QUICK
from tests.executors.test_breaker import lab, singles
from tests.patience import eventually


async def test_cancelled_attempts_of_an_earlier_service_are_looked_up_together(tmp_path: Path) -> None:
    async with lab(tmp_path, QUICK) as (site, executor):
        for program in ("squeue", "sacct"):
            install(site.programs, program, f"echo \"$@\" >>'{site.root}/{program}-asked'")
        wanted = singles(20)
        await executor.recover(wanted)
        for launch in wanted:
            await executor.cancel(launch.token, 1.0)
        for launch in wanted:
            assert await site.said(launch, NeverRan) == NeverRan(launch.token, None)
        accounting = site.root / "sacct-asked"
        await eventually(accounting.exists)

        assert executor.asked["find"] == 1
        # What separates fields and records in its answers is among its arguments.
        (asked, _) = (site.root / "squeue-asked").read_text().split("\n")
        assert all(f"jm-{launch.token}" in asked for launch in wanted)
        assert accounting.read_text().count("\n") == 1


async def test_each_of_several_that_were_handed_in_is_taken_back(tmp_path: Path) -> None:
    """Nobody knows their ids, and their scheduler has them."""
    async with lab(tmp_path, QUICK) as (site, executor):
        wanted = singles(3)
        queue = "".join(
            rf"{12 + number}\037PENDING\0370\0370\037N/A\037N/A\037\037Priority\037jm-{launch.token}\036"
            for number, launch in enumerate(wanted)
        )
        install(site.programs, "squeue", f"[ -e '{site.root}/ended' ] || printf '{queue}'")
        install(site.programs, "sacct", "")
        install(site.programs, "scancel", f"echo \"$@\" >>'{site.root}/ended'")
        await executor.recover(wanted)
        for launch in wanted:
            await executor.cancel(launch.token, 1.0)
        for launch in wanted:
            await site.said(launch, NeverRan)
        ended = site.root / "ended"
        await eventually(ended.exists)

        assert sorted(ended.read_text().split()) == ["12", "13", "14"]

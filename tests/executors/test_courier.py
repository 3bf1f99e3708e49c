"""Parcels that wait at the same time go to the site together, and are answered one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobmgr.executors.protocol import NeverRan, Scheduled
from jobmgr.failure import Failure
from tests.dialects.shell import install
from tests.executors.test_array import QUICK, Site
from tests.executors.test_breaker import SLOW, lab, singles
from tests.patience import eventually

FAILED = "sbatch: error: Batch job submission failed: "


def count_rounds(site: Site) -> Path:
    """Where a line is written each time that something is stored."""
    rounds = site.root / "rounds"
    install(site.programs, "awk", f"echo >>'{rounds}'; exec /usr/bin/awk \"$@\"")
    return rounds


async def test_those_that_wait_together_are_stored_by_few_commands(tmp_path: Path) -> None:
    async with lab(tmp_path, QUICK) as (site, executor):
        rounds = count_rounds(site)
        site.answers(f"n=$(wc -l <'{site.root}/asked'); echo $((100 + n))")
        wanted = singles(40)
        await executor.launch(wanted)
        handles = [await site.said(launch, Scheduled) for launch in wanted]

        assert site.asked == executor.asked["submit"] == len(wanted)
        assert len(rounds.read_text()) < len(wanted) / 2
        assert all(one.handle for one in handles if isinstance(one, Scheduled))


async def test_only_who_was_being_handed_in_when_the_shell_died_is_in_doubt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with lab(tmp_path, replace(QUICK, in_doubt_s=0.3)) as (site, executor):
        for program in ("squeue", "sacct"):
            install(site.programs, program, "")
        # Once, with all shells of its round.
        dies = f"[ $(wc -l <'{site.root}/asked') -ge 3 ] && mkdir '{site.root}/died' 2>/dev/null && kill -9 0"
        site.answers(f"{dies}; echo 12")
        wanted = singles(40)
        await executor.launch(wanted)
        for launch in wanted:
            await site.said(launch, Scheduled)

        assert (site.root / "died").exists()
        assert site.asked == len(wanted) + 1
        assert executor.asked["find"] == 3
        # However many went with it, it was one try in vain.
        assert "one try at a time is made" not in caplog.text


async def test_attempt_that_cannot_be_stored_keeps_no_other_back(tmp_path: Path) -> None:
    async with lab(tmp_path, SLOW) as (site, executor):
        wanted = singles(20)
        (site.root / "runs" / wanted[10].job_id).write_text("in the way")
        await executor.launch(wanted)
        others = [*wanted[:10], *wanted[11:]]
        for launch in others:
            await site.said(launch, Scheduled)

        assert site.asked == len(others)
        await eventually(lambda: executor.reason(wanted[10].token).startswith("it was not taken"))


async def test_text_that_cannot_be_sent_is_refused_alone(tmp_path: Path) -> None:
    async with lab(tmp_path, QUICK) as (site, executor):
        wanted = singles(20)
        wanted[10] = replace(wanted[10], env={"VALUE": "\ud800"})
        await executor.launch(wanted)
        ended = await site.said(wanted[10], NeverRan)
        for launch in [*wanted[:10], *wanted[11:]]:
            await site.said(launch, Scheduled)

        assert isinstance(ended, NeverRan)
        assert ended.error is not None
        assert ended.error.code == Failure.SUBMIT_REFUSED
        assert not (site.root / "control" / wanted[10].place).exists()


async def test_site_that_refuses_every_job_is_sent_few_in_vain(tmp_path: Path) -> None:
    async with lab(tmp_path, QUICK) as (site, executor):
        sent = site.root / "sent"
        install(site.programs, "awk", f"tee -a '{sent}' | /usr/bin/awk \"$@\"")
        site.answers(f"echo '{FAILED}Invalid account or account/partition combination specified' >&2; exit 1")
        wanted = singles(60)
        await executor.launch(wanted)
        for launch in wanted:
            await site.said(launch, NeverRan)

        # Of the first rounds all but one each are sent again.
        assert site.asked == len(wanted)
        assert sent.read_text().count("#SBATCH --job-name=") < 2 * len(wanted)


@pytest.mark.parametrize("first", ["exit 0", "echo 'no job today' >&2; exit 1"])
async def test_those_behind_one_that_was_not_taken_are_asked_for_all_the_same(
    tmp_path: Path, first: str
) -> None:
    async with lab(tmp_path, replace(QUICK, in_doubt_s=0.3)) as (site, executor):
        for program in ("squeue", "sacct"):
            install(site.programs, program, "")
        site.answers(f"mkdir '{site.root}/first' 2>/dev/null && {{ {first}; }}; echo 12")
        wanted = singles(10)
        await executor.launch(wanted)
        for launch in wanted:
            await site.said(launch, Scheduled)

        assert site.asked == len(wanted) + 1

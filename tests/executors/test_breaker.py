"""A scheduler that does not answer is asked by one at a time, until it does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobmgr.domain.wish import Hold
from jobmgr.executors.batch import BatchExecutor
from jobmgr.executors.breaker import Silence
from jobmgr.executors.pace import Pace
from jobmgr.executors.protocol import Launch, NeverRan, Scheduled
from tests.dialects.shell import install
from tests.executors.test_array import KINDS, QUICK, SHELLS, Site, launches
from tests.patience import eventually

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
# Nobody who waits so long asks twice in a test.
SLOW = replace(QUICK, again_first_s=1000.0, again_max_s=1000.0)
# So many in a row are taken for a silence, while so many others may be under way.
PATIENCE, BESIDE = 4, 3
AWAY = "Unable to contact slurm controller (connect failure)"


@asynccontextmanager
async def lab(folder: Path, pace: Pace) -> AsyncIterator[tuple[Site, BatchExecutor]]:
    site = Site(folder, SHELLS[0], KINDS["slurm"])
    executor = site.executor(pace)
    await executor.start()
    try:
        yield site, executor
    finally:
        await executor.stop()


def singles(number: int) -> list[Launch]:
    """Attempts that are no array, because their priorities differ."""
    return [replace(launch, priority=index) for index, launch in enumerate(launches(*["true"] * number))]


def test_silence_is_long_after_some_tries_and_remembers_its_beginning() -> None:
    silence = Silence()
    lengths = []
    for _ in range(PATIENCE):
        lengths.append(silence.is_long)
        silence = silence.longer("away", NOW)
    later = silence.longer("still away", datetime(2026, 1, 2, tzinfo=UTC))

    assert lengths == [False] * PATIENCE
    assert silence.is_long
    assert (later.since, later.words) == (NOW, "still away")


def test_pauses_grow_up_to_the_longest() -> None:
    pace = Pace(again_first_s=2.0, again_max_s=120.0)

    pauses = [Silence(tries, NOW).pause_s(pace) for tries in (0, 3, 4, 5, 6, 9, 10, 10_000)]

    assert pauses == [0.0, 0.0, 2.0, 4.0, 8.0, 64.0, 120.0, 120.0]


async def test_two_hundred_waiting_jobs_ask_a_scheduler_that_is_away_a_few_times(tmp_path: Path) -> None:
    async with lab(tmp_path, SLOW) as (site, executor):
        words, code = site.kind.away
        site.answers(f'echo "{words}" >&2; exit {code}')
        wanted = singles(200)
        await executor.launch(wanted)
        await eventually(lambda: all("does not answer" in executor.reason(one.token) for one in wanted))

        said = executor.reason(wanted[-1].token)
        pattern = (
            r"the scheduler of lab does not answer since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: sbatch: error"
        )
        assert re.match(pattern, said), said
        assert executor.asked["submit"] <= PATIENCE + BESIDE


async def test_all_go_on_at_once_when_it_answers_again(tmp_path: Path) -> None:
    async with lab(tmp_path, replace(QUICK, again_first_s=1.0, again_max_s=1.0)) as (site, executor):
        words, code = site.kind.away
        site.answers(f'echo "{words}" >&2; exit {code}')
        wanted = singles(40)
        await executor.launch(wanted)
        await eventually(lambda: "does not answer" in executor.reason(wanted[-1].token))
        site.answers("echo 12")
        for launch in wanted:
            await site.said(launch, Scheduled)

        # Whoever was refused asked once more; the others once only.
        assert executor.asked["submit"] <= len(wanted) + PATIENCE + BESIDE + 2


async def test_doubt_about_many_is_cleared_up_by_one_at_a_time(tmp_path: Path) -> None:
    """A submission that may have been taken is looked up, and those questions are commands too."""
    async with lab(tmp_path, replace(SLOW, in_doubt_s=0.3)) as (site, executor):
        for program in ("sbatch", "squeue", "sacct"):
            install(site.programs, program, f'echo "error: {AWAY}" >&2; exit 1')
        wanted = singles(100)
        await executor.launch(wanted)
        await eventually(lambda: "does not answer" in executor.reason(wanted[-1].token))
        before = executor.asked["submit"] + executor.asked["find"]
        await asyncio.sleep(2.0)  # more than any question takes

        assert before <= executor.asked["submit"] + executor.asked["find"] <= PATIENCE + BESIDE


async def test_what_is_refused_for_its_own_sake_keeps_nobody_back(tmp_path: Path) -> None:
    async with lab(tmp_path, SLOW) as (site, executor):
        words, code = site.kind.full
        site.answers(f'echo "{words}" >&2; exit {code}')
        wanted = singles(12)
        await executor.launch(wanted)

        await eventually(lambda: executor.asked["submit"] == len(wanted))
        await eventually(lambda: all(executor.reason(one.token) for one in wanted))
        assert executor.reason(wanted[0].token).startswith("it was not taken")


async def test_text_that_cannot_be_sent_is_no_word_of_the_scheduler(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody was asked: it neither begins a silence nor ends one."""
    caplog.set_level("INFO")
    odd = [replace(one, job_id=f"odd-{one.job_id}", env={"VALUE": "\ud800"}) for one in singles(2 * PATIENCE)]
    async with lab(tmp_path, replace(QUICK, again_first_s=0.5, again_max_s=0.5)) as (site, executor):
        await executor.launch(odd[PATIENCE:])
        for launch in odd[PATIENCE:]:
            await site.said(launch, NeverRan)
        told = caplog.text
        words, code = site.kind.away
        site.answers(f'echo "{words}" >&2; exit {code}')
        (waiting, *others) = [replace(one, token=f"f{one.token[1:]}") for one in singles(PATIENCE)]
        await executor.launch([waiting, *others])
        await eventually(lambda: "does not answer" in executor.reason(waiting.token))
        await executor.launch(odd[:PATIENCE])
        for launch in odd[:PATIENCE]:
            await site.said(launch, NeverRan)

        assert "does not answer" not in told
        assert "answers again" not in caplog.text


async def test_many_holds_ask_a_scheduler_that_is_away_a_few_times(tmp_path: Path) -> None:
    async with lab(tmp_path, SLOW) as (site, executor):
        wanted = singles(50)
        await executor.launch(wanted)
        for launch in wanted:
            await site.said(launch, Scheduled)
        install(site.programs, "scontrol", f"echo >>'{tmp_path}/holds'; echo '{AWAY}' >&2; exit 1")
        for launch in wanted:
            await executor.tell(launch.token, Hold(is_held=True, v=2))
        await eventually(lambda: sum(bool(executor.remark(one.token, Hold)) for one in wanted) >= PATIENCE)
        await asyncio.sleep(1.0)  # for all that would be asked besides

        assert len((tmp_path / "holds").read_text()) <= PATIENCE + BESIDE

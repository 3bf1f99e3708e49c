"""What a job in a foreign queue says of itself while its scheduler says nothing, twice, or cannot be reached."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest

from jobmgr.domain.status import Status
from tests.dispatch.yard import Yard, opened
from tests.patience import eventually

pytestmark = pytest.mark.timeout(60)

UNHEARD = "the scheduler of lab does not tell where its jobs are since "


async def explains(yard: Yard, job_id: str, words: str) -> bool:
    return any(words in reason.message for reason in await yard.manager.why(job_id))


async def test_jobs_that_are_handed_in_tell_since_when_their_scheduler_was_not_heard(
    sqlite_url: str, tmp_path: Path
) -> None:
    async with opened(tmp_path, sqlite_url) as yard:
        waits, runs = await yard.submit(1, "stopq"), await yard.submit(2, "workq")
        await eventually(partial(yard.is_now, waits, Status.SCHEDULED))
        await eventually(partial(yard.is_now, runs, Status.RUNNING))
        assert not await explains(yard, runs, UNHEARD)

        yard.falls_silent()
        for job_id in (waits, runs):
            await eventually(partial(explains, yard, job_id, UNHEARD))
            assert await explains(yard, job_id, "Connection refused")
        codes = [await yard.why(job_id) for job_id in (waits, runs)]
        yard.speaks()
        for job_id in (waits, runs):

            async def is_heard(job_id: str = job_id) -> bool:
                return not await explains(yard, job_id, UNHEARD)

            await eventually(is_heard)

        assert codes == [{"scheduled"}, {"running"}]
        await yard.manager.cancel(waits)
        yard.go()
        assert (await yard.manager.wait(runs, 30)).exit_code == 3


async def test_job_that_appears_after_a_hold_is_held_too(sqlite_url: str, tmp_path: Path) -> None:
    """A command that was given up handed it in once more."""
    async with opened(tmp_path, sqlite_url) as yard:
        yard.loses_answers()
        job_id = await yard.submit(1, "stopq")
        await eventually(partial(explains, yard, job_id, "was not taken"))
        await yard.manager.hold(job_id)
        yard.finds_late()
        await eventually(lambda: yard.held == [True])
        await eventually(partial(explains, yard, job_id, "is held at lab as"))

        await yard.say("qsub", "-f", str(yard.control(job_id) / "script"))
        yard.may_find()
        await eventually(lambda: yard.held == [True, True])
        await yard.say("qmove", "workq", *yard.handles)

        await eventually(partial(explains, yard, job_id, "is held at lab as"))
        (attempt,) = await yard.manager.attempts(job_id)
        assert (attempt.handle, yard.ran(job_id)) == (" ".join(yard.handles), [])
        await yard.manager.release(job_id)
        await eventually(partial(yard.is_now, job_id, Status.RUNNING))
        yard.go()
        assert (await yard.manager.wait(job_id, 30)).exit_code == 3
        assert yard.ran(job_id) == [1]


async def test_pauses_and_resumes_of_many_are_few_commands(sqlite_url: str, tmp_path: Path) -> None:
    async with opened(tmp_path, sqlite_url) as yard:
        job_ids = [await yard.submit(number, "workq") for number in range(8)]
        for job_id in job_ids:
            await eventually(partial(yard.is_now, job_id, Status.RUNNING))

        await asyncio.gather(*map(yard.manager.pause, job_ids))
        for job_id in job_ids:
            await eventually(partial(yard.is_now, job_id, Status.PAUSED))
        await asyncio.gather(*map(yard.manager.resume, job_ids))
        for job_id in job_ids:
            await eventually(partial(yard.is_now, job_id, Status.RUNNING))
        yard.go()
        ends = await yard.manager.wait_many(job_ids, 30)

        assert {job.exit_code for job in ends} == {3}
        # They may be wished in two portions.
        assert max(yard.executor.asked[word] for word in ("suspend", "resume")) <= 2


async def test_attempt_that_is_taken_for_dead_keeps_no_slot_and_is_left_alone(
    sqlite_url: str, tmp_path: Path
) -> None:
    async with opened(tmp_path, sqlite_url, max_submitted=1) as yard:
        job_id = await yard.submit(1, "workq")
        await eventually(partial(yard.is_now, job_id, Status.RUNNING))
        yard.way.is_open = False
        await eventually(partial(explains, yard, job_id, "cannot be reached since"))

        await yard.manager.retry(job_id, assume_dead=True)
        await eventually(partial(yard.is_now, job_id, Status.CLAIMED))
        yard.is_sound()
        await eventually(partial(yard.is_now, job_id, Status.RUNNING))
        yard.go()
        job = await yard.manager.wait(job_id, 30)
        await eventually((yard.control(job_id) / "exit").exists)

        assert (job.attempt, job.exit_code) == (2, 3)
        assert json.loads((yard.control(job_id) / "exit").read_text())["exit_code"] == 3
        assert yard.ran(job_id) == [1, 2]
        outcomes = [attempt.outcome for attempt in await yard.manager.attempts(job_id)]
        assert outcomes == ["lost", "failed"]

"""What a job in a foreign queue says of itself while its scheduler says nothing, twice, or cannot be reached."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from jobmgr.domain.status import Status
from tests.dispatch.yard import Yard, opened
from tests.patience import eventually

pytestmark = pytest.mark.timeout(60)


async def explains(yard: Yard, job_id: str, words: str) -> bool:
    return any(words in reason.message for reason in await yard.manager.why(job_id))


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

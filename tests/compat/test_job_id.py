"""Ids that are texts, and may be awaited."""

from __future__ import annotations

import asyncio
import json

import pytest

from jobmgr.compat.pyedb.job_id import JobId

ID = "antenna_1"


def test_an_id_is_its_text() -> None:
    job_id = JobId(ID)

    assert job_id == ID
    assert {ID: 1}[job_id] == 1
    assert json.dumps({"id": job_id}) == f'{{"id": "{ID}"}}'
    assert f"{job_id}" == ID


@pytest.mark.parametrize("debug", [False, True])
def test_asyncio_runs_an_id_to_its_text(debug: bool) -> None:
    job_id = JobId(ID)

    answers = [asyncio.run(job_id, debug=debug) for _ in range(2)]

    assert answers == [ID, ID]
    assert {type(answer) for answer in answers} == {str}


async def test_an_id_is_awaited_as_often_as_one_likes() -> None:
    job_id = JobId(ID)

    answers = [await job_id, await job_id, *await asyncio.gather(job_id, asyncio.create_task(job_id))]

    assert answers == [ID] * 4


async def test_a_task_of_an_id_can_be_cancelled() -> None:
    task = asyncio.create_task(JobId(ID))

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task

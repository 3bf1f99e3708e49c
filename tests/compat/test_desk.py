"""Which service a manager speaks to, and what happens when that is gone."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from jobmgr import service, settings
from jobmgr.compat.pyedb.desk import Desk
from jobmgr.compat.pyedb.manager import cancelling, storing
from jobmgr.domain.job import Job
from jobmgr.domain.queue import Queue
from jobmgr.errors import AnswerLost
from tests.compat.conftest import Make
from tests.patience import eventually


async def _wait(desk: Desk) -> Job:
    return await desk.client.wait("patch_1")


async def _resume(desk: Desk) -> Queue:
    return await desk.client.update_queue("default", paused=False)


async def test_a_service_of_others_that_is_gone_is_replaced_and_its_jobs_run(make: Make) -> None:
    chosen = settings.load({"port": 0, "max_concurrent_jobs": 1}, os.environ)
    config = make("patch_1")
    async with AsyncExitStack() as others:
        theirs = await others.enter_async_context(service.serving(chosen))
        await theirs.update_queue("default", paused=True)
        async with Desk(lambda: chosen, others_patience_s=0.1) as desk:
            await desk.do(storing(config, 0))
            waiting = asyncio.create_task(desk.do(_wait))
            assert (desk.own, desk.url) == (None, theirs.url)

            await others.aclose()
            await desk.do(_resume)
            job = await waiting

            assert desk.own is not None
            assert (job.status, job.attempt) == ("completed", 1)
            assert (await desk.shelf.job("patch_1")).status == "completed"


async def test_a_service_that_does_not_answer_yet_or_any_more_is_waited_for(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = settings.load({"port": 0}, os.environ)
    async with AsyncExitStack() as others, AsyncExitStack() as desks:
        # It has the database, as a service has it before and after it listens.
        await others.enter_async_context(service.JobManager(settings=chosen))
        desk = Desk(lambda: chosen, others_patience_s=60)
        opening = asyncio.create_task(desks.enter_async_context(desk))
        await eventually(lambda: opening.done() or "trying again" in caplog.text)

        await others.aclose()
        await opening

        assert desk.own is not None


async def test_a_simulation_whose_answer_is_lost_runs_once_though_another_service_is_asked_again(
    make: Make,
) -> None:
    chosen = settings.load({"port": 0, "max_concurrent_jobs": 1}, os.environ)
    store = storing(make("patch_1"), 0)
    async with AsyncExitStack() as others:
        theirs = await others.enter_async_context(service.serving(chosen))

        async def store_and_lose_the_first_answer(desk: Desk) -> str:
            job_id = await store(desk)
            if desk.own is None:
                await theirs.wait(job_id, 60)
                await others.aclose()
                raise AnswerLost(desk.url, "it is gone", "look")
            return job_id

        async with Desk(lambda: chosen, others_patience_s=0.1) as desk:
            job_id = await desk.do(store_and_lose_the_first_answer)
            job = await desk.client.get(job_id)

            assert desk.own is not None
            assert (job.status, job.attempt) == ("completed", 1)


async def test_a_cancellation_whose_answer_is_lost_is_this_callers(make: Make) -> None:
    chosen = settings.load({"port": 0, "max_concurrent_jobs": 1}, os.environ)
    cancel = cancelling("patch_1")
    async with AsyncExitStack() as others:
        theirs = await others.enter_async_context(service.serving(chosen))
        await theirs.update_queue("default", paused=True)

        async def cancel_and_lose_the_first_answer(desk: Desk) -> bool:
            answer = await cancel(desk)
            if desk.own is None:
                await others.aclose()
                raise AnswerLost(desk.url, "it is gone", "look")
            return answer

        async with Desk(lambda: chosen, others_patience_s=0.1) as desk:
            await desk.do(storing(make("patch_1"), 0))

            assert await desk.do(cancel_and_lose_the_first_answer)
            assert not await desk.do(cancelling("patch_1"))


async def test_a_desk_that_nobody_asks_takes_over_what_was_handed_to_a_service_that_is_gone(
    make: Make,
) -> None:
    chosen = settings.load({"port": 0, "max_concurrent_jobs": 1}, os.environ)
    async with AsyncExitStack() as others:
        await others.enter_async_context(service.serving(chosen))
        async with Desk(lambda: chosen, others_patience_s=0.1) as desk:
            await others.aclose()

            await eventually(lambda: desk.own is not None)

"""Waiting for jobs, and following the events."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from jobmgr.domain.job import Event, EventPosition
from jobmgr.domain.status import Status
from jobmgr.errors import EventsGone, JobNotFound, WaitTimeout
from jobmgr.service import JobManager
from jobmgr.wire.submission import JobSubmission

TRUE = JobSubmission(command=["true"])


async def test_wait_answers_jobs_in_the_order_asked_for(manager: JobManager) -> None:
    first = await manager.submit(["sleep", "0.3"])
    second = await manager.submit(["true"])

    jobs = await manager.wait_many([first, second], 30)

    assert [job.job_id for job in jobs] == [first, second]
    assert {job.status for job in jobs} == {Status.COMPLETED}


async def test_wait_for_a_job_that_has_ended_returns_at_once(manager: JobManager) -> None:
    job_id = await manager.submit(["true"])
    await manager.wait(job_id, 30)

    job = await manager.wait(job_id, 5)

    assert job.status is Status.COMPLETED


async def test_wait_gives_up_in_time(manager: JobManager) -> None:
    job_id = await manager.submit(["true"], draft=True)

    with pytest.raises(WaitTimeout, match="1 of 1"):
        await manager.wait(job_id, 0.1)


async def test_wait_for_an_unknown_job_is_refused(manager: JobManager) -> None:
    with pytest.raises(JobNotFound):
        await manager.wait("nobody", 5)


async def test_wait_for_nothing_returns(manager: JobManager) -> None:
    assert await manager.wait_many([], 5) == []


async def test_wait_for_a_retried_job_is_not_answered_with_its_former_end(manager: JobManager) -> None:
    # Many who follow let the feed pause between batches; what happened meanwhile is before the wait.
    streams = [manager.follow() for _ in range(50)]
    for stream in streams:
        await anext(stream)
    for _ in range(5):
        job_id = await manager.submit(["true"], draft=True)
        await manager.cancel(job_id)
        await manager.retry(job_id)

        job = await manager.wait(job_id, 30)

        assert job.status is Status.COMPLETED


async def test_many_may_wait_for_one_job(manager: JobManager) -> None:
    job_id = await manager.submit(["sleep", "0.2"])

    jobs = await asyncio.gather(*(manager.wait(job_id, 30) for _ in range(50)))

    assert {job.status for job in jobs} == {Status.COMPLETED}


async def test_all_done_waits_for_waiting_and_live_jobs(manager: JobManager) -> None:
    stored = await manager.submit_many([TRUE] * 20)
    child = await manager.submit(["true"], depends_on=[{"job_id": stored[-1].job_id}])

    await manager.wait_until_all_done(60)

    assert (await manager.get(child)).status is Status.COMPLETED
    assert {job.status for job in (await manager.list(limit=100)).jobs} == {Status.COMPLETED}


async def test_all_done_returns_at_once_when_there_is_nothing(manager: JobManager) -> None:
    await manager.wait_until_all_done(5)


async def test_all_done_gives_up_in_time(manager: JobManager) -> None:
    await manager.submit(["true"], draft=True)

    with pytest.raises(WaitTimeout):
        await manager.wait_until_all_done(0.2)


async def follow_until(
    manager: JobManager, after: EventPosition | None, kind: str, job_id: str
) -> list[Event]:
    found: list[Event] = []
    async with asyncio.timeout(30), aclosing(manager.follow(after)) as batches:
        async for batch in batches:
            for event in batch:
                found.append(event)
                if (event.kind, event.job_id) == (kind, job_id):
                    return found
    raise AssertionError("the stream of events ended")


async def test_followed_events_are_the_log(manager: JobManager) -> None:
    start = await manager.event_position()
    stored = await manager.submit_many([TRUE] * 30)
    await manager.wait_many([item.job_id for item in stored], 60)
    last = await manager.submit(["true"], draft=True)

    followed = await follow_until(manager, start, "submitted", last)

    logged = (await manager.event_page(start, 1000))[0]
    assert followed == list(logged)
    assert [event.kind for event in followed if event.job_id == stored[0].job_id] == [
        "submitted",
        "claimed",
        "started",
        "completed",
    ]


async def test_follower_that_comes_back_misses_and_repeats_nothing(manager: JobManager) -> None:
    start = position = await manager.event_position()
    stored = await manager.submit_many([TRUE] * 20)
    found: list[Event] = []

    for _ in range(4):
        mark = await manager.submit(["true"], draft=True)
        part = await follow_until(manager, position, "submitted", mark)
        found += part
        position = EventPosition(start.epoch, part[-1].seq)
    await manager.wait_many([item.job_id for item in stored], 60)
    last = await manager.submit(["true"], draft=True)
    found += await follow_until(manager, position, "submitted", last)

    assert found == (await manager.event_page(start, 1000))[0]


async def test_follower_without_a_position_sees_what_comes(manager: JobManager) -> None:
    before = await manager.submit(["true"], draft=True)
    async with aclosing(manager.follow()) as batches:
        first = await anext(batches)
        after = await manager.submit(["true"], draft=True)

        seen: list[Event] = []
        async with asyncio.timeout(30):
            while not seen:
                seen += await anext(batches)

    assert list(first) == []
    assert [event.job_id for event in seen] == [after]
    assert before != after


@pytest.mark.parametrize("epoch", ["own", "foreign"])
async def test_position_that_cannot_be_resumed_is_refused(manager: JobManager, epoch: str) -> None:
    now = await manager.event_position()
    wrong = EventPosition(now.epoch, now.seq + 100) if epoch == "own" else EventPosition("elsewhere", 0)

    with pytest.raises(EventsGone):
        async with aclosing(manager.follow(wrong)) as batches:
            await anext(batches)


async def test_events_of_a_job_and_of_the_log_agree(manager: JobManager) -> None:
    job_id = await manager.submit(["true"])
    await manager.wait(job_id, 30)

    own = await manager.job_events(job_id)

    whole = (await manager.event_page(None, 1000))[0]
    assert list(own) == [event for event in whole if event.job_id == job_id]

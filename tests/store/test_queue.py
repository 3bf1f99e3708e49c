"""Queues, stored limits, and due times."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import timedelta

import pytest
import sqlalchemy as sa

from jobmgr.domain.limits import ResourceLimits
from jobmgr.domain.status import Status
from jobmgr.errors import QueueNotFound
from jobmgr.store import events, queues, waiting
from jobmgr.store.jobs import execute
from jobmgr.store.queues import LimitsChange
from jobmgr.store.transaction import Topic
from tests.store.worker import Worker, new_job, now


async def test_default_queue_always_exists(worker: Worker) -> None:
    found = await worker.database.read(queues.listing)

    assert [(queue.name, queue.paused, queue.max_running) for queue in found] == [("default", False, None)]


async def test_new_queue_is_made_by_its_first_change(worker: Worker) -> None:
    await worker.queue("fast", max_running=3)
    await worker.queue("fast", paused=True)

    queue = await worker.database.read(queues.get, "fast")

    assert (queue.paused, queue.max_running) == (True, 3)


async def test_limit_is_taken_away_by_null(worker: Worker) -> None:
    await worker.queue("fast", max_running=3)

    await worker.queue("fast", max_running=None)

    assert (await worker.database.read(queues.get, "fast")).max_running is None


async def test_unknown_queue_is_not_found(worker: Worker) -> None:
    with pytest.raises(QueueNotFound):
        await worker.database.read(queues.get, "nowhere")


async def test_limits_come_back_as_stored(worker: Worker) -> None:
    limits = ResourceLimits(max_concurrent_jobs=3, max_cpu_percent=80.5, min_memory_gb=0.25)

    before = await worker.database.read(queues.limits, "host")
    await worker.database.write(queues.set_limits, LimitsChange("host", asdict(limits)))

    assert before is None
    assert await worker.database.read(queues.limits, "host") == limits
    assert await worker.database.read(queues.limits, "another") is None


async def test_change_of_limits_is_told_once(worker: Worker) -> None:
    for jobs in (3, 3, 5):
        change = LimitsChange("host", {"max_concurrent_jobs": jobs})
        await worker.database.write(queues.set_limits, change)

    found = await worker.database.read(events.page, None, 100)

    assert [event.kind for event in found] == ["limits_updated"] * 2
    assert found[1].data["old_limits"] == {"max_concurrent_jobs": 3}
    assert found[1].data["new_limits"]["max_concurrent_jobs"] == 5


async def test_changes_of_different_limits_at_once_are_all_kept(worker: Worker) -> None:
    changes: list[dict[str, float]] = [
        {"max_concurrent_jobs": 7},
        {"min_disk_gb": 0.5},
        {"max_cpu_percent": 90.0},
    ]

    answers = await asyncio.gather(
        *(worker.database.write(queues.set_limits, LimitsChange("host", change)) for change in changes)
    )

    expected = ResourceLimits(max_concurrent_jobs=7, min_disk_gb=0.5, max_cpu_percent=90.0)
    assert await worker.database.read(queues.limits, "host") == expected
    assert answers[-1] == expected


async def test_empty_change_makes_a_queue_or_leaves_it_as_it_is(worker: Worker) -> None:
    await worker.queue("new")
    await worker.queue("new", paused=True)

    await worker.queue("new")

    (queue,) = [queue for queue in await worker.database.read(queues.listing) if queue.name == "new"]
    assert queue.paused
    found = await worker.database.read(events.page, None, 100)
    told = [event.data for event in found if event.kind == "queue_updated"]
    assert told == [{"queue": "new"}, {"queue": "new", "paused": True}]


async def test_statement_that_is_wrong_is_not_taken_for_an_outage(worker: Worker) -> None:
    def wrong(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SELECT no_such_column FROM jobs")

    with pytest.raises(sa.exc.DBAPIError):
        await worker.database.read(wrong)


async def test_jobs_are_queued_when_they_are_due(worker: Worker) -> None:
    past, future = now() + timedelta(seconds=0.02), now() + timedelta(hours=1)
    await worker.insert(
        new_job("due", due_at=past),
        new_job("later", due_at=future),
        new_job("draft", due_at=past, draft=True),
        new_job("child", due_at=past, after=["later"]),
    )

    next_due = await worker.database.read(waiting.next_due)
    promoted = 0
    while promoted == 0:
        promoted = await worker.database.write(waiting.promote_due, 10)

    assert next_due == past
    assert promoted == 1
    assert {job.job_id: job.status for job in await worker.all()} == {
        "due": Status.QUEUED,
        "later": Status.PENDING,
        "draft": Status.PENDING,
        "child": Status.PENDING,
    }
    assert await worker.database.read(waiting.next_due) == future


async def test_who_sleeps_until_the_next_due_time_is_woken_when_a_job_waits_for_its_time_alone(
    worker: Worker,
) -> None:
    soon, heard = now() + timedelta(hours=1), set[Topic]()
    await worker.insert(
        new_job("parent"),
        new_job("child", due_at=soon, after=["parent"]),
        new_job("draft", due_at=soon, draft=True),
        new_job("held", due_at=soon),
    )
    await worker.hold("held")
    (parent,) = await worker.claim()
    worker.database.on_commit(heard.update)
    woken = []

    for free in (
        lambda: worker.finish(parent),
        lambda: worker.database.write(execute, "draft"),
        lambda: worker.unhold("held"),
    ):
        heard.clear()
        await free()
        woken.append(Topic.TIME in heard)

    assert woken == [True, True, True]


async def test_promotion_takes_at_most_what_is_asked(worker: Worker) -> None:
    soon = now() + timedelta(seconds=0.05)
    await worker.insert(*(new_job(due_at=soon) for _ in range(5)))
    promoted = 0
    while promoted == 0:
        promoted = await worker.database.write(waiting.promote_due, 2)

    assert promoted == 2
    assert await worker.database.write(waiting.promote_due, 100) == 3


async def test_nothing_is_due_in_an_empty_database(worker: Worker) -> None:
    assert await worker.database.read(waiting.next_due) is None
    assert await worker.database.write(waiting.promote_due, 10) == 0

"""What users do to stored jobs: cancel, retry, hold, change, delete."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from jobmgr.domain.queue import Tally
from jobmgr.domain.status import Status
from jobmgr.errors import IllegalTransition, JobNotFound
from jobmgr.store import attempts, jobs, listing, waiting
from jobmgr.store.jobs import Change
from tests.store.worker import Worker, new_job, now


async def test_cancelled_waiting_job_ends_at_once(worker: Worker) -> None:
    await worker.insert(new_job("queued"), new_job("pending", draft=True))

    for name in ("queued", "pending"):
        await worker.cancel(name)

    for job in await worker.all():
        assert job.status is Status.CANCELLED
        assert job.finished_at is not None
        assert job.error is not None
        assert job.error.code == "cancelled"
    assert await worker.claim() == []


async def test_cancel_of_a_live_job_is_a_wish_for_its_dispatcher(worker: Worker, other: Worker) -> None:
    await worker.insert(new_job("a"), new_job("b"))
    mine, _ = await worker.claim()

    await other.cancel("a")

    job = await worker.get("a")
    assert (job.status, job.finished_at) == (Status.CLAIMED, None)
    assert job.cancel_requested_at is not None
    assert await worker.database.read(attempts.cancel_wishes, worker.id) == [mine.token]
    assert await worker.database.read(attempts.cancel_wishes, other.id) == []


async def test_released_attempt_of_a_cancelled_job_ends_it(worker: Worker) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()
    await worker.cancel("a")

    await worker.release(claimed)

    assert await worker.status("a") is Status.CANCELLED
    assert await worker.database.read(attempts.cancel_wishes, worker.id) == []


async def test_job_that_ended_by_itself_before_its_cancel_keeps_its_outcome(worker: Worker) -> None:
    await worker.add("a", max_attempts=5)
    await worker.add("b", max_attempts=5)
    first, second = await worker.claim()
    await worker.cancel("a")
    await worker.cancel("b")

    await worker.finish(first, 0)
    await worker.finish(second, 1)

    assert [job.status for job in await worker.all()] == [Status.COMPLETED, Status.FAILED]


async def test_cancelled_run_ends_cancelled_and_is_not_retried(worker: Worker) -> None:
    await worker.add("a", max_attempts=5)
    claimed = await worker.claim_one()
    await worker.cancel("a")

    await worker.finish(claimed, None, signal=15, ended_by="cancel")

    assert await worker.status("a") is Status.CANCELLED


async def test_cancel_of_an_ended_job_changes_nothing(worker: Worker) -> None:
    await worker.add("a")
    await worker.run("a")
    before = await worker.get("a")

    await worker.cancel("a")

    assert await worker.get("a") == before


async def test_cancel_twice_is_told_once(worker: Worker) -> None:
    await worker.add("a")
    await worker.claim()

    await asyncio.gather(*(worker.cancel("a") for _ in range(3)))

    assert (await worker.get("a")).v == 3


@pytest.mark.parametrize("exit_code", [0, 1])
async def test_retry_is_a_new_attempt_of_the_same_job(worker: Worker, exit_code: int) -> None:
    await worker.add("a")
    await worker.run("a", exit_code)

    await worker.retry("a")

    job = await worker.get("a")
    assert (job.status, job.exit_code, job.error, job.finished_at) == (Status.QUEUED, None, None, None)
    assert (job.started_at, job.handle) == (None, None)
    assert (await worker.claim_one()).number == 2


async def test_retry_clears_a_wish_to_cancel_and_a_hold(worker: Worker) -> None:
    await worker.add("a")
    await worker.hold("a")
    await worker.cancel("a")

    await worker.retry("a")

    job = await worker.get("a")
    assert (job.status, job.held_at, job.cancel_requested_at) == (Status.QUEUED, None, None)


async def test_retry_gives_a_fresh_budget(worker: Worker) -> None:
    await worker.add("a", max_attempts=2, backoff_s=0.0)
    for _ in range(2):
        await worker.database.write(waiting.promote_due, 10)
        await worker.run("a", 1)
    assert await worker.status("a") is Status.FAILED

    await worker.retry("a")
    await worker.run("a", 1)

    assert await worker.status("a") is Status.PENDING


@pytest.mark.parametrize("live", [False, True], ids=["waiting", "live"])
async def test_retry_before_the_end_is_refused(worker: Worker, live: bool) -> None:
    await worker.add("a")
    if live:
        await worker.claim()

    with pytest.raises(IllegalTransition):
        await worker.retry("a")


async def test_held_job_waits_until_released(worker: Worker) -> None:
    await worker.add("a")

    await worker.hold("a")
    held = await worker.get("a")
    while_held = await worker.claim()
    await worker.unhold("a")
    released = await worker.get("a")

    assert (held.status, while_held) == (Status.PENDING, [])
    assert held.held_at is not None
    assert (released.status, released.held_at) == (Status.QUEUED, None)


async def test_hold_outlasts_the_due_time_and_the_dependencies(worker: Worker) -> None:
    await worker.add("parent", priority=1)
    await worker.add("due", due_at=now() + timedelta(seconds=0.01))
    await worker.add("child", after=["parent"])
    for name in ("due", "child"):
        await worker.hold(name)

    await worker.run("parent")
    await worker.database.write(waiting.promote_due, 10)

    assert await worker.status("due") is Status.PENDING
    assert await worker.status("child") is Status.PENDING
    await worker.unhold("child")
    assert await worker.status("child") is Status.QUEUED


async def test_hold_of_live_or_ended_is_refused(worker: Worker) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()

    with pytest.raises(IllegalTransition):
        await worker.hold("a")
    await worker.finish(claimed)
    with pytest.raises(IllegalTransition):
        await worker.hold("a")


async def test_release_of_a_job_that_ended_while_held_changes_nothing(worker: Worker) -> None:
    await worker.add("a")
    await worker.hold("a")
    await worker.cancel("a")
    before = await worker.get("a")

    await worker.unhold("a")

    assert await worker.get("a") == before


async def test_release_of_a_draft_is_refused_unless_it_is_held(worker: Worker) -> None:
    await worker.insert(new_job("a", draft=True))

    with pytest.raises(IllegalTransition, match="execute"):
        await worker.unhold("a")

    await worker.hold("a")
    await worker.unhold("a")
    job = await worker.get("a")
    assert (job.draft, job.held_at, job.status) == (True, None, Status.PENDING)


async def test_release_of_a_job_that_is_not_held_changes_nothing(worker: Worker) -> None:
    await worker.add("a")
    before = await worker.get("a")

    await worker.unhold("a")

    assert await worker.get("a") == before


async def test_draft_is_executed_once(worker: Worker) -> None:
    await worker.add("a", draft=True)

    await worker.database.write(jobs.execute, "a")

    assert await worker.status("a") is Status.QUEUED
    with pytest.raises(IllegalTransition):
        await worker.database.write(jobs.execute, "a")


async def test_cancelled_draft_is_not_executed(worker: Worker) -> None:
    await worker.add("a", draft=True)
    await worker.cancel("a")

    with pytest.raises(IllegalTransition):
        await worker.database.write(jobs.execute, "a")


async def test_new_priority_moves_a_queued_job(worker: Worker) -> None:
    await worker.insert(new_job("a"), new_job("b"), new_job("c"))

    await worker.update("b", priority=9)

    assert [claimed.job_id for claimed in await worker.claim()] == ["b", "a", "c"]


async def test_priority_of_an_ended_job_is_refused(worker: Worker) -> None:
    await worker.add("a")
    await worker.run("a")

    with pytest.raises(IllegalTransition):
        await worker.update("a", priority=1)


async def test_names_and_tags_may_change_at_any_time(worker: Worker) -> None:
    await worker.add("a", tags=("old", "both"))
    await worker.run("a")
    change = Change("a", {"name": "new", "extended_properties": {"n": 1}}, tags=("both", "new"))

    await worker.database.write(jobs.update, change)

    job = await worker.get("a")
    assert (job.name, job.tags, job.extended_properties) == ("new", ("both", "new"), {"n": 1})


async def test_deleted_job_is_gone_with_its_attempts(worker: Worker) -> None:
    await worker.insert(new_job("a", tags=("t",)), new_job("b", after=["a"]))
    await worker.run("a")
    await worker.run("b")

    await worker.database.write(jobs.delete, "a")

    assert [job.job_id for job in await worker.all()] == ["b"]
    with pytest.raises(JobNotFound):
        await worker.database.read(listing.attempts, "a")
    assert await worker.counts() == {Tally.COMPLETED: 1}
    assert await worker.add("a") == "a"


async def test_delete_before_the_end_is_refused(worker: Worker) -> None:
    await worker.add("a")

    with pytest.raises(IllegalTransition):
        await worker.database.write(jobs.delete, "a")


@pytest.mark.parametrize(
    "verb", [jobs.cancel, jobs.retry, jobs.hold, jobs.release, jobs.execute, jobs.delete]
)
async def test_unknown_job_is_not_found(worker: Worker, verb: object) -> None:
    with pytest.raises(JobNotFound):
        await worker.database.write(verb, "nobody")  # type: ignore[arg-type]


async def test_every_visible_change_raises_the_version(worker: Worker) -> None:
    await worker.add("a")
    versions = [(await worker.get("a")).v]

    async def look() -> None:
        versions.append((await worker.get("a")).v)

    await worker.update("a", name="n")
    await look()
    await worker.hold("a")
    await look()
    await worker.unhold("a")
    await look()
    claimed = await worker.claim_one()
    await look()
    await worker.start(claimed)
    await look()
    await worker.cancel("a")
    await look()
    await worker.finish(claimed)
    await look()

    assert versions == sorted(set(versions))

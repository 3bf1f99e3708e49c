"""What starts when: order, slots, limits, dependencies, due times. With real jobs on real databases."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobmgr.domain.queue import Tally
from jobmgr.domain.status import Status
from jobmgr.errors import InvalidRequest
from jobmgr.service import JobManager, ResourceLimits
from jobmgr.store.engine import Database
from jobmgr.store.submissions import insert
from jobmgr.store.transaction import Topic
from jobmgr.wire.submission import JobSubmission
from tests.ledger import most_at_once, signatures, signing, span_of, spanning
from tests.patience import eventually
from tests.store.worker import new_job


async def statuses(manager: JobManager, *job_ids: str) -> list[Status]:
    return [(await manager.get(job_id)).status for job_id in job_ids]


async def codes(manager: JobManager, job_id: str) -> list[str]:
    return [reason.code for reason in await manager.why(job_id)]


async def test_one_slot_runs_by_priority_then_in_order(manager: JobManager, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    await manager.update_limits(max_concurrent_jobs=1)
    await manager.update_queue("default", paused=True)
    priorities = {"a": 0, "b": -1, "c": 5, "d": 0, "e": 5, "f": -2_000_000_000}
    for name, priority in priorities.items():
        await manager.submit(signing(ledger), job_id=name, priority=priority)

    await manager.update_queue("default", paused=False)
    await manager.wait_until_all_done(60)

    assert signatures(ledger) == ["c", "e", "a", "d", "b", "f"]


async def test_new_priority_counts_at_once(manager: JobManager, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    await manager.update_limits(max_concurrent_jobs=1)
    await manager.update_queue("default", paused=True)
    for name in ("a", "b", "c"):
        await manager.submit(signing(ledger), job_id=name)

    await manager.set_priority("c", 10)
    await manager.update_queue("default", paused=False)
    await manager.wait_until_all_done(60)

    assert signatures(ledger) == ["c", "a", "b"]


async def test_no_more_run_at_once_than_there_are_slots(manager: JobManager) -> None:
    asked = [JobSubmission(command=spanning(0.05)) for _ in range(24)]
    await manager.update_limits(max_concurrent_jobs=3)

    stored = await manager.submit_many(asked)
    jobs = await manager.wait_many([item.job_id for item in stored], 60)

    assert 2 <= most_at_once([span_of(job) for job in jobs]) <= 3


async def test_limit_that_changes_while_jobs_wait_counts_at_once(manager: JobManager) -> None:
    await manager.update_limits(max_concurrent_jobs=1)
    first = await manager.submit_many([JobSubmission(command=spanning(0.1)) for _ in range(3)])
    narrow = await manager.wait_many([item.job_id for item in first], 60)

    await manager.update_limits(max_concurrent_jobs=4)
    second = await manager.submit_many([JobSubmission(command=spanning(0.5)) for _ in range(4)])
    wide = await manager.wait_many([item.job_id for item in second], 60)

    assert most_at_once([span_of(job) for job in narrow]) == 1
    assert 2 <= most_at_once([span_of(job) for job in wide]) <= 4
    assert (await manager.limits()).max_concurrent_jobs == 4


async def test_claim_that_is_under_way_when_limits_change_takes_no_more_than_they_allow(
    manager: JobManager,
) -> None:
    async def wake_claims_all_the_time() -> None:
        while True:
            manager.dispatcher.notice(frozenset({Topic.WORK}))
            await asyncio.sleep(0)

    waking = asyncio.create_task(wake_claims_all_the_time())
    for _ in range(10):
        await manager.update_limits(max_concurrent_jobs=4)
        await manager.update_limits(max_concurrent_jobs=1)
        stored = await manager.submit_many([JobSubmission(command=spanning(0.02)) for _ in range(2)])
        jobs = await manager.wait_many([item.job_id for item in stored], 60)
        assert most_at_once([span_of(job) for job in jobs]) == 1
    waking.cancel()


async def test_bad_limit_is_refused_and_changes_nothing(manager: JobManager) -> None:
    with pytest.raises(InvalidRequest):
        await manager.update_limits(max_concurrent_jobs=0)

    assert (await manager.limits()).max_concurrent_jobs == 2


async def test_jobs_that_ask_for_all_cpus_do_not_overlap(manager: JobManager) -> None:
    cpus = manager.dispatcher.admission.machine.cpus
    await manager.update_limits(max_concurrent_jobs=4)

    job_ids = [await manager.submit(spanning(0.2), resources={"cpus": cpus}) for _ in range(3)]
    jobs = await manager.wait_many(job_ids, 60)

    assert most_at_once([span_of(job) for job in jobs]) == 1


async def test_job_that_asks_for_nothing_runs_beside_one_that_asks_for_all(manager: JobManager) -> None:
    cpus = manager.dispatcher.admission.machine.cpus
    large = await manager.submit(["sleep", "60"], resources={"cpus": cpus})
    await eventually(lambda: _is_running(manager, large))

    small = await manager.wait(await manager.submit(["true"]), 30)

    assert small.status is Status.COMPLETED
    await manager.cancel(large)
    await manager.wait(large, 30)


async def _is_running(manager: JobManager, job_id: str) -> bool:
    return (await manager.get(job_id)).status is Status.RUNNING


async def test_job_that_asks_for_more_than_the_machine_has_says_so(manager: JobManager) -> None:
    job_id = await manager.submit(["true"], resources={"cpus": 100_000})
    await manager.wait(await manager.submit(["true"]), 30)

    reasons = await manager.why(job_id)

    assert reasons[0].code == "asks_too_much"
    assert "100000 cpus" in reasons[0].message
    assert await statuses(manager, job_id) == [Status.QUEUED]


async def test_host_limit_stops_starts_and_lifting_it_resumes(manager: JobManager) -> None:
    await manager.update_limits(min_memory_gb=100_000.0)
    job_id = await manager.submit(["true"])

    await eventually(lambda: _has_code(manager, job_id, "host_limit"))
    stopped = await statuses(manager, job_id)
    await manager.update_limits(min_memory_gb=None)
    job = await manager.wait(job_id, 30)

    assert stopped == [Status.QUEUED]
    assert job.status is Status.COMPLETED


async def _has_code(manager: JobManager, job_id: str, code: str) -> bool:
    return code in await codes(manager, job_id)


async def test_host_limit_holds_from_the_first_moment(database_url: str, tmp_path: Path) -> None:
    limits = ResourceLimits(max_concurrent_jobs=2, min_disk_gb=1e9)
    async with JobManager(limits, database=database_url, work_dir=tmp_path / "work") as manager:
        job_id = await manager.submit(["true"])
        reasons = await eventually(lambda: manager.why(job_id))
        status = await statuses(manager, job_id)

    assert status == [Status.QUEUED]
    assert reasons[0].code == "host_limit"
    assert "min_disk_gb" in reasons[0].message


async def test_chain_runs_in_its_order(manager: JobManager, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    await manager.submit(signing(ledger), job_id="j0")
    for number in range(1, 5):
        await manager.submit(
            signing(ledger), job_id=f"j{number}", depends_on=[{"job_id": f"j{number - 1}"}], priority=number
        )

    await manager.wait_until_all_done(60)

    assert signatures(ledger) == [f"j{number}" for number in range(5)]


async def test_failure_cancels_what_needed_success_and_frees_what_wanted_failure(
    manager: JobManager, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    parent = await manager.submit(["sh", "-c", "sleep 0.1; exit 1"])
    wants = {
        when: await manager.submit(signing(ledger), depends_on=[{"job_id": parent, "when": when}])
        for when in ("success", "failure", "any")
    }
    grandchild = await manager.submit(signing(ledger), depends_on=[{"job_id": wants["success"]}])

    await manager.wait_until_all_done(60)

    assert await statuses(manager, *wants.values(), grandchild) == [
        Status.CANCELLED,
        Status.COMPLETED,
        Status.COMPLETED,
        Status.CANCELLED,
    ]
    error = (await manager.get(grandchild)).error
    assert error is not None
    assert error.code == "dependency_failed"
    assert sorted(signatures(ledger)) == sorted([wants["failure"], wants["any"]])


async def test_waiting_dependant_names_its_parent(manager: JobManager) -> None:
    parent = await manager.submit(["true"], draft=True)
    child = await manager.submit(["true"], depends_on=[{"job_id": parent}])

    (reason,) = await manager.why(child)

    assert reason.code == "dependency"
    assert parent in reason.message


async def test_failure_is_retried_after_its_backoff(manager: JobManager, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    job_id = await manager.submit(signing(ledger, exit_code=1), retry={"max_attempts": 3, "backoff": 0.2})

    job = await manager.wait(job_id, 60)

    attempts = await manager.attempts(job_id)
    assert (job.status, job.attempt) == (Status.FAILED, 3)
    assert signatures(ledger) == [job_id] * 3
    assert [attempt.outcome for attempt in attempts] == ["failed"] * 3
    for earlier, later, backoff_s in zip(attempts, attempts[1:], (0.2, 0.4), strict=False):
        assert earlier.finished_at is not None
        assert later.claimed_at - earlier.finished_at >= timedelta(seconds=backoff_s * 0.75)


async def test_retry_that_succeeds_completes_the_job(manager: JobManager) -> None:
    script = 'test "$JOBMGR_ATTEMPT" = 2'
    job_id = await manager.submit(["sh", "-c", script], retry={"max_attempts": 5, "backoff": 0.05})

    job = await manager.wait(job_id, 60)

    assert (job.status, job.attempt, job.exit_code, job.error) == (Status.COMPLETED, 2, 0, None)


async def test_users_retry_runs_the_job_again(manager: JobManager, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    job_id = await manager.submit(signing(ledger))
    await manager.wait(job_id, 30)

    await manager.retry(job_id)
    job = await manager.wait(job_id, 30)

    assert (job.status, job.attempt) == (Status.COMPLETED, 2)
    assert signatures(ledger) == [job_id, job_id]


async def test_held_job_starts_when_it_is_released(manager: JobManager, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    await manager.update_queue("default", paused=True)
    held = await manager.submit(signing(ledger))
    await manager.hold(held)
    await manager.update_queue("default", paused=False)
    other = await manager.submit(signing(ledger))
    await manager.wait(other, 30)
    while_held = await codes(manager, held)

    await manager.release(held)
    await manager.wait(held, 30)

    assert while_held == ["held"]
    assert signatures(ledger) == [other, held]


async def test_job_starts_when_it_is_due(manager: JobManager) -> None:
    due_at = datetime.now(UTC) + timedelta(seconds=1)
    job_id = await manager.submit(["true"], not_before=due_at)
    before = await codes(manager, job_id)

    job = await manager.wait(job_id, 30)

    assert before == ["not_due"]
    assert job.started_at is not None
    assert due_at <= job.started_at < due_at + timedelta(seconds=10)


async def test_earlier_due_time_that_comes_later_is_not_overslept(manager: JobManager) -> None:
    late = await manager.submit(["true"], not_before=datetime.now(UTC) + timedelta(hours=1))
    soon = await manager.submit(["true"], not_before=datetime.now(UTC) + timedelta(seconds=0.3))

    job = await manager.wait(soon, 20)

    assert job.status is Status.COMPLETED
    assert await statuses(manager, late) == [Status.PENDING]


async def test_paused_queue_starts_nothing_until_it_is_resumed(manager: JobManager) -> None:
    await manager.update_queue("default", paused=True)
    await manager.update_queue("open")
    waiting = await manager.submit(["true"])
    await manager.wait(await manager.submit(["true"], queue="open"), 30)
    while_paused = await statuses(manager, waiting), await codes(manager, waiting)

    await manager.update_queue("default", paused=False)
    job = await manager.wait(waiting, 30)

    assert while_paused == ([Status.QUEUED], ["queue_paused"])
    assert job.status is Status.COMPLETED


async def test_queue_limit_is_never_exceeded(manager: JobManager) -> None:
    await manager.update_limits(max_concurrent_jobs=4)
    await manager.update_queue("narrow", max_running=1)

    narrow = [await manager.submit(spanning(0.1), queue="narrow") for _ in range(4)]
    await manager.submit_many([JobSubmission(command=["true"]) for _ in range(4)])
    jobs = await manager.wait_many(narrow, 60)

    assert most_at_once([span_of(job) for job in jobs]) == 1


async def test_raised_queue_limit_counts_at_once(manager: JobManager) -> None:
    await manager.update_queue("narrow", max_running=0)
    job_id = await manager.submit(["true"], queue="narrow")
    before = await codes(manager, job_id)

    await manager.update_queue("narrow", max_running=None)
    job = await manager.wait(job_id, 30)

    assert "queue_limit" in before
    assert job.status is Status.COMPLETED


async def test_tallies_follow_the_jobs(manager: JobManager) -> None:
    await manager.wait(await manager.submit(["true"]), 30)
    await manager.wait(await manager.submit(["false"]), 30)
    await manager.submit(["true"], draft=True)

    (queue,) = await manager.queues()

    assert {tally: count for tally, count in queue.counts.items() if count} == {
        Tally.COMPLETED: 1,
        Tally.FAILED: 1,
        Tally.PENDING: 1,
    }


async def test_draft_runs_when_it_is_executed(manager: JobManager) -> None:
    job_id = await manager.submit(["true"], draft=True)
    before = await codes(manager, job_id)

    await manager.execute(job_id)
    job = await manager.wait(job_id, 30)

    assert before == ["draft"]
    assert job.status is Status.COMPLETED


async def test_submissions_of_many_at_once_all_run(manager: JobManager) -> None:
    job_ids = await asyncio.gather(*(manager.submit(["true"]) for _ in range(60)))

    jobs = await manager.wait_many(job_ids, 60)

    assert {job.status for job in jobs} == {Status.COMPLETED}


async def test_job_written_by_another_program_is_run(manager: JobManager, database_url: str) -> None:
    program = Database(database_url)
    await program.start()
    await program.write(insert, [new_job("from-outside")])
    await program.close()

    job = await manager.wait("from-outside", 30)

    assert job.status is Status.COMPLETED


async def test_without_keepers_claims_pause_and_say_why(manager: JobManager) -> None:
    sockets = manager.parts.runs.parent / "sockets"
    sockets.rename(sockets.with_name("moved"))
    sockets.write_text("a file where a directory should be")

    job_id = await manager.submit(["true"])
    await eventually(lambda: _codes_hold(manager, job_id, "host_limit"))
    await asyncio.sleep(0.3)

    assert len(await manager.attempts(job_id)) <= 3
    sockets.unlink()  # The warden makes it again.
    assert (await manager.wait(job_id, 20)).status is Status.COMPLETED
    assert manager.dispatcher.admission.closed == []


async def _codes_hold(manager: JobManager, job_id: str, code: str) -> bool:
    return code in await codes(manager, job_id)

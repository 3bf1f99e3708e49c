"""Starts, ends and adoption of attempts, fenced by token and lease."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from jobmgr.dispatch.roster import key_of
from jobmgr.domain.job import Attempt, JobError, OnLost
from jobmgr.domain.outcome import End
from jobmgr.domain.queue import Tally
from jobmgr.domain.status import Status
from jobmgr.store import attempts, dispatchers, events, jobs, listing, ownership, waiting
from jobmgr.store.attempts import Schedule, Start, Turn
from jobmgr.store.claims import Claimed
from jobmgr.store.ownership import Adoption
from tests.store.worker import RUN, Worker, ending, new_job, now


async def attempts_of(worker: Worker, job_id: str) -> list[Attempt]:
    return await worker.database.read(listing.attempts, job_id)


async def state(worker: Worker) -> object:
    """Everything that can be seen: jobs, attempts, tallies, the end of the log."""
    jobs = await worker.all()
    tries = [await attempts_of(worker, job.job_id) for job in jobs]
    return jobs, tries, await worker.counts(), await worker.database.read(events.position)


async def test_start_is_shown_on_job_and_attempt(worker: Worker) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()

    assert await worker.start(claimed)

    job = await worker.get("a")
    (attempt,) = await attempts_of(worker, "a")
    assert (job.status, job.handle, job.work_dir) == (Status.RUNNING, "handle", "/run")
    assert job.started_at == attempt.started_at is not None
    assert attempt.outcome is None


async def test_start_told_twice_changes_nothing_the_second_time(worker: Worker) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()
    await worker.start(claimed)
    before = await state(worker)

    assert await worker.start(claimed)

    assert await state(worker) == before


async def test_end_is_shown_on_job_and_attempt(worker: Worker) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()
    finish = replace(ending(claimed, End(3)), cpu_s=1.25, peak_memory_bytes=2**33, leftovers=2)

    await worker.database.write(attempts.finish, finish)

    job = await worker.get("a")
    (attempt,) = await attempts_of(worker, "a")
    assert (job.status, job.exit_code, job.error) == (
        Status.FAILED,
        3,
        JobError("exit_code", "it exited with code 3"),
    )
    assert (attempt.outcome, attempt.exit_code, attempt.error) == ("failed", 3, job.error)
    assert (attempt.cpu_s, attempt.peak_memory_bytes, attempt.leftovers) == (1.25, 2**33, 2)
    assert job.finished_at == attempt.finished_at == finish.finished_at
    assert job.started_at == attempt.started_at == finish.started_at


async def test_signal_is_kept_apart_from_exit_codes(worker: Worker) -> None:
    await worker.add("a")

    await worker.finish(await worker.claim_one(), None, signal=9)

    (attempt,) = await attempts_of(worker, "a")
    job = await worker.get("a")
    assert (attempt.exit_code, attempt.signal) == (None, 9)
    assert (job.status, job.exit_code) == (Status.FAILED, None)
    assert job.error is not None
    assert job.error.code == "signal"


async def test_lost_attempt_keeps_the_start_that_was_seen(worker: Worker) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()
    await worker.start(claimed)
    started_at = (await worker.get("a")).started_at

    await worker.lose(claimed)

    job = await worker.get("a")
    (attempt,) = await attempts_of(worker, "a")
    assert (job.status, attempt.outcome) == (Status.FAILED, "lost")
    assert started_at is not None
    assert (job.started_at, attempt.started_at) == (started_at, started_at)


@pytest.mark.parametrize("field", ["token", "lease", "number"])
async def test_foreign_key_writes_nothing(worker: Worker, field: str) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()
    changes: dict[str, Claimed] = {
        "token": replace(claimed, token="another"),
        "lease": replace(claimed, lease=claimed.lease + 1),
        "number": replace(claimed, number=claimed.number + 1),
    }
    before = await state(worker)

    started = await worker.start(changes[field])
    outcome = await worker.finish(changes[field])

    assert (started, outcome) == (False, None)
    assert await state(worker) == before


async def test_write_after_adoption_changes_nothing(worker: Worker, other: Worker) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()
    (adopted,) = await other.database.write(ownership.adopt, Adoption(other.id, [worker.id]))
    before = await state(worker)

    started = await worker.start(claimed)
    outcome = await worker.finish(claimed)

    assert (started, outcome) == (False, None)
    assert await state(worker) == before
    assert (adopted.token, adopted.lease) == (claimed.token, claimed.lease + 1)


async def test_adopter_can_finish(worker: Worker, other: Worker) -> None:
    await worker.add("a")
    await worker.claim()
    (adopted,) = await other.database.write(ownership.adopt, Adoption(other.id, [worker.id]))

    outcome = await other.finish(adopted)

    assert outcome is not None
    assert await worker.status("a") is Status.COMPLETED


async def test_second_end_of_an_attempt_changes_nothing(worker: Worker) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()
    await worker.finish(claimed, 0)
    before = await state(worker)

    outcome = await worker.finish(claimed, 1)

    assert outcome is None
    assert await state(worker) == before


async def test_end_of_an_earlier_attempt_leaves_the_next_one_alone(worker: Worker) -> None:
    await worker.add("a")
    first = await worker.claim_one()
    await worker.release(first)
    second = await worker.claim_one()

    outcome = await worker.finish(first)

    assert outcome is None
    assert await worker.status("a") is Status.CLAIMED
    assert second.number == 2


async def test_batch_with_a_foreign_attempt_writes_the_rest(worker: Worker) -> None:
    await worker.insert(new_job("a"), new_job("b"))
    first, second = await worker.claim()
    foreign = ending(replace(first, lease=99), End(0))

    outcomes = await worker.database.write_all(attempts.finish, [foreign, ending(second, End(0))])

    assert outcomes[0] is None
    assert [job.status for job in await worker.all()] == [Status.CLAIMED, Status.COMPLETED]


async def test_same_end_twice_in_one_batch_is_written_once(worker: Worker) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()

    outcomes = await worker.database.write_all(
        attempts.finish, [ending(claimed, End(0)), ending(claimed, End(1))]
    )

    assert outcomes[1] is None
    assert await worker.status("a") is Status.COMPLETED


@pytest.mark.parametrize("is_old_first", [True, False])
async def test_old_lease_beside_the_new_one_in_a_batch_writes_nothing(
    worker: Worker, is_old_first: bool
) -> None:
    await worker.add("a")
    old = await worker.claim_one()
    ((new,),) = await worker.database.write_all(ownership.reclaim, [(worker.id, [old.token])])
    ends = [ending(old, End(1)), ending(new, End(0))]

    outcomes = await worker.database.write_all(attempts.finish, ends if is_old_first else ends[::-1])

    assert outcomes.index(None) == (0 if is_old_first else 1)
    assert await worker.status("a") is Status.COMPLETED


async def test_same_start_twice_in_one_batch_is_told_once(worker: Worker) -> None:
    await worker.add("a")
    start = Start(key_of(await worker.claim_one()), "handle", now(), "/run")

    answers = await worker.database.write_all(attempts.start, [start, start])

    assert answers == [True, True]
    log = await worker.database.read(events.tail, 0, 100)
    assert [(event.kind, event.v) for event in log] == [("submitted", 1), ("claimed", 2), ("started", 3)]
    assert (await worker.get("a")).v == 3


async def test_what_is_said_twice_about_reach_in_one_batch_is_told_once(worker: Worker) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()
    start = Start(key_of(claimed), "handle", now(), "/run")
    unreachable = ownership.Unreachable(key_of(claimed), "its files are not there")
    await worker.start(claimed)

    await worker.database.write_all(ownership.unreachable, [unreachable, unreachable])
    await worker.database.write_all(attempts.start, [start, start])

    log = await worker.database.read(events.tail, 0, 100)
    assert [(event.kind, event.v) for event in log[3:]] == [("unreachable", 4), ("reachable", 5)]


async def test_turns_of_one_batch_end_as_the_last_one(worker: Worker) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()
    await worker.start(claimed)
    turns = [Turn(key_of(claimed), is_paused) for is_paused in (True, True, False)]

    await worker.database.write_all(attempts.turn, turns)

    log = await worker.database.read(events.tail, 0, 100)
    assert [(event.kind, event.v) for event in log[3:]] == [("paused", 4), ("resumed", 5)]
    assert await worker.status("a") is Status.RUNNING


async def test_failure_within_budget_is_due_again_later(worker: Worker) -> None:
    await worker.add("a", max_attempts=3, backoff_s=40.0)

    await worker.finish(await worker.claim_one(), 1)

    job = await worker.get("a")
    assert job.status is Status.PENDING
    assert job.due_at is not None
    assert abs(job.due_at - now() - timedelta(seconds=40)) < timedelta(seconds=10)
    assert await worker.claim() == []
    assert await worker.counts() == {Tally.PENDING: 1}


@pytest.mark.parametrize("end", [End(signal=9), End(error=JobError("lost", "nobody knows"), lost=True)])
async def test_attempt_that_ends_while_paused_is_tried_again(worker: Worker, end: End) -> None:
    await worker.insert(new_job("a", spec=replace(RUN, on_lost=OnLost.RETRY), max_attempts=2))
    claimed = await worker.claim_one()
    await worker.start(claimed)
    await worker.database.write(attempts.turn, Turn(key_of(claimed), is_paused=True))

    await worker.database.write(attempts.finish, ending(claimed, end))

    assert await worker.status("a") is Status.PENDING
    assert await worker.counts() == {Tally.PENDING: 1}


async def test_budget_of_attempts_is_spent_by_failures(worker: Worker) -> None:
    await worker.add("a", max_attempts=3, backoff_s=0.0)

    for _ in range(3):
        await worker.database.write(waiting.promote_due, 10)
        await worker.finish(await worker.claim_one(), 1)

    assert await worker.status("a") is Status.FAILED
    assert [attempt.number for attempt in await attempts_of(worker, "a")] == [1, 2, 3]


async def test_released_attempts_do_not_spend_the_budget(worker: Worker) -> None:
    await worker.add("a", max_attempts=2, backoff_s=0.0)

    for _ in range(4):
        await worker.release(await worker.claim_one())
    await worker.finish(await worker.claim_one(), 1)
    after_one_failure = await worker.status("a")
    await worker.database.write(waiting.promote_due, 10)
    await worker.finish(await worker.claim_one(), 1)

    assert after_one_failure is Status.PENDING
    assert await worker.status("a") is Status.FAILED
    tries = await attempts_of(worker, "a")
    assert [attempt.number for attempt in tries] == [1, 2, 3, 4, 5, 6]
    assert [attempt.counted for attempt in tries] == [False] * 4 + [True] * 2
    assert {attempt.outcome for attempt in tries[:4]} == {"released"}


async def test_success_after_a_retry_shows_no_error(worker: Worker) -> None:
    await worker.add("a", max_attempts=2, backoff_s=0.0)
    await worker.finish(await worker.claim_one(), 1)
    await worker.database.write(waiting.promote_due, 10)

    await worker.finish(await worker.claim_one(), 0)

    job = await worker.get("a")
    assert (job.status, job.exit_code, job.error, job.due_at) == (Status.COMPLETED, 0, None, None)


async def test_attempts_of_another_owner_are_not_adopted(worker: Worker, other: Worker) -> None:
    await worker.insert(new_job("a"), new_job("b"))
    await worker.claim(slots=1)
    (own,) = await other.claim(slots=1)

    adopted = await worker.database.write(ownership.adopt, Adoption(worker.id, ["nobody"]))

    assert adopted == []
    assert await other.start(own)


async def test_dispatchers_that_hold_attempts_are_listed(worker: Worker, other: Worker) -> None:
    await worker.add("a")
    await worker.claim()
    await worker.database.write(dispatchers.stop, worker.id)

    found = await worker.database.read(dispatchers.peers, other.id)

    assert [(peer.identity.id, peer.has_stopped) for peer in found] == [("worker", True)]
    assert await worker.database.read(dispatchers.peers, worker.id) == []


async def test_reclaim_raises_the_lease_of_live_attempts_only(worker: Worker) -> None:
    await worker.insert(new_job("a"), new_job("b"))
    live, ended = await worker.claim()
    await worker.finish(ended)
    tokens = await worker.database.read(ownership.of_dispatcher, worker.id)

    (again,) = await worker.database.write(ownership.reclaim, (worker.id, [live.token, ended.token]))

    assert tokens == {live.token: False}
    assert key_of(again) == replace(key_of(live), lease=live.lease + 1)
    assert await worker.finish(live) is None
    assert await worker.finish(again) is not None


@pytest.mark.parametrize("is_paused", [True, False])
async def test_a_paused_job_that_fails_within_its_budget_is_tried_again(
    worker: Worker, is_paused: bool
) -> None:
    """Something else may kill it, and of one that was just resumed the end may be told first."""
    await worker.add("a", max_attempts=2)
    claimed = await worker.claim_one()
    await worker.start(claimed)
    await worker.database.write(jobs.pause, "a")
    await worker.database.write(attempts.turn, attempts.Turn(key_of(claimed), is_paused=True))
    if not is_paused:
        await worker.database.write(jobs.resume, "a")

    await worker.finish(claimed, 1)

    job = await worker.get("a")
    assert (job.status, job.pause_requested_at is not None) == (Status.PENDING, is_paused)


def scheduled(claimed: Claimed, handle: str = "77") -> Schedule:
    return Schedule(key_of(claimed), handle)


async def test_attempt_in_a_foreign_queue_is_scheduled_under_its_handle(worker: Worker) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()

    # Told twice, as after an answer that was lost, it is one fact.
    assert await worker.database.write_all(attempts.schedule, [scheduled(claimed), scheduled(claimed)]) == [
        True,
        True,
    ]
    assert await worker.database.write(attempts.schedule, scheduled(claimed)) is True

    job = await worker.get("a")
    assert (job.status, job.handle, job.v) == (Status.SCHEDULED, "77", 3)
    (adopted,) = await worker.database.write(ownership.reclaim, (worker.id, [claimed.token]))
    assert adopted.handle == "77"
    log = await worker.database.read(events.tail, 0, 100)
    assert [event.kind for event in log] == ["submitted", "claimed", "scheduled"]


async def test_scheduled_attempt_starts_and_ends(worker: Worker) -> None:
    await worker.add("a")
    await worker.add("b")
    first, second = await worker.claim()
    await worker.database.write_all(attempts.schedule, [scheduled(first), scheduled(second)])

    await worker.start(first)
    await worker.finish(first)
    await worker.finish(second)

    assert [await worker.status(job) for job in ("a", "b")] == [Status.COMPLETED, Status.COMPLETED]
    log = await worker.database.read(events.tail, 0, 100)
    # Of one that ended before its start was told both facts are told at once.
    assert [event.kind for event in log if event.job_id == "b"][-3:] == ["scheduled", "started", "completed"]


async def test_scheduled_attempt_that_was_unreachable_is_reached_again(worker: Worker) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()
    await worker.database.write(attempts.schedule, scheduled(claimed))
    await worker.database.write(ownership.unreachable, ownership.Unreachable(key_of(claimed), "no way there"))
    _, why = await worker.database.read(listing.unreachable, "a") or (None, "")

    await worker.database.write(attempts.schedule, scheduled(claimed))

    assert why == "no way there"
    assert await worker.database.read(listing.unreachable, "a") is None


async def test_what_a_foreign_queue_says_of_a_waiting_attempt_is_kept_until_its_end(
    worker: Worker, other: Worker
) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()
    await worker.database.write(attempts.schedule, scheduled(claimed))
    v = (await worker.get("a")).v

    assert await worker.database.read(listing.reason, "a") == ""
    for why in ("Priority", "Resources"):
        assert await worker.database.write(attempts.explain, attempts.Reason(key_of(claimed), why)) is True
        assert await worker.database.read(listing.reason, "a") == why

    # It is no change of the job, and only whose attempt it is may write it.
    assert (await worker.get("a")).v == v
    await other.database.write(ownership.adopt, ownership.Adoption(other.id, [worker.id]))
    assert await worker.database.write(attempts.explain, attempts.Reason(key_of(claimed), "Nodes")) is False
    assert await worker.database.read(listing.reason, "a") == "Resources"


async def test_attempt_of_another_is_not_scheduled(worker: Worker, other: Worker) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()
    await other.database.write(ownership.adopt, Adoption(other.id, [worker.id]))
    before = await state(worker)

    assert await worker.database.write(attempts.schedule, scheduled(claimed)) is False
    assert await state(worker) == before

"""What is wished of jobs that wait in foreign queues: stored until those were told, and nothing of it lost."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import pytest_asyncio

from jobmgr.dispatch.admission import choose
from jobmgr.dispatch.roster import key_of
from jobmgr.domain.job import JobError
from jobmgr.domain.outcome import End
from jobmgr.domain.status import Status
from jobmgr.domain.wish import Hold, Rank, Stored
from jobmgr.errors import IllegalTransition
from jobmgr.store import attempts, claims, events, jobs, ownership
from jobmgr.store.attempts import Schedule, Start, Told, Turn
from jobmgr.store.claims import Claim, Claimed, Room
from jobmgr.store.ownership import Adoption
from jobmgr.store.transaction import Topic
from tests.store.worker import Worker, ending


@pytest_asyncio.fixture
async def claimed(worker: Worker) -> Claimed:
    """The attempt of job `a` on its way to a foreign queue."""
    await worker.site("far", "batch", "slurm")
    await worker.add("a", site="far", priority=3, max_attempts=2)
    return await claim(worker)


@pytest_asyncio.fixture
async def waiting(worker: Worker, claimed: Claimed) -> Claimed:
    """The attempt of job `a`, which waits in a foreign queue."""
    await worker.database.write(attempts.schedule, Schedule(key_of(claimed), "77"))
    return claimed


async def claim(worker: Worker) -> Claimed:
    (found,) = await worker.database.write(claims.claim, Claim(worker.id, "far", Room.elsewhere(1), choose))
    return found


@pytest_asyncio.fixture
async def running(worker: Worker, waiting: Claimed) -> Claimed:
    """The attempt of job `a`, which runs in a foreign queue."""
    await worker.database.write(attempts.start, Start(key_of(waiting), "77", datetime.now(UTC), "/w"))
    return waiting


async def turns(worker: Worker) -> list[bool]:
    """What is wished of running attempts: True to pause, False to resume."""
    return [is_pause for _, is_pause in await worker.database.read(attempts.pause_wishes, worker.id)]


async def turn(worker: Worker, claimed: Claimed, *, is_paused: bool) -> None:
    await worker.database.write(attempts.turn, Turn(key_of(claimed), is_paused))


async def untold(worker: Worker) -> list[Stored]:
    return [wished for _, wished in await worker.database.read(attempts.untold_wishes, worker.id)]


async def tell(worker: Worker, claimed: Claimed, *wishes: Stored) -> list[bool]:
    return await worker.database.write_all(
        attempts.tell, [Told(key_of(claimed), wished) for wished in wishes]
    )


async def kinds(worker: Worker) -> list[str]:
    return [event.kind for event in await worker.database.read(events.tail, 0, 100)]


async def test_hold_is_a_wish_until_the_queue_was_told(worker: Worker, waiting: Claimed) -> None:
    await worker.hold("a")
    await worker.hold("a")  # a second time it says no more
    held = await worker.get("a")
    (wished,) = await untold(worker)
    await tell(worker, waiting, wished, wished)

    assert (held.status, held.held_at is not None) == (Status.SCHEDULED, True)
    assert wished == Hold(is_held=True, v=held.v)
    assert await untold(worker) == []
    assert (await worker.get("a")).held_at == held.held_at
    assert (await kinds(worker))[-2:] == ["hold_requested", "held"]


async def test_release_is_a_wish_too_whether_the_hold_was_told_or_not(
    worker: Worker, waiting: Claimed
) -> None:
    await worker.hold("a")
    (hold,) = await untold(worker)
    await worker.unhold("a")
    # It may take back what the queue knows of its rank.
    release, rank = await untold(worker)
    # The queue took the hold after all, and that is told late.
    await tell(worker, waiting, hold)

    assert release == Hold(is_held=False, v=hold.v + 1)
    assert await untold(worker) == [release, rank]
    await tell(worker, waiting, release, rank)
    assert await untold(worker) == []
    assert (await worker.get("a")).held_at is None
    assert (await kinds(worker))[-3:] == ["release_requested", "unheld", "prioritised"]


async def test_what_was_told_does_not_stand_for_the_same_wish_made_later(
    worker: Worker, waiting: Claimed
) -> None:
    await worker.hold("a")
    (first,) = await untold(worker)
    await worker.unhold("a")
    await worker.hold("a")
    (last,) = await untold(worker)

    await tell(worker, waiting, first)

    assert await untold(worker) == [last]


async def test_changed_priority_is_told(worker: Worker, waiting: Claimed) -> None:
    await worker.update("a", priority=3)
    unchanged = await untold(worker)
    await worker.update("a", priority=-5)
    (wished,) = await untold(worker)
    await worker.update("a", priority=-6)
    (last,) = await untold(worker)
    await tell(worker, waiting, wished)

    assert unchanged == []
    assert isinstance(wished, Rank)
    assert (wished.priority, last) == (-5, Rank(-6, wished.v + 1))
    assert await untold(worker) == [last]
    await tell(worker, waiting, last)
    assert await untold(worker) == []
    assert (await kinds(worker))[-1] == "prioritised"


async def test_rank_of_what_is_held_is_told_behind_its_release(worker: Worker, waiting: Claimed) -> None:
    await worker.hold("a")
    await worker.update("a", priority=0)
    while_held = await untold(worker)
    await worker.unhold("a")

    found = await untold(worker)
    assert [type(wished) for wished in while_held] == [Hold]
    assert [type(wished) for wished in found] == [Hold, Rank]


async def test_owner_of_the_attempt_tells_and_nobody_else(
    worker: Worker, other: Worker, waiting: Claimed
) -> None:
    await other.hold("a")
    (wished,) = await untold(worker)
    before = await untold(other)
    await other.database.write(ownership.adopt, Adoption(other.id, [worker.id], [waiting.site]))

    assert before == []
    assert await untold(other) == [wished]
    assert await tell(worker, waiting, wished) == [False]
    assert await untold(other) == [wished]


async def test_job_on_its_way_is_held_once_it_is_there(worker: Worker, claimed: Claimed) -> None:
    await worker.hold("a")
    woken: set[Topic] = set()
    worker.database.on_commit(woken.update)

    await worker.database.write(attempts.schedule, Schedule(key_of(claimed), "77"))

    assert len(await untold(worker)) == 1
    # Its dispatcher may have looked for wishes before it knew of the attempt.
    assert Topic.WISH in woken


@pytest.mark.parametrize("is_told", [True, False])
async def test_hold_that_comes_too_late_is_over(worker: Worker, waiting: Claimed, *, is_told: bool) -> None:
    await worker.hold("a")
    await worker.update("a", priority=9)
    if is_told:
        await tell(worker, waiting, *await untold(worker))

    await worker.start(waiting)

    job = await worker.get("a")
    assert (job.status, job.held_at) == (Status.RUNNING, None)
    assert await untold(worker) == []
    (started,) = [
        event for event in await worker.database.read(events.tail, 0, 100) if event.kind == "started"
    ]
    assert started.data["held_at"] is None
    with pytest.raises(IllegalTransition, match="pause"):
        await worker.hold("a")


async def test_hold_of_a_job_that_ended_before_its_start_was_told_is_over(
    worker: Worker, waiting: Claimed
) -> None:
    await worker.hold("a")

    await worker.finish(waiting, 1)

    job = await worker.get("a")
    assert (job.status, job.held_at) == (Status.PENDING, None)


async def test_job_that_is_held_stays_so_when_its_attempt_is_released(
    worker: Worker, waiting: Claimed
) -> None:
    await worker.hold("a")

    await worker.release(waiting)
    held = await worker.get("a")
    await worker.unhold("a")

    assert (held.status, held.held_at is not None) == (Status.PENDING, True)
    assert (await kinds(worker))[-2:] == ["released", "unheld"]
    again = await claim(worker)
    # What was to be told of the first attempt is nothing to the second one.
    await worker.database.write(attempts.schedule, Schedule(key_of(again), "78"))
    assert await untold(worker) == []


async def test_job_that_is_held_stays_so_when_its_queue_refused_it(worker: Worker, waiting: Claimed) -> None:
    await worker.hold("a")
    refused = End(error=JobError("submit_refused", "no"))

    await worker.database.write(attempts.finish, ending(waiting, refused, started=False))

    job = await worker.get("a")
    assert (job.status, job.held_at is not None) == (Status.PENDING, True)


async def test_cancelled_job_that_is_held_ends(worker: Worker, waiting: Claimed) -> None:
    await worker.hold("a")
    await worker.cancel("a")

    await worker.release(waiting)

    assert await worker.status("a") is Status.CANCELLED
    assert await untold(worker) == []


async def test_hold_of_a_job_that_is_about_to_start_here_is_refused(worker: Worker) -> None:
    await worker.add("here")
    await worker.claim_one()

    with pytest.raises(IllegalTransition):
        await worker.hold("here")
    await worker.update("here", priority=4)
    await worker.unhold("here")

    assert await untold(worker) == []
    assert (await worker.get("here")).priority == 4


async def test_what_the_queue_suspended_is_left_alone_until_a_user_resumes_it(
    worker: Worker, running: Claimed
) -> None:
    await turn(worker, running, is_paused=True)
    suspended = await turns(worker)
    (asked,) = await worker.database.write_all(jobs.resume, ["a"])
    await worker.database.write(jobs.resume, "a")  # a second time it says no more
    wished = await turns(worker)
    await turn(worker, running, is_paused=False)

    assert (suspended, wished, await turns(worker)) == ([], [False], [])
    assert asked.status is Status.PAUSED
    assert (await worker.get("a")).status is Status.RUNNING
    assert (await kinds(worker))[-3:] == ["paused", "resume_requested", "resumed"]


async def test_pause_that_is_taken_back_before_it_was_seen_is_resumed(
    worker: Worker, running: Claimed
) -> None:
    await worker.database.write(jobs.pause, "a")
    pause = await turns(worker)
    await worker.database.write(jobs.resume, "a")
    await turn(worker, running, is_paused=True)
    resume = await turns(worker)
    await turn(worker, running, is_paused=False)
    # This time it is the queue's doing.
    await turn(worker, running, is_paused=True)

    assert (pause, resume, await turns(worker)) == ([True], [False], [])


async def test_pause_is_the_last_word_after_a_resume(worker: Worker, running: Claimed) -> None:
    await worker.database.write(jobs.pause, "a")
    await worker.database.write(jobs.resume, "a")
    await worker.database.write(jobs.pause, "a")

    assert await turns(worker) == [True]
    await turn(worker, running, is_paused=True)
    assert await turns(worker) == []


async def test_resume_is_forgotten_with_its_attempt(worker: Worker, running: Claimed) -> None:
    await turn(worker, running, is_paused=True)
    await worker.database.write(jobs.resume, "a")
    await worker.lose(running)
    await worker.database.write(jobs.retry, "a")
    again = await claim(worker)
    await worker.database.write(attempts.start, Start(key_of(again), "78", datetime.now(UTC), "/w"))

    assert await turns(worker) == []

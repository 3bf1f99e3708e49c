"""Attempts that ask for more than the one before: stored, claimed with, and shown."""

from __future__ import annotations

from typing import Any

import pytest

from jobmgr.domain.access import Sight
from jobmgr.domain.job import Attempt, JobError, JobSpec, NewJob
from jobmgr.domain.outcome import End
from jobmgr.domain.resources import Resources
from jobmgr.domain.retry import Growth, Retry
from jobmgr.domain.status import Status
from jobmgr.store import attempts, claims, events, listing, submissions, waiting
from jobmgr.store.claims import Claimed
from tests.store.worker import Worker, ending

GB = 2**30
ASKED = Resources(cpus=2, memory_bytes=2 * GB, walltime_s=60.0)
GROWTH = Growth(memory_factor=2, memory_max_bytes=6 * GB, walltime_factor=1.5)


async def submit(worker: Worker, max_attempts: int = 9) -> None:
    retry = Retry(max_attempts, 0.0, growth=GROWTH)
    spec = JobSpec(("/bin/true",), resources=ASKED, retry=retry)
    await worker.database.write(submissions.insert, [NewJob("a", spec)])


async def fail(worker: Worker, claimed: Claimed, code: str, *, started: bool = True) -> None:
    end = End(error=JobError(code, "so it ended"))
    await worker.database.write(attempts.finish, ending(claimed, end, started=started))
    await worker.database.write(waiting.promote_due, 10)


async def shown(worker: Worker) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the next attempt asks for instead, and what each attempt did."""
    spec = await worker.database.read(listing.spec, "a", Sight())
    tried: list[Attempt] = await worker.database.read(listing.attempts, "a")
    assert (spec.resources, spec.retry.growth) == (ASKED, GROWTH)
    return spec.grown.asked(), [attempt.grown.asked() for attempt in tried]


async def test_next_attempt_asks_for_what_there_was_too_little_of(worker: Worker) -> None:
    await submit(worker)
    await fail(worker, await worker.claim_one(), "out_of_memory")
    after_memory = await shown(worker)
    second = await worker.claim_one()
    await fail(worker, second, "timeout")
    third = await worker.claim_one()

    assert after_memory == ({"memory_bytes": 4 * GB}, [{}])
    assert (second.memory_bytes, second.resources.memory_bytes, second.walltime_s) == (4 * GB, 4 * GB, 60.0)
    assert (third.resources.memory_bytes, third.walltime_s, third.cpus) == (4 * GB, 90.0, 2)
    both = {"memory_bytes": 4 * GB, "walltime_s": 90.0}
    assert await shown(worker) == (both, [{}, {"memory_bytes": 4 * GB}, both])
    log = await worker.database.read(events.tail, 0, 100)
    retries = [event.data["grown"] for event in log if event.kind == "retrying"]
    assert retries == [{"memory_bytes": 4 * GB}, {"walltime_s": 90.0}]


async def test_next_service_takes_up_what_an_attempt_asked_for(worker: Worker, other: Worker) -> None:
    await submit(worker)
    await fail(worker, await worker.claim_one(), "timeout")
    claimed = await worker.claim_one()

    (loaded,) = await other.database.read(claims.load, [claimed.job])

    assert (loaded.walltime_s, loaded.resources.walltime_s) == (90.0, 90.0)


async def test_attempt_that_asks_for_more_waits_for_room(worker: Worker) -> None:
    await submit(worker)
    (first,) = await worker.claim(memory_bytes=3 * GB)
    await fail(worker, first, "out_of_memory")

    assert await worker.claim(memory_bytes=3 * GB) == []
    (second,) = await worker.claim(memory_bytes=4 * GB)
    assert second.number == 2


async def test_growth_ends_at_its_bound(worker: Worker) -> None:
    await submit(worker)

    sizes = []
    for _ in range(4):
        claimed = await worker.claim_one()
        sizes.append(claimed.memory_bytes // GB)
        await fail(worker, claimed, "out_of_memory")

    assert sizes == [2, 4, 6, 6]


@pytest.mark.parametrize(("code", "started"), [("exit_code", True), ("node_fail", True), ("timeout", False)])
async def test_other_ends_and_attempts_that_never_ran_ask_for_no_more(
    worker: Worker, code: str, *, started: bool
) -> None:
    await submit(worker)

    await fail(worker, await worker.claim_one(), code, started=started)

    assert await shown(worker) == ({}, [{}])
    assert (await worker.claim_one()).resources == ASKED


async def test_retry_by_a_user_asks_for_more_too(worker: Worker) -> None:
    await submit(worker, max_attempts=2)
    for _ in range(2):
        await fail(worker, await worker.claim_one(), "out_of_memory")
    ended = await worker.status("a")
    await worker.retry("a")

    assert ended is Status.FAILED
    assert (await worker.claim_one()).memory_bytes == 6 * GB


async def test_rules_about_memory_come_with_the_attempt(worker: Worker) -> None:
    await submit(worker)
    await worker.add("plain", priority=-1)

    growing, plain = await worker.claim()

    assert (growing.heeds_memory, plain.heeds_memory) == (True, False)

"""Claims: best first, each job to one caller, within the limits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobmgr.dispatch.admission import choose
from jobmgr.domain.job import JobSpec
from jobmgr.domain.resources import Resources
from jobmgr.domain.status import Status
from jobmgr.store import claims, listing, ownership, submissions
from jobmgr.store.claims import Claim, Claimed
from jobmgr.store.engine import Database
from jobmgr.store.ownership import Adoption
from jobmgr.store.tables import Attempt
from jobmgr.store.transaction import Transaction
from tests.store.worker import PLENTY, Worker, new_job, now


def asking(**resources: Any) -> JobSpec:
    return JobSpec(command=("/bin/true",), resources=Resources(**resources))


def ids(claimed: Sequence[Claimed]) -> list[str]:
    return [attempt.job_id for attempt in claimed]


async def test_larger_priority_first_then_order_of_submission(worker: Worker) -> None:
    priorities = {"a": 0, "b": -5, "c": 7, "d": 0, "e": 7, "f": -2_000_000_000, "g": 2_000_000_000}
    await worker.insert(*(new_job(name, priority=priority) for name, priority in priorities.items()))

    claimed = await worker.claim()

    assert ids(claimed) == ["g", "c", "e", "a", "d", "b", "f"]


async def test_order_holds_across_queues(worker: Worker) -> None:
    await worker.queue("second")
    await worker.insert(
        new_job("a", priority=1),
        new_job("b", priority=2, queue="second"),
        new_job("c", queue="second"),
        new_job("d"),
    )

    claimed = [*await worker.claim(slots=2), *await worker.claim(slots=2)]

    assert ids(claimed) == ["b", "a", "c", "d"]


@pytest.mark.parametrize("touched", [3, 40_000])
async def test_claim_sees_the_queues_that_its_own_transaction_filled(worker: Worker, touched: int) -> None:
    await worker.queue("second")
    await worker.queue("paused", paused=True)

    def fill_and_claim(tx: Transaction, _: object) -> list[list[str]]:
        for number in range(touched):
            tx.move(f"q{number}", None, Status.QUEUED)
            tx.move(f"q{number}", Status.QUEUED, None)
        submissions.insert(tx, [[new_job("a", queue="second"), new_job("b", queue="paused")]])
        return [ids(claimed) for claimed in claims.claim(tx, [Claim(worker.id, "local", PLENTY, choose)])]

    assert await worker.database.write(fill_and_claim, None) == ["a"]


async def test_claim_takes_no_more_than_its_slots(worker: Worker) -> None:
    await worker.insert(*(new_job() for _ in range(10)))

    claimed = await worker.claim(slots=3)

    assert len(claimed) == 3
    assert [job.status for job in await worker.all()].count(Status.CLAIMED) == 3


async def test_claim_makes_a_live_attempt_with_token_and_lease(worker: Worker) -> None:
    await worker.add("a")

    claimed = await worker.claim_one()

    assert (claimed.number, claimed.lease, claimed.status) == (1, 1, Status.CLAIMED)
    assert len(claimed.token) == 32
    job = await worker.get("a")
    assert (job.status, job.attempt, job.v) == (Status.CLAIMED, 1, 2)


def test_tokens_lie_in_their_index_in_the_order_of_time_and_are_not_to_be_guessed() -> None:
    first, second = (
        [claims.new_token(now() + timedelta(seconds=later)) for _ in range(20)] for later in (0, 1)
    )

    assert max(first) < min(second)
    assert {len(token) for token in (*first, *second)} == {32}
    assert len({token[12:] for token in (*first, *second)}) == 40


async def test_what_waits_for_something_is_not_claimed(worker: Worker) -> None:
    await worker.add("ready")
    await worker.add("held")
    await worker.hold("held")
    await worker.add("draft", draft=True)
    await worker.add("later", due_at=now() + timedelta(hours=1))
    await worker.add("child", after=["ready"])
    await worker.add("gone")
    await worker.cancel("gone")

    assert ids(await worker.claim()) == ["ready"]
    assert await worker.claim() == []


async def test_paused_queue_gives_nothing_until_it_is_resumed(worker: Worker) -> None:
    await worker.add("a")
    await worker.queue("default", paused=True)

    while_paused = await worker.claim()
    await worker.queue("default", paused=False)
    afterwards = await worker.claim()

    assert (ids(while_paused), ids(afterwards)) == ([], ["a"])


async def test_queue_limit_counts_what_is_live(worker: Worker) -> None:
    await worker.queue("narrow", max_running=2)
    await worker.insert(*(new_job(f"n{number}", queue="narrow") for number in range(5)), new_job("wide"))

    first = await worker.claim()
    second = await worker.claim()
    await worker.finish(first[0])
    third = await worker.claim()

    assert ids(first) == ["n0", "n1", "wide"]
    assert ids(second) == []
    assert ids(third) == ["n2"]


async def test_queue_limit_holds_among_claims_of_one_commit(worker: Worker) -> None:
    await worker.queue("narrow", max_running=3)
    await worker.insert(*(new_job(queue="narrow") for _ in range(10)))

    parts = await asyncio.gather(*(worker.claim(slots=2) for _ in range(5)))

    assert sum(len(part) for part in parts) == 3


async def test_limit_of_zero_gives_nothing(worker: Worker) -> None:
    await worker.queue("default", max_running=0)
    await worker.add("a")

    assert await worker.claim() == []


async def test_job_that_does_not_fit_is_passed_over(worker: Worker) -> None:
    await worker.insert(
        new_job("cpus", spec=asking(cpus=8)),
        new_job("memory", spec=asking(memory_bytes=2**40)),
        new_job("gpu", spec=asking(gpus=1)),
        new_job("small", spec=asking(cpus=2, memory_bytes=2**20)),
        new_job("nothing asked"),
    )

    claimed = await worker.claim(cpus=2, memory_bytes=2**30, gpus=())

    assert ids(claimed) == ["small", "nothing asked"]


async def test_claim_stays_within_the_room_in_sum(worker: Worker) -> None:
    await worker.insert(*(new_job(f"j{number}", spec=asking(cpus=2)) for number in range(4)))

    claimed = await worker.claim(cpus=5)

    assert ids(claimed) == ["j0", "j1"]


async def test_each_attempt_gets_gpus_of_its_own_out_of_the_room(worker: Worker) -> None:
    await worker.insert(
        new_job("two", spec=asking(gpus=2)),
        new_job("none"),
        new_job("three", spec=asking(gpus=3)),
        new_job("one", spec=asking(gpus=1), priority=1),
    )

    claimed = await worker.claim(gpus=("GPU-b", "GPU-a", "2", "3"))

    gpus = {attempt.job_id: attempt.gpus for attempt in claimed}
    assert gpus == {"one": ("GPU-b",), "two": ("GPU-a", "2"), "none": ()}
    shown = {name: (await worker.database.read(listing.attempts, name))[0].gpus for name in gpus}
    assert shown == gpus


async def test_adopted_attempt_keeps_its_gpus(worker: Worker, other: Worker) -> None:
    await worker.add("a", spec=asking(gpus=1))
    claimed = await worker.claim_one()

    (adopted,) = await other.database.write(ownership.adopt, Adoption(other.id, [worker.id]))

    assert adopted.gpus == claimed.gpus == ("0",)


async def test_attempt_without_named_gpus_has_none(worker: Worker, other: Worker) -> None:
    """Versions that only counted GPUs left the column empty."""
    await worker.add("a", spec=asking(gpus=1))
    claimed = await worker.claim_one()

    def forget(tx: Transaction, _: Sequence[None]) -> list[None]:
        tx.connection.execute(sa.update(Attempt).values(allocated_gpus=sa.null()))
        return [None]

    await worker.database.write(forget, None)

    (adopted,) = await other.database.write(ownership.adopt, Adoption(other.id, [worker.id]))
    (shown,) = await worker.database.read(listing.attempts, claimed.job_id)
    assert adopted.gpus == shown.gpus == ()


async def test_best_job_that_lacks_only_gpus_is_named(worker: Worker) -> None:
    await worker.insert(
        new_job("too large for this machine", spec=asking(gpus=3), priority=9),
        new_job("large", spec=asking(gpus=2)),
        new_job("small", spec=asking(gpus=1), priority=1),
    )
    room = claims.Room(4, 4, 2**30, ("1",))
    total = claims.Room(4, 4, 2**30, ("0", "1"))

    found = await worker.database.read(claims.passed_over, "local", room, total)

    assert found is not None
    assert found.job_id == "large"


async def test_best_job_that_does_not_fit_is_named(worker: Worker) -> None:
    await worker.insert(
        new_job("small", spec=asking(cpus=1)),
        new_job("large", spec=asking(cpus=4)),
        new_job("larger", spec=asking(cpus=4), priority=3),
        new_job("too large for this machine", spec=asking(cpus=64), priority=9),
    )
    room = claims.Room(4, 1, 2**30, ())
    total = claims.Room(4, 4, 2**30, ())

    found = await worker.database.read(claims.passed_over, "local", room, total)

    assert found is not None
    assert found.job_id == "larger"


async def test_room_is_kept_for_a_job_that_the_limit_of_its_queue_holds_back_if_no_other_wants_it(
    worker: Worker,
) -> None:
    room, total = claims.Room(4, 1, 2**30, ()), claims.Room(4, 4, 2**30, ())

    async def best() -> str | None:
        found = await worker.database.read(claims.passed_over, "local", room, total)
        return found.job_id if found is not None else None

    await worker.queue("narrow", max_running=1)
    await worker.insert(
        new_job("holder", queue="narrow"), new_job("next", queue="narrow", spec=asking(cpus=4), priority=5)
    )
    (holder,) = await worker.claim(cpus=0)
    alone = await best()
    await worker.insert(new_job("large", spec=asking(cpus=4)))
    beside_another = await best()
    await worker.finish(holder)

    assert [alone, beside_another, await best()] == ["next", "large", "next"]


async def test_each_job_goes_to_one_of_two_services(worker: Worker, other: Worker) -> None:
    names = {f"j{number}" for number in range(200)}
    await worker.insert(*(new_job(name) for name in sorted(names)))

    async def claim_all(one: Worker) -> list[str]:
        found: list[str] = []
        while claimed := await one.claim(slots=7):
            found += ids(claimed)
        return found

    parts = await asyncio.gather(claim_all(worker), claim_all(other), claim_all(worker), claim_all(other))

    assert sorted(name for part in parts for name in part) == sorted(names)


async def test_two_services_together_respect_a_queue_limit(worker: Worker, other: Worker) -> None:
    await worker.queue("narrow", max_running=5)
    await worker.insert(*(new_job(queue="narrow") for _ in range(60)))
    live = most = 0

    async def work(one: Worker) -> None:
        nonlocal live, most
        while any(job.status is Status.QUEUED for job in await one.all()):
            claimed = await one.claim(slots=3)
            live += len(claimed)
            most = max(most, live)
            for attempt in claimed:
                await asyncio.sleep(0)
                # Counted out before the commit, so `live` never shows more than the database allows.
                live -= 1
                await one.finish(attempt)

    async with asyncio.timeout(60):
        await asyncio.gather(work(worker), work(other))

    assert 1 <= most <= 5
    assert {job.status for job in await worker.all()} == {Status.COMPLETED}


async def test_second_live_attempt_is_refused_by_the_database(worker: Worker) -> None:
    await worker.add("a")
    claimed = await worker.claim_one()

    def insert_second(tx: Transaction, _: Sequence[None]) -> list[None]:
        values = {"job": claimed.job, "number": 2, "token": "t", "lease": 1, "dispatcher": worker.id}
        tx.connection.execute(sa.insert(Attempt).values(**values, counted=True, claimed_at=tx.now))
        return [None]

    with pytest.raises(sa.exc.IntegrityError):
        await worker.database.write(insert_second, None)


async def test_backlog_of_one_queue_does_not_hide_another(worker: Worker) -> None:
    await worker.queue("narrow", max_running=1)
    await worker.insert(*(new_job(queue="narrow", priority=5) for _ in range(50)), new_job("wide"))
    await worker.claim(slots=1)

    claimed = await worker.claim(slots=1)

    assert ids(claimed) == ["wide"]


async def test_reserved_job_is_looked_at_whatever_its_rank(worker: Worker) -> None:
    await worker.insert(*(new_job(priority=9) for _ in range(30)), new_job("large", spec=asking(cpus=4)))
    room = claims.Room(1, 4, 2**30, ())
    large = await worker.database.read(claims.passed_over, "local", claims.Room(1, 0, 2**30, ()), PLENTY)
    assert large is not None
    seen: list[str] = []

    def look(candidates: Sequence[claims.Candidate], *_: object) -> list[claims.Candidate]:
        seen.extend(candidate.job_id for candidate in candidates)
        return []

    wish = claims.Claim(worker.id, "local", room, look, reserved=large.job)
    await worker.database.write(claims.claim, wish)

    assert "large" in seen


async def test_claims_go_on_after_another_service_has_gone(worker: Worker, database_url: str) -> None:
    await worker.insert(new_job("a"), new_job("b"))
    gone = Database(database_url)
    await gone.start()
    first = await (await Worker.register(gone, "gone")).claim(slots=1)
    await gone.close()

    second = await worker.claim()

    assert (ids(first), ids(second)) == (["a"], ["b"])

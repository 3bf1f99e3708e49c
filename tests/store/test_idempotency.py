"""Changes under a key: made once, answered alike, whoever asks again and whenever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobmgr.domain.job import NewJob
from jobmgr.domain.once import Once
from jobmgr.errors import IllegalTransition, InvalidRequest, JobNotFound, KeyReused
from jobmgr.store import jobs, ownership, queues, submissions
from jobmgr.store.engine import Database
from jobmgr.store.idempotency import KEPT
from jobmgr.store.ownership import AssumeDead
from jobmgr.store.queues import LimitsChange, QueueChange
from jobmgr.store.tables import Event, Idempotency
from jobmgr.store.transaction import Transaction
from tests.store.worker import Worker, new_job

ONCE = Once("me", "k", "f")


async def kinds(worker: Worker) -> list[str]:
    """The kinds of all events."""
    return await worker.database.read(
        lambda connection: list(connection.execute(sa.select(Event.kind).order_by(Event.seq)).scalars())
    )


async def keys(worker: Worker) -> list[str]:
    """All remembered keys."""
    return await worker.database.read(
        lambda connection: sorted(connection.execute(sa.select(Idempotency.key)).scalars())
    )


async def test_a_submission_asked_for_again_stores_nothing_and_is_answered_alike(worker: Worker) -> None:
    first = await worker.database.write(submissions.insert, [new_job("a"), new_job("b")], ONCE)
    again = await worker.database.write(submissions.insert, [new_job("c"), new_job("d")], ONCE)

    assert again == first
    assert [job.job_id for job in await worker.all()] == ["a", "b"]


async def test_the_answer_is_the_first_one_whatever_happened_since(worker: Worker) -> None:
    await worker.add("a")
    held = await worker.database.write(jobs.hold, "a", ONCE)
    await worker.unhold("a")

    again = await worker.database.write(jobs.hold, "a", ONCE)

    assert again == held
    assert again.held_at is not None
    assert (await worker.get("a")).held_at is None


async def test_a_retry_asked_for_again_does_not_run_the_job_again(worker: Worker) -> None:
    await worker.add("a")
    await worker.run("a", exit_code=1)
    first = await worker.database.write(jobs.retry, "a", ONCE)
    await worker.run("a", exit_code=1)

    again = await worker.database.write(jobs.retry, "a", ONCE)

    assert again == first
    assert await worker.status("a") == "failed"


async def test_another_change_under_a_used_key_is_refused(worker: Worker) -> None:
    await worker.database.write(submissions.insert, [new_job("a")], ONCE)

    with pytest.raises(KeyReused, match="'k' was used for another request"):
        await worker.database.write(submissions.insert, [new_job("b")], Once("me", "k", "another"))

    assert [job.job_id for job in await worker.all()] == ["a"]


async def test_users_have_keys_of_their_own(worker: Worker) -> None:
    await worker.database.write(submissions.insert, [new_job("a")], ONCE)
    await worker.database.write(submissions.insert, [new_job("b")], Once("you", "k", "another"))

    assert [job.job_id for job in await worker.all()] == ["a", "b"]


async def test_what_was_refused_is_not_remembered(worker: Worker) -> None:
    await worker.add("a")
    with pytest.raises(IllegalTransition):
        await worker.database.write(jobs.retry, "a", ONCE)
    await worker.run("a", exit_code=1)

    await worker.database.write(jobs.retry, "a", ONCE)

    assert await worker.status("a") == "queued"


async def test_of_many_at_once_one_is_made_and_all_are_answered(worker: Worker) -> None:
    one = [worker.database.write(submissions.insert, [new_job(f"a{n}")], ONCE) for n in range(20)]
    others = [
        worker.database.write(submissions.insert, [new_job(f"b{n}")], Once("me", str(n), "f"))
        for n in range(20)
    ]

    answers = await asyncio.gather(*one, *others)

    assert len({answer[0].job_id for answer in answers[:20]}) == 1
    assert len(await worker.all()) == 21


async def test_of_two_different_at_once_one_is_refused(worker: Worker) -> None:
    results = await asyncio.gather(
        worker.database.write(submissions.insert, [new_job("a")], ONCE),
        worker.database.write(submissions.insert, [new_job("b")], Once("me", "k", "another")),
        return_exceptions=True,
    )

    assert [isinstance(result, KeyReused) for result in results] == [False, True]
    assert [job.job_id for job in await worker.all()] == ["a"]


async def test_an_answer_that_is_not_understood_any_more_changes_nothing(worker: Worker) -> None:
    def write_otherwise(tx: Transaction, keys: Sequence[str]) -> list[None]:
        statement = sa.update(Idempotency).where(Idempotency.key.in_(keys))
        tx.connection.execute(statement.values(answer='[{"job": "a"}]'))
        return [None] * len(keys)

    await worker.add("a")
    await worker.database.write(jobs.hold, "a", ONCE)
    await worker.unhold("a")
    await worker.database.write(write_otherwise, ONCE.key)

    with pytest.raises(KeyReused, match="another version"):
        await worker.database.write(jobs.hold, "a", ONCE)

    assert (await worker.get("a")).held_at is None


async def test_two_services_make_one_change(worker: Worker, other: Worker) -> None:
    async def submit(database: Database, number: int) -> str:
        (stored,) = await database.write(
            submissions.insert, [new_job(f"j{number}")], Once("me", str(number % 30), "f")
        )
        return stored.job_id

    databases = [worker.database, other.database]

    answers = await asyncio.gather(*(submit(databases[n % 2], n // 2 + 1000 * (n % 2)) for n in range(60)))

    assert len(set(answers)) == 30
    assert len(await worker.all()) == 30


async def test_every_change_comes_back_as_it_was_answered(worker: Worker) -> None:
    properties = {"a": 1, "b": 1.0, "c": [None, True, {"ü": "\U0001f600"}], "d": 2**60}
    await worker.add("a", extended_properties=properties, tags=("x", "y"), key="of-a", fingerprint="f")
    await worker.add("gone")
    await worker.run("gone", exit_code=1)
    await worker.queue("line")
    changes: list[tuple[Any, Any]] = [
        (jobs.hold, "a"),
        (jobs.release, "a"),
        (jobs.resume, "a"),
        (jobs.update, jobs.Change("a", {"priority": 3}, ("z",))),
        (jobs.cancel, "a"),
        (jobs.delete, "gone"),
        (queues.change, QueueChange("line", {"max_running": 3})),
        (queues.set_limits, LimitsChange("host", {"max_cpu_percent": 50.0})),
        (submissions.insert, [new_job("new")]),
    ]
    for number, (batch, item) in enumerate(changes):
        once = Once("me", str(number), "f")
        first = await worker.database.write(batch, item, once)
        assert await worker.database.write(batch, item, once) == first, batch


async def test_assuming_an_attempt_dead_is_done_once(worker: Worker) -> None:
    await worker.add("a")
    await worker.claim_one()
    await worker.database.write(ownership.unattended, worker.id)
    wish = AssumeDead("a", "me")
    first = await worker.database.write(ownership.retry_assuming_dead, wish, ONCE)

    again = await worker.database.write(ownership.retry_assuming_dead, wish, ONCE)

    assert again == first
    assert (await kinds(worker)).count("assumed_dead") == 1


async def test_keys_are_kept_for_seven_days_and_forgotten_some_at_a_time(worker: Worker) -> None:
    for number in range(6):
        await worker.database.write(submissions.insert, [new_job()], Once("me", f"old-{number}", "f"))
    await worker.database.write(_age, (["old-0", "old-1", "old-2", "old-3"], KEPT + timedelta(minutes=1)))
    # Of the first one stored the clock was wrong: it keeps no others.
    await worker.database.write(_age, (["old-4", "old-5"], KEPT - timedelta(minutes=1)))
    await worker.database.write(_age, (["old-0"], -timedelta(days=300)))

    await worker.database.write(submissions.insert, [new_job()], Once("me", "new-0", "f"))
    assert len(await keys(worker)) == 5
    await worker.database.write(submissions.insert, [new_job()], Once("me", "new-1", "f"))

    assert await keys(worker) == ["new-0", "new-1", "old-0", "old-4", "old-5"]


async def test_a_key_older_than_seven_days_is_a_new_one(worker: Worker) -> None:
    await worker.add("a")
    await worker.run("a", exit_code=1)
    await worker.database.write(jobs.retry, "a", ONCE)
    await worker.run("a", exit_code=1)
    await worker.database.write(_age, ([ONCE.key], KEPT + timedelta(minutes=1)))

    await worker.database.write(jobs.retry, "a", Once("me", ONCE.key, "another"))

    assert await worker.status("a") == "queued"
    assert await keys(worker) == [ONCE.key]


def _age(tx: Transaction, wishes: Sequence[tuple[list[str], timedelta]]) -> list[None]:
    for names, age in wishes:
        statement = sa.update(Idempotency).where(Idempotency.key.in_(names))
        tx.connection.execute(statement.values(created_at=datetime.now(UTC) - age))
    return [None] * len(wishes)


def keyed(job_id: str, key: str = "k", fingerprint: str = "f", **fields: Any) -> NewJob:
    return new_job(job_id, key=key, fingerprint=fingerprint, **fields)


async def test_a_job_with_a_key_is_stored_once(worker: Worker) -> None:
    first = await worker.insert(keyed("a"))
    again = await worker.insert(keyed("b"))

    assert again == first == ["a"]
    assert [job.key for job in await worker.all()] == ["k"]


async def test_a_job_with_a_key_is_known_after_it_ended(worker: Worker) -> None:
    await worker.insert(keyed("a"))
    await worker.run("a")

    (stored,) = await worker.database.write(submissions.insert, [keyed("b")])

    assert (stored.job_id, stored.status) == ("a", "completed")


async def test_another_job_under_a_used_key_is_refused_by_name(worker: Worker) -> None:
    await worker.insert(keyed("a"))

    with pytest.raises(KeyReused, match=r"jobs\[1\]\.key: the key 'k' was used for job 'a'") as error:
        await worker.insert(new_job("b"), keyed("c", fingerprint="another", at="jobs[1]."))

    assert error.value.field == "jobs[1].key"
    assert len(await worker.all()) == 1


async def test_of_a_bulk_only_what_is_new_is_stored(worker: Worker) -> None:
    await worker.insert(keyed("a", "1"), keyed("b", "2"))

    answers = await worker.insert(
        keyed("x", "1"), keyed("c", "3"), keyed("y", "2"), new_job("d", after=["a"])
    )

    assert answers == ["a", "c", "b", "d"]
    assert [job.job_id for job in await worker.all()] == ["a", "b", "c", "d"]


async def test_one_key_in_two_jobs_of_a_bulk_is_refused(worker: Worker) -> None:
    with pytest.raises(InvalidRequest, match=r"jobs\[1\]\.key: 'k' is the key of two jobs"):
        await worker.insert(keyed("a", at="jobs[0]."), keyed("b", at="jobs[1]."))

    assert await worker.all() == []


async def test_one_key_in_two_bulks_at_once_is_one_job(worker: Worker, other: Worker) -> None:
    databases = [worker.database, worker.database, other.database]

    answers = await asyncio.gather(
        *(databases[n % 3].write(submissions.insert, [keyed(f"a{n}")]) for n in range(30))
    )

    assert len({stored.job_id for (stored,) in answers}) == 1
    assert len(await worker.all()) == 1


async def test_users_have_job_keys_of_their_own(worker: Worker) -> None:
    await worker.insert(keyed("a", user="me"), keyed("b", user="you"))

    assert len(await worker.all()) == 2


async def test_the_key_of_a_deleted_job_is_free(worker: Worker) -> None:
    await worker.insert(keyed("a"))
    await worker.run("a")
    await worker.database.write(jobs.delete, "a")

    assert await worker.insert(keyed("b")) == ["b"]
    with pytest.raises(JobNotFound):
        await worker.get("a")

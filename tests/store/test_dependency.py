"""Dependencies: counted down with the parent's end, in its transaction."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
import pytest_asyncio
import sqlalchemy as sa

from jobmgr.domain.access import Sight
from jobmgr.domain.job import Dependency, When
from jobmgr.domain.outcome import End
from jobmgr.domain.queue import Tally
from jobmgr.domain.status import Status
from jobmgr.errors import DependencyCycle, IllegalTransition
from jobmgr.store import attempts, dependencies, events, jobs, listing, submissions
from jobmgr.store.engine import Database
from jobmgr.store.transaction import Transaction
from tests.store.worker import Worker, child_of, ending, new_job, now

FREED = Status.QUEUED
NEVER = Status.CANCELLED


@pytest.mark.parametrize(
    ("when", "exit_code", "expected"),
    [
        (When.SUCCESS, 0, FREED),
        (When.SUCCESS, 1, NEVER),
        (When.FAILURE, 0, NEVER),
        (When.FAILURE, 1, FREED),
        (When.ANY, 0, FREED),
        (When.ANY, 1, FREED),
    ],
)
@pytest.mark.parametrize("order", ["before", "after"])
async def test_condition_decides_what_becomes_of_the_dependant(
    worker: Worker, when: When, exit_code: int, expected: Status, order: str
) -> None:
    await worker.add("parent")
    if order == "after":
        await worker.run("parent", exit_code)
    await worker.insert(child_of("parent", when, "child"))
    if order == "before":
        assert await worker.status("child") is Status.PENDING
        await worker.run("parent", exit_code)

    child = await worker.get("child")

    assert child.status is expected
    if expected is NEVER:
        assert child.error is not None
        assert child.error.code == "dependency_failed"
        ended = "failed" if exit_code else "completed"
        assert child.error.message == f"it depends on the {when} of job parent, which is {ended}"
        assert child.finished_at is not None


async def test_submission_is_answered_with_where_the_dependant_is_after_its_parent_ended(
    worker: Worker,
) -> None:
    await worker.add("parent")
    await worker.run("parent")

    stored = await worker.database.write(
        submissions.insert,
        [child_of("parent", When.SUCCESS, "free"), child_of("parent", When.FAILURE, "never")],
    )

    assert [item.status for item in stored] == [FREED, NEVER]


@pytest.mark.parametrize("when", list(When))
async def test_cancelled_parent_counts_as_one_that_did_not_succeed(worker: Worker, when: When) -> None:
    await worker.insert(new_job("parent"), child_of("parent", when, "child"))

    await worker.cancel("parent")

    assert await worker.status("child") is (NEVER if when is When.SUCCESS else FREED)


async def test_dependant_waits_for_all_its_parents(worker: Worker) -> None:
    await worker.insert(new_job("a"), new_job("b"), new_job("c"), new_job("child", after=["a", "b", "c"]))
    seen = []

    for claimed in await worker.claim():
        seen.append((await worker.get("child")).deps_left)
        await worker.finish(claimed)

    assert seen == [3, 2, 1]
    assert await worker.status("child") is FREED


async def test_parents_that_end_in_one_commit_are_all_counted(worker: Worker) -> None:
    parents = [f"p{number}" for number in range(40)]
    await worker.insert(*(new_job(name) for name in parents), new_job("child", after=parents))

    await asyncio.gather(*(worker.finish(claimed) for claimed in await worker.claim()))

    child = await worker.get("child")
    assert (child.status, child.deps_left) == (FREED, 0)


async def test_parents_that_end_at_two_services_are_all_counted(worker: Worker, other: Worker) -> None:
    parents = [f"p{number}" for number in range(40)]
    children = [new_job(f"c{number}", after=parents) for number in range(10)]
    await worker.insert(*(new_job(name) for name in parents), *children)
    mine, others = await worker.claim(slots=20), await other.claim()

    await asyncio.gather(
        *(worker.finish(claimed) for claimed in mine), *(other.finish(claimed) for claimed in others)
    )

    assert {(await worker.get(child.job_id)).status for child in children} == {FREED}


async def test_dependants_are_counted_down_many_at_a_time(worker: Worker) -> None:
    await worker.add("parent")
    parent = await worker.claim_one()
    await worker.insert(*(new_job(f"c{number}", after=["parent"]) for number in range(400)))

    def count_statements(tx: Transaction, _: object) -> list[int]:
        seen: list[str] = []

        @sa.event.listens_for(tx.connection, "before_cursor_execute")
        def see(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            seen.append(statement)

        attempts.finish(tx, [ending(parent, End(0))])
        return [len(seen)]

    statements = await worker.database.write(count_statements, None)

    assert statements < 20
    assert await worker.counts() == {Tally.COMPLETED: 1, Tally.QUEUED: 400}


async def test_failure_runs_down_the_whole_chain(worker: Worker) -> None:
    chain = [new_job("j0"), *(new_job(f"j{n}", after=[f"j{n - 1}"]) for n in range(1, 30))]
    await worker.insert(*chain, child_of("j29", When.ANY, "cleanup"))

    await worker.run("j0", exit_code=1)

    found = await worker.all()
    assert [job.status for job in found] == [Status.FAILED, *[NEVER] * 29, FREED]
    assert {job.error.code for job in found[1:-1] if job.error} == {"dependency_failed"}
    assert await worker.counts() == {Tally.FAILED: 1, Tally.CANCELLED: 29, Tally.QUEUED: 1}


async def test_dependant_of_several_is_cancelled_once(worker: Worker) -> None:
    await worker.insert(new_job("a"), new_job("b"), new_job("child", after=["a", "b"]))

    await asyncio.gather(*(worker.finish(claimed, 1) for claimed in await worker.claim()))

    page = await worker.database.read(events.page, None, 100)
    assert [event.kind for event in page if event.job_id == "child"] == ["submitted", "cancelled"]


async def test_retried_parent_is_waited_for(worker: Worker) -> None:
    await worker.insert(new_job("parent", max_attempts=2, backoff_s=0.0), new_job("child", after=["parent"]))

    await worker.run("parent", exit_code=1)

    assert await worker.status("child") is Status.PENDING


@pytest.mark.parametrize(
    "waits",
    [{"a": ["a"]}, {"a": ["b"], "b": ["a"]}, {"a": ["c"], "b": ["a"], "c": ["b"], "d": ["a"]}],
    ids=["itself", "each other", "ring"],
)
async def test_cycle_is_refused_and_nothing_stored(worker: Worker, waits: dict[str, list[str]]) -> None:
    bulk = [new_job(name, after=parents) for name, parents in waits.items()]

    with pytest.raises(DependencyCycle):
        await worker.insert(new_job("good"), *bulk)

    assert await worker.all() == []


async def test_bulk_may_name_its_parents_after_their_dependants(worker: Worker) -> None:
    await worker.insert(new_job("child", after=["parent"]), new_job("parent"))

    await worker.run("parent")

    assert await worker.status("child") is FREED


async def test_dependant_is_free_in_the_commit_that_ends_its_parent(worker: Worker, other: Worker) -> None:
    """No reader ever sees the parent ended and the dependant still waiting."""
    pairs = 15
    for number in range(pairs):
        await worker.insert(new_job(f"p{number}"), new_job(f"c{number}", after=[f"p{number}"], priority=-1))
    seen: list[tuple[bool, Status]] = []

    async def look() -> None:
        while await other.status(f"c{pairs - 1}") is Status.PENDING:
            found = {job.job_id: job.status for job in await other.all()}
            seen.extend((found[f"p{n}"].is_terminal, found[f"c{n}"]) for n in range(pairs))

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(look())
        for claimed in await worker.claim(slots=pairs):
            await worker.finish(claimed)

    assert set(seen) <= {(False, Status.PENDING), (True, Status.QUEUED)}


async def test_due_time_and_dependency_are_both_waited_for(worker: Worker) -> None:
    later = now() + timedelta(hours=1)
    await worker.insert(new_job("parent"), new_job("child", after=["parent"], due_at=later))

    await worker.run("parent")

    child = await worker.get("child")
    assert (child.status, child.deps_left) == (Status.PENDING, 0)


async def test_unmet_parents_are_named(worker: Worker) -> None:
    await worker.insert(new_job("a"), new_job("b"), child_of("a", When.ANY, "child"))
    await worker.insert(
        new_job("both", depends_on=(Dependency("a"), Dependency("b", When.FAILURE))),
    )
    await worker.run("a")

    found = await worker.database.read(dependencies.unmet, "both")

    spec = await worker.database.read(listing.spec, "both", Sight())
    (job,) = await worker.database.read(listing.get, ["b"])
    assert found == [("b", job.user, "queued", "failure")]
    assert spec.depends_on == (Dependency("a", When.SUCCESS, True), Dependency("b", When.FAILURE, None))


async def test_retry_of_a_dependant_that_would_wait_for_ever_is_refused(worker: Worker) -> None:
    await worker.insert(
        new_job("good"), new_job("bad"), new_job("worse"), new_job("child", after=["good", "bad", "worse"])
    )
    for parent, exit_code in (("good", 0), ("bad", 1), ("worse", 1)):
        await worker.run(parent, exit_code)
    before = await worker.get("child")

    with pytest.raises(IllegalTransition) as refused:
        await worker.retry("child")

    assert "the success of job 'bad', which is failed, and on the success of job 'worse'" in str(
        refused.value
    )
    assert "'good'" not in str(refused.value)
    assert await worker.get("child") == before


async def test_reason_tells_no_more_of_a_parent_than_all_who_read_it_may_know(worker: Worker) -> None:
    await worker.insert(
        new_job("parent", user="ann"),
        new_job("hers", user="ann", after=["parent"]),
        new_job("his", user="ben", after=["parent"]),
    )

    await worker.run("parent", exit_code=1)

    errors = [(await worker.get(child)).error for child in ("hers", "his")]
    assert [error and error.message for error in errors] == [
        "it depends on the success of job parent, which is failed",
        "it depends on the success of another user's job, which ended otherwise",
    ]


async def test_retried_dependant_waits_again_for_a_parent_that_is_retried(worker: Worker) -> None:
    await worker.insert(new_job("parent"), new_job("child", after=["parent"]))
    await worker.run("parent", exit_code=1)

    await worker.retry("parent")
    await worker.retry("child")
    waiting = await worker.status("child")
    await worker.run("parent")

    assert waiting is Status.PENDING
    assert await worker.status("child") is FREED


async def test_retried_dependant_of_a_parent_that_completed_is_free(worker: Worker) -> None:
    await worker.insert(new_job("parent"), new_job("child", after=["parent"]))
    await worker.run("parent")
    await worker.run("child", exit_code=1)

    await worker.retry("child")

    assert await worker.status("child") is FREED


async def test_deletion_of_a_parent_meets_no_condition(worker: Worker) -> None:
    await worker.insert(new_job("good"), new_job("bad"), new_job("child", after=["good", "bad"]))
    await worker.run("good")
    await worker.run("bad", exit_code=1)
    before = await worker.get("child")
    for parent in ("bad", "good"):
        await worker.database.write(jobs.delete, parent)

    with pytest.raises(IllegalTransition, match="was deleted; submit it anew"):
        await worker.retry("child")

    assert await worker.get("child") == before


@pytest.mark.parametrize("exit_codes", [[0], [1, 0]], ids=["at once", "when it was retried"])
async def test_parent_that_ended_as_is_required_may_be_deleted_before_a_retry(
    worker: Worker, exit_codes: list[int]
) -> None:
    await worker.insert(new_job("parent"), new_job("child", after=["parent"]))
    await worker.run("parent", exit_codes[0])
    for exit_code in exit_codes[1:]:
        await worker.retry("parent")
        await worker.run("parent", exit_code)
    if await worker.status("child") is FREED:
        await worker.run("child", exit_code=1)
    await worker.database.write(jobs.delete, "parent")

    await worker.retry("child")

    assert await worker.status("child") is FREED


@pytest_asyncio.fixture
async def services(postgresql_url: str) -> AsyncIterator[tuple[Database, Database]]:
    """The databases of two services."""
    async with contextlib.AsyncExitStack() as stack:
        pair = Database(postgresql_url), Database(postgresql_url)
        for database in pair:
            await database.start()
            stack.push_async_callback(database.close)
        yield pair


async def test_parent_that_ends_while_its_dependant_is_retried_is_not_missed(
    services: tuple[Database, Database],
) -> None:
    """Two services: one retries the dependant, the other ends the parent before that is committed."""
    first, second = services
    worker = await Worker.register(first)
    finisher = await Worker.register(second, "finisher")
    await worker.insert(new_job("parent"), new_job("child", after=["parent"]))
    await worker.run("parent", exit_code=1)
    await worker.retry("parent")
    running = await finisher.claim_one()
    has_read = asyncio.Event()

    def retry_slowly(tx: Transaction, job_ids: Sequence[str]) -> Sequence[object]:
        answers = jobs.retry(tx, job_ids)
        has_read.set()
        tx.connection.execute(sa.select(sa.func.pg_sleep(0.5)))
        return answers

    retrying = asyncio.create_task(first.write(retry_slowly, "child"))
    await has_read.wait()
    await finisher.finish(running)
    await retrying

    assert await worker.status("child") is FREED


async def test_parent_that_is_deleted_while_its_dependant_is_retried_meets_no_condition(
    services: tuple[Database, Database],
) -> None:
    """Two services: one deletes a failed parent, the other retries the dependant before that is committed."""
    first, second = services
    worker = await Worker.register(first)
    await worker.insert(new_job("parent"), new_job("child", after=["parent"]))
    await worker.run("parent", exit_code=1)
    is_gone = asyncio.Event()

    def delete_slowly(tx: Transaction, job_ids: Sequence[str]) -> Sequence[object]:
        answers = jobs.delete(tx, job_ids)
        is_gone.set()
        tx.connection.execute(sa.select(sa.func.pg_sleep(0.5)))
        return answers

    deleting = asyncio.create_task(second.write(delete_slowly, "parent"))
    await is_gone.wait()
    with pytest.raises(IllegalTransition, match="was deleted; submit it anew"):
        await worker.retry("child")
    await deleting

    assert await worker.status("child") is Status.CANCELLED

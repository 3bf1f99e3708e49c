"""PostgreSQL's locks, each held open on purpose while another service gets in between.

One service writes and stays in its transaction until the other has answered or is seen to wait for a lock. Without
the lock that a test is about, the other does not wait, and what the test asserts is broken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from jobmgr.dispatch.admission import choose
from jobmgr.dispatch.roster import key_of
from jobmgr.domain.once import Once
from jobmgr.domain.status import Status
from jobmgr.store import attempts, claims, events, jobs, ownership, submissions
from jobmgr.store.attempts import Start
from jobmgr.store.claims import Claim, Claimed, Room
from jobmgr.store.engine import Database
from jobmgr.store.fence import Key, fenced
from jobmgr.store.ownership import Adoption
from jobmgr.store.transaction import Transaction
from tests.patience import eventually
from tests.postgresql import Cluster
from tests.store.worker import PLENTY, Worker, new_job, now

# A writer waits in its transaction for this lock, which the test holds.
_GATE = 4711


class Gate:
    """Keeps a transaction open until the test lets it commit."""

    def __init__(self, cluster: Cluster, url: str) -> None:
        self._cluster = cluster
        self._name = sa.make_url(url).database
        self._database = Database(url)
        self._opened = asyncio.Event()
        self._shut = asyncio.Event()

    def behind(self, batch: Callable[..., Sequence[Any]]) -> Callable[..., Sequence[Any]]:
        """`batch`, which then waits for the gate, still inside the transaction."""

        def run(tx: Transaction, items: Sequence[Any]) -> Sequence[Any]:
            answers = batch(tx, items)
            tx.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_GATE)))
            return answers

        return run

    async def race(self, slow: Coroutine[Any, Any, Any], quick: Coroutine[Any, Any, Any]) -> tuple[Any, Any]:
        """Run `slow` up to the gate, then `quick` until it has ended or waits for a lock, then open the gate."""
        await self._database.start()
        holding = asyncio.create_task(self._hold())
        await self._shut.wait()
        first = asyncio.create_task(slow)
        await eventually(lambda: self._waiting() == 1 or first.done())
        second = asyncio.create_task(quick)
        await eventually(lambda: second.done() or self._waiting() == 2)
        self._opened.set()
        answers = await first, await second
        await holding
        return answers

    async def _hold(self) -> None:

        def hold(tx: Transaction, items: Sequence[None]) -> list[None]:
            tx.connection.execute(sa.select(sa.func.pg_advisory_lock(_GATE)))
            return list(items)

        # Of the session, not of the transaction, so it outlives the commit.
        await self._database.write(hold, None)
        self._shut.set()
        await self._opened.wait()
        await self._database.close()

    def _waiting(self) -> int:
        count = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname"
        return int(self._cluster.execute(f"{count} = '{self._name}'"))


@pytest.fixture
def gate(postgresql: Cluster, postgresql_url: str) -> Gate:
    return Gate(postgresql, postgresql_url)


@pytest_asyncio.fixture
async def pair(postgresql_url: str) -> AsyncIterator[tuple[Worker, Worker]]:
    """Dispatchers of two services."""
    databases = Database(postgresql_url), Database(postgresql_url)
    for database in databases:
        await database.start()
    first, second = databases
    yield await Worker.register(first, "one"), await Worker.register(second, "two")
    for database in databases:
        await database.close()


async def test_parent_cannot_end_between_the_look_at_it_and_the_insert(
    postgresql: Cluster, postgresql_url: str, gate: Gate, pair: tuple[Worker, Worker]
) -> None:
    one, two = pair
    # Once the row is there its foreign key keeps the parent as it is.
    postgresql.execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"PERFORM pg_advisory_xact_lock({_GATE}); RETURN NULL; END $$",
        "CREATE TRIGGER wait BEFORE INSERT ON dependencies EXECUTE FUNCTION wait()",
        database=sa.make_url(postgresql_url).database or "",
    )
    await one.add("parent")
    parent = await two.claim_one()

    await gate.race(one.add("child", after=["parent"]), two.finish(parent))

    assert await one.status("child") is Status.QUEUED


async def test_two_claims_at_once_respect_the_limit_of_a_queue(
    gate: Gate, pair: tuple[Worker, Worker]
) -> None:
    one, two = pair
    await one.queue("narrow", max_running=2)
    await one.insert(*(new_job(queue="narrow") for _ in range(8)))
    wish = Claim(one.id, "local", replace(PLENTY, slots=2), choose)

    mine, others = await gate.race(one.database.write(gate.behind(claims.claim), wish), two.claim(slots=2))

    assert len(mine) + len(others) == 2


async def test_two_claims_at_once_respect_the_limit_of_a_site(
    gate: Gate, pair: tuple[Worker, Worker]
) -> None:
    one, two = pair
    await one.site("lab", "batch", "shell")
    for queue in ("a", "b"):
        await one.queue(queue)

    def submit_and_claim(tx: Transaction, wishes: Sequence[tuple[str, Claim]]) -> list[list[Claimed]]:
        # Neither sees that there is anything in the other's queue, so no lock of queues holds it up.
        submissions.insert(tx, [[new_job(queue=queue, site="lab") for _ in range(4)] for queue, _ in wishes])
        return claims.claim(tx, [wish for _, wish in wishes])

    def asked(worker: Worker, queue: str) -> tuple[str, Claim]:
        return queue, Claim(worker.id, "lab", Room.elsewhere(2), choose)

    mine, others = await gate.race(
        one.database.write(gate.behind(submit_and_claim), asked(one, "a")),
        two.database.write(submit_and_claim, asked(two, "b")),
    )

    assert len(mine) + len(others) == 2


async def test_claim_does_not_wait_for_a_submission_to_the_same_queue(
    gate: Gate, pair: tuple[Worker, Worker]
) -> None:
    one, two = pair
    await one.add("a")
    order: list[str] = []

    async def submit() -> None:
        await one.database.write(gate.behind(submissions.insert), [new_job("b")])
        order.append("submitted")

    async def claim() -> None:
        await two.claim_one()
        order.append("claimed")

    await gate.race(submit(), claim())

    assert order == ["claimed", "submitted"]


async def test_a_change_waits_for_the_same_change_of_another_service(
    gate: Gate, pair: tuple[Worker, Worker]
) -> None:
    one, two = pair
    once = Once("me", "key", "fingerprint")
    await one.add("a")
    await one.run("a", exit_code=1)

    # Without the key the second is refused, because the job has not ended any more.
    first, second = await gate.race(
        one.database.write(gate.behind(jobs.retry), "a", once), two.database.write(jobs.retry, "a", once)
    )

    assert second == first
    assert second.status is Status.QUEUED


async def test_attempt_is_not_adopted_while_its_owner_writes(gate: Gate, pair: tuple[Worker, Worker]) -> None:
    one, two = pair
    await one.add("a")
    claimed = await one.claim_one()

    def look(tx: Transaction, keys: Sequence[Key]) -> list[bool]:
        return [key in fenced(tx, keys) for key in keys]

    def look_again(tx: Transaction, keys: Sequence[Key]) -> list[bool]:
        gate.behind(look)(tx, keys)
        # What was fenced is still the caller's: the adoption waits for this transaction.
        return look(tx, keys)

    still_mine, (adopted,) = await gate.race(
        one.database.write(look_again, key_of(claimed)),
        two.database.write(ownership.adopt, Adoption(two.id, [one.id])),
    )

    assert still_mine
    assert adopted.lease == claimed.lease + 1
    assert not await one.database.write(attempts.start, Start(key_of(claimed), "handle", now(), "/run"))


async def test_reader_of_events_never_skips_one_that_commits_late(
    postgresql: Cluster, postgresql_url: str, gate: Gate, pair: tuple[Worker, Worker]
) -> None:
    one, two = pair
    # Waits between the events and the commit: there is no code of ours in between.
    name = sa.make_url(postgresql_url).database or ""
    postgresql.execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.job_id = 'late' THEN PERFORM pg_advisory_xact_lock({_GATE}); END IF; RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION wait()",
        database=name,
    )
    await one.queue("a")
    await one.queue("b")
    start = (await one.database.read(events.position)).seq
    seen: list[str | None] = []

    async def add_and_look() -> None:
        await two.add("early", queue="b")
        seen.extend(event.job_id for event in await two.database.read(events.tail, start, 10))

    await gate.race(one.add("late", queue="a"), add_and_look())

    assert seen == ["late", "early"]


async def test_read_sees_one_state_from_its_first_statement_to_its_last(
    gate: Gate, pair: tuple[Worker, Worker]
) -> None:
    one, two = pair

    def count_twice(connection: sa.Connection) -> tuple[int, int]:
        count = "SELECT count(*) FROM jobs"
        before = connection.exec_driver_sql(count).scalar_one()
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_GATE)))
        return before, connection.exec_driver_sql(count).scalar_one()

    counts, _ = await gate.race(one.database.read(count_twice), two.add())

    assert counts == (0, 0)

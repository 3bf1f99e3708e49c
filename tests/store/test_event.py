"""The event log: every fact once, in the order of commits, resumable."""

from __future__ import annotations

import asyncio

import pytest

from jobmgr.domain.job import Event, EventPosition, JobFilter
from jobmgr.domain.status import Status
from jobmgr.errors import EventsGone
from jobmgr.store import events, jobs, listing, waiting
from jobmgr.store.engine import Database
from jobmgr.store.transaction import Topic
from tests.postgresql import Cluster
from tests.store.worker import Worker, new_job


async def log(worker: Worker) -> list[Event]:
    return await worker.database.read(events.page, None, 10_000)


async def test_life_of_a_job_is_told_in_order(worker: Worker) -> None:
    await worker.add("a", name="n", max_attempts=2, backoff_s=0.0)
    first = await worker.claim_one()
    await worker.start(first)
    await worker.finish(first, 1)
    await worker.database.write(waiting.promote_due, 10)
    await worker.finish(await worker.claim_one(), 0)

    found = await log(worker)

    assert [(event.kind, event.v) for event in found] == [
        ("submitted", 1),
        ("claimed", 2),
        ("started", 3),
        ("retrying", 4),
        ("queued", 5),
        ("claimed", 6),
        ("started", 7),
        ("completed", 8),
    ]
    assert {event.job_id for event in found} == {"a"}
    assert (await worker.get("a")).v == 8


async def test_end_event_tells_how_it_ended(worker: Worker) -> None:
    await worker.add("a")
    await worker.run("a", exit_code=3)

    last = (await log(worker))[-1]

    job = await worker.get("a")
    assert last.kind == "failed"
    assert last.data["status"] == "failed"
    assert last.data["exit_code"] == 3
    assert last.data["error"] == {"code": "exit_code", "message": "it exited with code 3"}
    assert job.finished_at is not None
    assert last.data["finished_at"].startswith(job.finished_at.strftime("%Y-%m-%dT%H:%M:%S"))


async def test_refused_write_leaves_no_event(worker: Worker) -> None:
    await worker.add("a")
    before = await log(worker)

    with pytest.raises(Exception, match="exists"):
        await worker.add("a")

    assert await log(worker) == before


async def test_version_only_grows(worker: Worker) -> None:
    await worker.insert(*(new_job(f"j{number}", max_attempts=2, backoff_s=0.0) for number in range(5)))
    for exit_code in (1, 0):
        await worker.database.write(waiting.promote_due, 10)
        for claimed in await worker.claim():
            await worker.finish(claimed, exit_code)

    versions: dict[str | None, list[int]] = {}
    for event in await log(worker):
        versions.setdefault(event.job_id, []).append(event.v)

    assert all(found == list(range(1, len(found) + 1)) for found in versions.values())


async def test_reader_misses_nothing_of_two_concurrent_writers(worker: Worker, other: Worker) -> None:
    """Events are visible in the order of their numbers: `after=N` never skips one that commits later."""
    rounds = 40
    expected = {f"{one.id}-{number}" for one in (worker, other) for number in range(rounds)}
    writing = asyncio.Event()

    async def write(one: Worker) -> None:
        for number in range(rounds):
            await one.insert(new_job(f"{one.id}-{number}"))

    async def read(position: EventPosition) -> list[Event]:
        found: list[Event] = []
        last_look = False
        while not last_look:
            last_look = writing.is_set()
            for event in await worker.database.read(events.tail, position.seq, 7):
                found.append(event)
                position = EventPosition(position.epoch, event.seq)
                last_look = False
        return found

    async with asyncio.timeout(60):
        reading = asyncio.create_task(read(await worker.database.read(events.position)))
        await asyncio.gather(write(worker), write(other))
        writing.set()
        found = await reading

    seen = [event.job_id for event in found]
    assert len(seen) == len(set(seen))
    assert set(seen) == expected
    assert [event.seq for event in found] == sorted(event.seq for event in found)


async def test_pages_together_are_the_whole_log(worker: Worker) -> None:
    await worker.insert(*(new_job() for _ in range(23)))
    whole = await log(worker)
    epoch = (await worker.database.read(events.position)).epoch

    found: list[Event] = []
    while page := await worker.database.read(
        events.page, EventPosition(epoch, found[-1].seq) if found else None, 5
    ):
        found += page

    assert found == whole


async def test_position_of_a_listing_is_the_state_it_shows(worker: Worker) -> None:
    await worker.add("a")
    page = await worker.database.read(listing.page, JobFilter(), "created", 10, None)
    await worker.cancel("a")

    later = await worker.database.read(events.page, page.position, 10)

    assert [event.kind for event in later] == ["cancelled"]


@pytest.mark.parametrize("case", ["another database", "ahead"])
async def test_position_that_cannot_be_resumed_is_gone(worker: Worker, case: str) -> None:
    await worker.add("a")
    now = await worker.database.read(events.position)
    foreign = {
        "another database": EventPosition("0123456789abcdef", now.seq),
        "ahead": EventPosition(now.epoch, now.seq + 1),
    }

    with pytest.raises(EventsGone) as gone:
        await worker.database.read(events.page, foreign[case], 10)

    assert (gone.value.epoch, gone.value.seq) == (now.epoch, now.seq)


async def test_position_after_the_last_event_gives_nothing_yet(worker: Worker) -> None:
    await worker.add("a")
    now = await worker.database.read(events.position)

    assert await worker.database.read(events.page, now, 10) == []


async def test_events_of_one_job(worker: Worker) -> None:
    await worker.insert(new_job("a"), new_job("b"))
    await worker.run("a")
    key = await worker.database.read(listing.key_of, "a")

    found = await worker.database.read(events.of_job, key, 0, 100)
    rest = await worker.database.read(events.of_job, key, found[0].seq, 100)

    assert [event.kind for event in found] == ["submitted", "claimed", "started", "completed"]
    assert rest == found[1:]


async def test_events_of_a_deleted_job_stay(worker: Worker) -> None:
    await worker.add("a")
    await worker.run("a")

    await worker.database.write(jobs.delete, "a")

    assert [event.kind for event in await log(worker)][-2:] == ["completed", "deleted"]


async def test_listeners_hear_of_a_commit_what_it_may_have_changed(worker: Worker) -> None:
    heard: list[frozenset[Topic]] = []
    worker.database.on_commit(heard.append)

    await worker.add("a")
    await worker.claim()
    await worker.cancel("a")

    assert [Topic.WORK in topics for topics in heard] == [True, False, False]
    assert [Topic.WISH in topics for topics in heard] == [False, False, True]
    assert all(Topic.EVENT in topics for topics in heard)


async def test_commit_of_another_service_is_noticed(worker: Worker, other: Worker) -> None:
    noticed = asyncio.Event()
    worker.database.on_commit(lambda _: noticed.set())
    async with asyncio.TaskGroup() as group:
        noticing = group.create_task(worker.database.notice_others(0.05))
        # What is heard before the first write is of starting to listen.
        await _until_quiet(noticed)

        await other.add("a")

        async with asyncio.timeout(20):
            await noticed.wait()
        noticing.cancel()


async def _until_quiet(noticed: asyncio.Event) -> None:
    while True:
        noticed.clear()
        try:
            await asyncio.wait_for(noticed.wait(), 0.5)
        except TimeoutError:
            return


async def test_each_database_has_an_epoch_of_its_own(empty_database_url: str, worker: Worker) -> None:
    database = Database(empty_database_url + ("2" if database_is_file(empty_database_url) else ""))
    await database.upgrade()

    epoch = (await database.read(events.position)).epoch
    await database.close()

    assert epoch != (await worker.database.read(events.position)).epoch


def database_is_file(url: str) -> bool:
    return url.startswith("sqlite")


async def test_statuses_in_events_are_the_statuses_of_jobs(worker: Worker) -> None:
    await worker.insert(new_job("a"), new_job("b", after=["a"]))
    await worker.run("a", exit_code=1)

    last = {event.job_id: event.data["status"] for event in await log(worker)}

    assert last == {"a": Status.FAILED, "b": Status.CANCELLED}


@pytest.mark.parametrize(("max_running", "expected"), [(1, True), (None, False)])
async def test_end_in_a_limited_queue_wakes_the_claims(
    worker: Worker, max_running: int | None, expected: bool
) -> None:
    """The room it frees is known only after its commit."""
    await worker.queue("default", max_running=max_running)
    await worker.insert(new_job(), new_job())
    claimed = await worker.claim_one()
    heard: list[frozenset[Topic]] = []
    worker.database.on_commit(heard.append)

    await worker.finish(claimed)

    assert [Topic.WORK in topics for topics in heard] == [expected]


async def test_commit_of_another_service_before_the_first_look_is_noticed(
    worker: Worker, other: Worker
) -> None:
    await other.add("a")
    noticed = asyncio.Event()
    worker.database.on_commit(lambda _: noticed.set())

    noticing = asyncio.create_task(worker.database.notice_others(0.05))
    async with asyncio.timeout(20):
        await noticed.wait()

    noticing.cancel()
    await asyncio.gather(noticing, return_exceptions=True)


async def test_listening_goes_on_after_the_server_ended_the_connections(
    postgresql: Cluster, postgresql_url: str
) -> None:
    database = Database(postgresql_url)
    await database.start()
    await asyncio.gather(*(database.read(events.position) for _ in range(3)))
    postgresql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'jobmgr'"
    )
    heard = asyncio.Event()
    database.on_commit(lambda _: heard.set())

    noticing = asyncio.create_task(database.notice_others(3600))

    async with asyncio.timeout(20):
        await heard.wait()  # which is told when it begins to listen
    assert not noticing.done()
    noticing.cancel()
    await asyncio.gather(noticing, return_exceptions=True)
    await database.close()

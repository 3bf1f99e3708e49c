"""Which writes of a dispatcher share a commit: a commit costs as much as several jobs in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest_asyncio

from jobmgr.dispatch.admission import Admission
from jobmgr.dispatch.dispatcher import Dispatcher
from jobmgr.domain.limits import ResourceLimits
from jobmgr.executors.protocol import Ended, ExitRecord, Launch, Wanted
from jobmgr.monitor import ResourceMonitor, machine
from jobmgr.service import JobManager
from jobmgr.store import events
from jobmgr.store.dispatchers import Identity
from jobmgr.store.engine import Database
from tests.dispatch.nowhere import no_other
from tests.store.worker import Worker

SLOTS = 2
SUBMITTED = 10
SETTLE_S = 0.05


class Hands:
    """An executor whose attempts end when they are told to, and which hands over only while it may."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.may_hand_over = asyncio.Event()
        self.may_hand_over.set()

    async def start(self) -> None: ...

    async def launch(self, launches: Sequence[Launch]) -> None:
        for launch in launches:
            self.held[launch.job_id] = launch.token
            self.begun.put_nowait(launch.job_id)
        await self.may_hand_over.wait()

    async def cancel(self, token: str, grace_s: float) -> None: ...

    async def pause(self, token: str) -> None: ...

    async def resume(self, token: str) -> None: ...

    async def recover(self, launches: Sequence[Launch]) -> None: ...

    def run_directory(self, launch: Launch) -> str:
        return f"/nowhere/{launch.job_id}"

    async def missing(self, wanted: Sequence[Wanted]) -> Sequence[tuple[str, ...] | None]:
        raise AssertionError(wanted)

    async def forget(self, token: str) -> None: ...

    async def stop(self) -> None: ...

    def end_of(self, job_id: str) -> Ended:
        now = datetime.now(UTC)
        return Ended(
            self.held[job_id], ExitRecord(self.held[job_id], 0, None, None, "self", now, now, 0.1, 1, 0)
        )


@pytest_asyncio.fixture
async def hands() -> Hands:
    return Hands()


@pytest_asyncio.fixture
async def dispatcher(database: Database, hands: Hands, tmp_path: Path) -> AsyncIterator[Dispatcher]:
    identity = Identity("me", "host", "boot", "namespace", 1, 1)
    admission = Admission(machine(), ResourceLimits(max_concurrent_jobs=SLOTS))
    dispatcher = Dispatcher(database, identity, admission, ResourceMonitor(tmp_path), 1.0, hands, no_other)
    await dispatcher.start()
    yield dispatcher
    await dispatcher.stop()


async def written_at(database: Database, kind: str, job_id: str) -> datetime | None:
    """When the transaction began that told this of the job; None if nothing has."""
    told = await database.read(events.tail, 0, 1000)
    return next((event.at for event in told if (event.kind, event.job_id) == (kind, job_id)), None)


async def test_end_that_comes_while_attempts_are_handed_over_shares_the_commit_of_the_next_claim(
    database: Database, dispatcher: Dispatcher, hands: Hands
) -> None:
    worker = Worker(database, "somebody")
    for job_id in ("a", "b", "c", "d"):
        await worker.add(job_id)
    dispatcher.expect_work()
    assert {await hands.begun.get() for _ in range(SLOTS)} == {"a", "b"}
    hands.may_hand_over.clear()
    dispatcher.report(hands.end_of("a"))
    assert await hands.begun.get() == "c"

    dispatcher.report(hands.end_of("b"))
    for job_id in ("e", "f"):
        await worker.add(job_id)  # The end could have gone with these.
    hands.may_hand_over.set()

    assert await hands.begun.get() == "d"
    assert await written_at(database, "completed", "a") == await written_at(database, "claimed", "c")
    assert await written_at(database, "completed", "b") == await written_at(database, "claimed", "d")


async def test_jobs_that_are_submitted_to_an_idle_service_are_claimed_by_the_commit_that_stores_them(
    manager: JobManager,
) -> None:
    job_ids = []
    for _ in range(SUBMITTED):
        job_ids.append(await manager.submit(["true"]))
        await manager.wait(job_ids[-1], 30)
        await asyncio.sleep(SETTLE_S)

    shared = [
        await written_at(manager.database, "submitted", job_id)
        == await written_at(manager.database, "claimed", job_id)
        for job_id in job_ids
    ]

    # On a busy machine it may still have had something to write when the next one came.
    assert shared.count(True) > SUBMITTED / 2

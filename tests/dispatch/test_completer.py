"""What is reported of attempts is written, whatever is in it; nothing that was reported gets lost."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.dispatch.completer import Completer, repeat_after_s
from jobmgr.dispatch.roster import Roster
from jobmgr.dispatch.sites import Sites
from jobmgr.domain.job import JobError, JobSpec, Success
from jobmgr.domain.status import Status
from jobmgr.errors import SiteUnreachable
from jobmgr.executors.local import LocalExecutor
from jobmgr.executors.protocol import Ended, ExitRecord, Final, Wanted
from jobmgr.service import JobManager
from jobmgr.store import ownership
from jobmgr.store.claims import Claimed
from jobmgr.store.engine import Database
from jobmgr.store.transaction import Transaction
from tests.dispatch.nowhere import no_other
from tests.store.worker import Worker, new_job


@dataclass
class Desk:
    """A completer at work for a dispatcher that has claimed one attempt."""

    completer: Completer
    roster: Roster
    worker: Worker
    claimed: Claimed

    def ended(self, *, error: JobError | None = None, peak_memory_bytes: int = 1_000_000) -> Final:
        token, now = self.claimed.token, datetime.now(UTC)
        exit_code = 0 if error is None else None
        record = ExitRecord(token, exit_code, None, error, "self", now, now, 0.1, peak_memory_bytes, 0)
        return Ended(token, record)


async def at_once() -> None:
    """Nothing has to be made ready before ends are written."""


@pytest_asyncio.fixture
async def desk(database: Database, tmp_path: Path) -> AsyncIterator[Desk]:
    worker = await Worker.register(database)
    await worker.insert(new_job("job", spec=JobSpec(command=("true",))))
    (claimed,) = await worker.claim()
    roster = Roster()
    roster.add(claimed)
    work = tmp_path / os.fsdecode(b"work-\xff")
    here = LocalExecutor(work, print, base_env={})
    completer = Completer(database, roster, Sites(here, no_other), at_once)
    task = asyncio.create_task(completer.run())
    yield Desk(completer, roster, worker, claimed)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class FarAway(LocalExecutor):
    """One whose files cannot be looked for at first, for longer than a report may be refused."""

    def __init__(self, work: Path) -> None:
        super().__init__(work, print, base_env={})
        self.asked = 0

    async def missing(self, wanted: Sequence[Wanted]) -> Sequence[tuple[str, ...] | None]:
        self.asked += 1
        if self.asked < 5:
            raise SiteUnreachable("far", "the way there is closed")
        return await super().missing(wanted)


async def test_end_waits_until_required_files_can_be_looked_for(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobmgr.dispatch.outputs._AGAIN_S", 0.01)
    worker = await Worker.register(database)
    await worker.insert(new_job("job", spec=JobSpec(command=("true",), success=Success((0,), ("result",)))))
    (claimed,) = await worker.claim()
    (tmp_path / "runs" / "job" / "1").mkdir(parents=True)
    (tmp_path / "runs" / "job" / "1" / "result").touch()
    roster = Roster()
    roster.add(claimed)
    far = FarAway(tmp_path)
    completer = Completer(database, roster, Sites(far, no_other), at_once)
    task = asyncio.create_task(completer.run())

    completer.take(Desk(completer, roster, worker, claimed).ended())

    await asyncio.wait_for(roster.wait_until_empty(), 20)
    assert (await worker.get("job")).status is Status.COMPLETED
    assert far.asked == 5
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_one_question_is_asked_for_ends_that_come_together(database: Database, tmp_path: Path) -> None:
    worker = await Worker.register(database)
    spec = JobSpec(command=("true",), success=Success((0,), ("result",)))
    for name in ("one", "two", "three"):
        await worker.insert(new_job(name, spec=spec))
    roster = Roster()
    far = FarAway(tmp_path)
    far.asked = 4
    completer = Completer(database, roster, Sites(far, no_other), at_once)
    for claimed in await worker.claim(3):
        roster.add(claimed)
        completer.take(Desk(completer, roster, worker, claimed).ended())

    task = asyncio.create_task(completer.run())
    await asyncio.wait_for(roster.wait_until_empty(), 20)

    assert far.asked == 5
    assert [(await worker.get(name)).status for name in ("one", "two", "three")] == [Status.FAILED] * 3
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_required_file_with_an_impossible_name_is_missing(manager: JobManager) -> None:
    job_id = await manager.submit(["true"], success={"required_files": ["x" * 300]})

    job = await manager.wait(job_id, 20)

    assert job.error is not None
    assert job.error.code == "missing_output"


async def test_end_with_names_that_are_not_utf8_is_written(desk: Desk) -> None:
    error = JobError("cwd_not_found", "the working directory '/tmp/\udcff\0' cannot be entered")

    desk.completer.take(desk.ended(error=error))

    await asyncio.wait_for(desk.roster.wait_until_empty(), 20)
    job = await desk.worker.get("job")
    assert job.status is Status.FAILED
    assert job.error == JobError(
        "cwd_not_found", r"the working directory '/tmp/\udcff\x00' cannot be entered"
    )


async def test_end_that_stays_unwritable_fails_its_job(desk: Desk) -> None:
    desk.completer.take(desk.ended(peak_memory_bytes=2**70))  # Stands for what we did not foresee.

    await asyncio.wait_for(desk.roster.wait_until_empty(), 20)
    job = await desk.worker.get("job")
    assert job.status is Status.FAILED
    assert job.error is not None
    assert job.error.code == "internal_error"


def test_report_is_repeated_however_often_it_was_refused() -> None:
    assert [repeat_after_s(tries) for tries in (1, 2, 3, 8, 9, 5000)] == [0.25, 0.5, 1.0, 30.0, 30.0, 30.0]


async def test_end_refused_for_an_old_lease_keeps_what_was_taken_up_again(desk: Desk) -> None:
    database, old = desk.worker.database, desk.claimed
    (again,) = await database.write(ownership.reclaim, (desk.worker.id, [old.token]))
    gate = threading.Event()
    holding = asyncio.create_task(database.write(_hold_up, gate))
    await asyncio.sleep(0.05)

    desk.completer.take(desk.ended())
    await asyncio.sleep(0.05)  # The end waits for its turn with the old lease.
    desk.roster.add(again)
    gate.set()
    await holding
    await desk.completer.settle()

    assert desk.roster.get(old.token) == again
    assert (await desk.worker.get("job")).status is Status.CLAIMED
    desk.completer.take(desk.ended())
    await asyncio.wait_for(desk.roster.wait_until_empty(), 20)
    assert (await desk.worker.get("job")).status is Status.COMPLETED


def _hold_up(_tx: Transaction, gates: Sequence[threading.Event]) -> list[bool]:
    """Make other writes wait. On PostgreSQL this blocks the loop's thread, so the gate is not waited for there."""
    return [gate.wait(0.2) for gate in gates]

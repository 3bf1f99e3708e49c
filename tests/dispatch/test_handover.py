"""What becomes of attempts that an executor fails to take over: the machine may be short of anything at any moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.dispatch.admission import Admission
from jobmgr.dispatch.dispatcher import Dispatcher
from jobmgr.domain.job import JobSpec
from jobmgr.domain.limits import ResourceLimits
from jobmgr.domain.status import Status
from jobmgr.executors import process
from jobmgr.executors.local import LocalExecutor
from jobmgr.executors.protocol import Launch, Report
from jobmgr.monitor import ResourceMonitor, machine
from jobmgr.store import dispatchers
from jobmgr.store.dispatchers import Identity
from jobmgr.store.engine import Database
from tests.dispatch.nowhere import no_other
from tests.ledger import signatures, signing
from tests.patience import eventually
from tests.store.worker import Worker


class Short(LocalExecutor):
    """One that gets no thread now and then, as below a limit of processes."""

    def __init__(self, work: Path) -> None:
        super().__init__(work, self._tell, base_env={"PATH": "/usr/bin:/bin"})
        self.dispatcher: Dispatcher
        self.fails: list[str] = []
        self.handed_over: list[str] = []

    def _tell(self, report: Report) -> None:
        self.dispatcher.report(report)

    def _reach(self, step: str) -> None:
        self.handed_over.append(step)
        if self.fails and self.fails[0] == step:
            del self.fails[0]
            raise RuntimeError("can't start new thread")

    async def launch(self, launches: Sequence[Launch]) -> None:
        self._reach("before")
        await super().launch(launches)
        self._reach("after")

    async def recover(self, launches: Sequence[Launch]) -> None:
        self._reach("recover")
        await super().recover(launches)


@pytest_asyncio.fixture
async def short(database: Database, tmp_path: Path) -> AsyncIterator[Short]:
    """The executor of a dispatcher that claims."""
    executor = Short(tmp_path / "work")
    await executor.start()
    identity = Identity("me", "host", process.boot_id(), "namespace", 1, 1)
    admission = Admission(machine(), ResourceLimits(max_concurrent_jobs=2))
    monitor = ResourceMonitor(tmp_path)
    executor.dispatcher = Dispatcher(database, identity, admission, monitor, 1.0, executor, no_other)
    await executor.dispatcher.start()
    yield executor
    await executor.dispatcher.stop()


@pytest.mark.parametrize("fails", [["before"], ["after"], ["before", "recover"]], ids="-".join)
async def test_attempts_that_could_not_be_handed_over_are_taken_up_again(
    database: Database, short: Short, tmp_path: Path, fails: list[str]
) -> None:
    worker, ledger = Worker(database, "somebody"), tmp_path / "ledger"
    short.fails = fails

    job_ids = [await worker.add(spec=JobSpec(command=tuple(signing(ledger)))) for _ in range(3)]
    short.dispatcher.expect_work()

    await eventually(lambda: _have_completed(worker), timeout_s=30)
    assert sorted(signatures(ledger)) == sorted(job_ids)
    assert short.fails == []
    await short.dispatcher.roster.wait_until_empty()


async def test_nothing_is_claimed_before_what_could_not_be_taken_over_was_looked_for(
    database: Database, short: Short, tmp_path: Path
) -> None:
    """It occupies all there is room for."""
    worker, ledger = Worker(database, "gone"), tmp_path / "ledger"
    short.dispatcher.is_draining = True
    await database.write(
        dispatchers.register, Identity(worker.id, "host", process.boot_id(), "namespace", 1, 1)
    )
    job_ids = [await worker.add(spec=JobSpec(command=tuple(signing(ledger)))) for _ in range(3)]
    await worker.claim(slots=2)
    short.fails = ["recover"]
    short.dispatcher.is_draining = False

    await eventually(lambda: not short.fails, timeout_s=30)
    short.dispatcher.expect_work()

    await eventually(lambda: _have_completed(worker), timeout_s=30)
    assert sorted(signatures(ledger)) == sorted(job_ids)
    assert short.handed_over[:2] == ["recover", "recover"]


async def _have_completed(worker: Worker) -> bool:
    return {job.status for job in await worker.all()} == {Status.COMPLETED}

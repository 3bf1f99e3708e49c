"""Visits to an installation of the test's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.doctor.visit import examine
from jobmgr.domain.checkup import Check
from jobmgr.executors import census, process
from jobmgr.executors.census import Holder
from jobmgr.store.engine import Database
from tests import remnant
from tests.patience import eventually
from tests.store.worker import Worker

Visit = Callable[..., Coroutine[None, None, dict[str, Check]]]


@pytest.fixture
def visit(tmp_path: Path) -> Visit:
    """Examine the installation in `tmp_path` with this database; the checks by name."""

    async def look(database: str | None = None, *, full: bool = False, **variables: str) -> dict[str, Check]:
        environment = {"JOBMGR_HOME": str(tmp_path), **variables}
        checks = await examine({"database": database}, environment, url=None, full=full)
        return {check.name: check for check in checks}

    return look


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """Its work directory. What still runs there is ended after the test."""
    work = tmp_path / "work"
    yield work
    remnant.kill(remnant.commands(work))
    for pid in remnant.keepers(work):
        process.send_signals(
            [stat for stat in [process.read_stat(pid)] if stat], signal.SIGCONT, signal.SIGKILL
        )


def holders(work: Path) -> tuple[Holder, Holder]:
    """The warden and the only keeper."""
    found = census.crowd(work).holders
    (warden,) = [holder for holder in found if holder.is_warden]
    (keeper,) = [holder for holder in found if not holder.is_warden]
    return warden, keeper


async def kill_holders(work: Path) -> None:
    """Kill warden and keepers, so that nobody can record how their commands end."""
    warden, keeper = holders(work)
    for pid in (warden.pid, keeper.pid):
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not census.crowd(work).holders)


@pytest_asyncio.fixture
async def worker(database: Database) -> Worker:
    """A dispatcher on another machine."""
    return await Worker.register(database)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Keep a process from doing anything."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)

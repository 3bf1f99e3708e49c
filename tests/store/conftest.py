"""Dispatchers on a database, and databases with a history."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.store.engine import Batch, Database
from tests.postgresql import Cluster
from tests.store import history
from tests.store.worker import Worker


@pytest_asyncio.fixture
async def worker(database: Database) -> Worker:
    """A dispatcher of the first service."""
    return await Worker.register(database)


@pytest_asyncio.fixture
async def other(database_url: str, worker: Worker) -> AsyncIterator[Worker]:
    """A dispatcher of a second service on the same database, with connections of its own."""
    database = Database(database_url)
    await database.start()
    yield await Worker.register(database, "other")
    await database.close()


@pytest.fixture(scope="session")
def sqlite_history(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The URLs of two files with a history, without statistics and with them; tests change nothing in them."""
    folder = tmp_path_factory.mktemp("history")
    plain, analyzed = folder / "jobs.db", folder / "analyzed.db"
    shutil.copyfile(sqlite_template, plain)
    _write(f"sqlite:///{plain}", history.fill)
    shutil.copyfile(plain, analyzed)
    _write(f"sqlite:///{analyzed}", history.analyze)
    return f"sqlite:///{plain}", f"sqlite:///{analyzed}"


@pytest.fixture(scope="session")
def postgresql_history(postgresql: Cluster, postgresql_template: str) -> Iterator[tuple[str, str]]:
    """The same as two databases of the server."""
    plain, analyzed = "history", "history_analyzed"
    postgresql.execute(f"CREATE DATABASE {plain} TEMPLATE {postgresql_template}")
    _write(postgresql.url(plain), history.fill)
    postgresql.execute(f"CREATE DATABASE {analyzed} TEMPLATE {plain}")
    _write(postgresql.url(analyzed), history.analyze)
    yield postgresql.url(plain), postgresql.url(analyzed)
    postgresql.execute(f"DROP DATABASE {plain}", f"DROP DATABASE {analyzed}")


@pytest.fixture(params=["sqlite", "sqlite-analyzed", "postgresql", "postgresql-analyzed"])
def filled_url(request: pytest.FixtureRequest) -> str:
    """A database with a history, with statistics or without."""
    kind, _, is_analyzed = str(request.param).partition("-")
    plain, analyzed = request.getfixturevalue(f"{kind}_history")
    return str(analyzed if is_analyzed else plain)


@pytest_asyncio.fixture
async def filled(filled_url: str) -> AsyncIterator[Database]:
    """A started database with a history."""
    database = Database(filled_url)
    await database.start()
    yield database
    await database.close()


def _write(url: str, *batches: Batch[None, None]) -> None:
    async def write() -> None:
        database = Database(url)
        await database.start()
        for batch in batches:
            await database.write(batch, None)
        await database.close()

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(write())

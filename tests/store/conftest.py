"""Dispatchers on a database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from jobmgr.store.engine import Database
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

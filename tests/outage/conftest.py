"""Services under outages: their sites, and the databases that go away from them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from tests.crash.site import Site
from tests.outage.proxy import Proxy
from tests.patience import eventually
from tests.postgresql import Cluster, find_binaries, running_cluster

MakeSite = Callable[..., Awaitable[Site]]


@pytest.fixture(scope="package")
def own_server() -> Iterator[Cluster]:
    """A server that may be stopped: nobody else uses it."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (no initdb on the PATH or below /usr/lib/postgresql)")
    with running_cluster(binaries) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def proxy(postgresql: Cluster, postgresql_url: str) -> AsyncIterator[Proxy]:
    """A network to the server of the tests, which has nobody connected to the test's database afterwards."""
    async with Proxy(postgresql) as proxy:
        yield proxy
    name = sa.make_url(postgresql_url).database
    sessions = f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}'"
    await eventually(lambda: not postgresql.execute(sessions))


@pytest_asyncio.fixture
async def new_site(tmp_path: Path) -> AsyncIterator[MakeSite]:
    """Starts services, each with its own directories and ledger, and ends them."""
    async with AsyncExitStack() as stack:

        async def make(database: str, **options: Any) -> Site:
            site = Site(tmp_path / "site", database, **options)
            stack.push_async_callback(_close, site)
            await site.service.start()
            return site

        yield make


async def _close(site: Site) -> None:
    if site.service.is_running:
        # Not in this thread: its network may go through the loop here.
        await asyncio.to_thread(site.service.stop)
    await site.close()

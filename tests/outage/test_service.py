"""A service whose database goes away: what runs goes on, what is asked is refused, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa

from jobmgr.client import Client
from jobmgr.domain import queue
from jobmgr.store.engine import Database
from tests.crash.holder import control_file
from tests.crash.judgement import judge
from tests.crash.ledger import Plan
from tests.crash.reader import Reader
from tests.crash.site import DOUBT, Site
from tests.crash.workload import Workload
from tests.outage import door
from tests.outage.conftest import MakeSite
from tests.outage.proxy import Cut, Proxy
from tests.patience import eventually
from tests.postgresql import Cluster

_ENDS_WITHIN_S = 120.0
_NOT_ENDED = (queue.Tally.PENDING, queue.Tally.QUEUED, queue.Tally.LIVE)


async def all_ended(site: Site) -> None:
    """Wait until no job is left to run. How fast they end is the machine's; that none does for long is a fault."""
    left = len(site.plans) + 1

    async def fewer_are_left() -> bool:
        nonlocal left
        with contextlib.suppress(*DOUBT):
            queues: Sequence[queue.Queue] = await site.call("queues")
            before, left = left, sum(one.counts[tally] for one in queues for tally in _NOT_ENDED)
            return left < before or not left
        return False

    while left:
        await eventually(fewer_are_left, _ENDS_WITHIN_S)


async def submitted(site: Site, *plans: Plan) -> None:
    """Store these jobs as a careful client does: after a lost answer once more, under the same ids."""
    await eventually(partial(site.submit, *plans), _ENDS_WITHIN_S)


@asynccontextmanager
async def judged(site: Site) -> AsyncIterator[None]:
    """Read the events all the while; at the end every promise was kept, by the same process."""
    pid = site.service.pid
    reader = Reader(site.service)
    reading = asyncio.create_task(reader.read_forever())
    try:
        yield
        await all_ended(site)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    verdict = await judge(site, reader)
    assert verdict.breaches == []
    assert verdict.counts["jobs"] == len(site.plans)
    assert site.service.is_running
    assert site.service.pid == pid


@asynccontextmanager
async def followed(site: Site) -> AsyncIterator[list[int]]:
    """The numbers of all events, as one long answer brings them."""
    seen: list[int] = []
    note = seen.append
    begun = asyncio.Event()

    async def follow() -> None:
        async with Client(site.service.url) as client:
            start = (await client.list_page(limit=1)).position
            begun.set()
            async for event in client.follow_events(start):
                note(event.seq)

    following = asyncio.create_task(follow())
    try:
        await begun.wait()
        yield seen
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def has_exited(site: Site, plan: Plan) -> None:
    """Wait until the exit record of the job's only attempt is on disk."""
    await eventually(lambda: control_file(site.work, plan.job_id, 1, "exit"))


@pytest.mark.parametrize("outage_s", [2.0, pytest.param(30.0, marks=pytest.mark.slow)])
async def test_jobs_run_on_while_the_server_is_stopped(
    own_server: Cluster, new_site: MakeSite, outage_s: float
) -> None:
    url = await _new_database(own_server, f"stopped_{outage_s:.0f}")
    site = await new_site(url, slots=2)
    through, during = site.ledger.waiting("through", 3), site.ledger.waiting("during", 4)
    queued = [site.ledger.ending(f"queued-{number}", number) for number in range(3)]
    new = site.ledger.ending("new", 5)
    async with judged(site), followed(site) as seen:
        await submitted(site, through, during)
        await asyncio.gather(site.until(through, "running"), site.until(during, "running"))
        await submitted(site, *queued)

        await asyncio.to_thread(own_server.stop, is_immediate=True)
        site.ledger.let_go("during")
        await has_exited(site, during)
        back_at = time.monotonic() + outage_s
        while True:
            answers = await door.knock(site.service.url, "through", new)
            refused = {name for name, answer in answers.items() if answer.is_refusal}
            assert refused == set(answers), answers
            assert await door.is_alive(site.service.url)
            if time.monotonic() >= back_at:
                break
            await asyncio.sleep(0.2)
        submitting = site.in_background(submitted(site, new))
        await asyncio.to_thread(own_server.start)

        await submitting
        ended = await site.until(during, "failed")
        still = await site.call("get", "through")
        site.ledger.let_go("through")
        await site.until(through, "failed")
        now = (await site.call("list_page", limit=1)).position.seq
        await eventually(lambda: seen and seen[-1] >= now)
    assert ended.exit_code == 4
    assert still.status == "running"
    assert seen == sorted(set(seen))


async def _new_database(server: Cluster, name: str) -> str:
    server.execute(f"CREATE DATABASE {name}")
    database = Database(server.url(name))
    await database.upgrade()
    await database.close()
    return server.url(name)


def _draw(site: Site, seed: str, count: int) -> list[list[Plan]]:
    """Jobs in small bulks."""
    workload = Workload(site.ledger, seed)
    return [[workload.draw() for _ in range(5)] for _ in range(count // 5)]


@pytest.mark.parametrize("count", [20, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
async def test_connections_that_are_ended_at_random_lose_and_double_nothing(
    postgresql: Cluster, postgresql_url: str, new_site: MakeSite, count: int
) -> None:
    site = await new_site(postgresql_url, slots=4)
    name = sa.make_url(postgresql_url).database
    ended = 0

    async def terminate() -> None:
        nonlocal ended
        connection = await asyncpg.connect(postgresql.url("postgres"))
        await connection.execute("SELECT setseed(0.5)")
        some = f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}' AND random() < 0.5"
        try:
            while True:
                ended += len(await connection.fetch(f"SELECT pg_terminate_backend(pid) FROM ({some}) AS x"))
                await asyncio.sleep(0.2)
        finally:
            await connection.close()

    async with judged(site):
        terminating = asyncio.create_task(terminate())
        for plans in _draw(site, "terminated", count):
            await submitted(site, *plans)
        await all_ended(site)
        terminating.cancel()
        await asyncio.gather(terminating, return_exceptions=True)
    assert ended > 5


@pytest.mark.parametrize("side", Cut)
@pytest.mark.parametrize("count", [20, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
async def test_commit_whose_answer_is_lost_loses_and_doubles_nothing(
    proxy: Proxy, postgresql_url: str, new_site: MakeSite, side: Cut, count: int
) -> None:
    site = await new_site(proxy.url(postgresql_url), slots=4)
    async with judged(site):
        with proxy.cutting(side, each=3):
            for plans in _draw(site, "cut", count):
                await submitted(site, *plans)
            await all_ended(site)
    assert proxy.cuts > 5
    if side is Cut.AFTER:
        # Claims that were committed without our knowing.
        assert "taking up" in site.service.log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_failover_behind_a_network_that_falls_silent(own_server: Cluster, new_site: MakeSite) -> None:
    url = await _new_database(own_server, "failover")
    async with Proxy(own_server) as proxy:
        site = await new_site(proxy.url(url), slots=3)
        through, during = site.ledger.waiting("through", 3), site.ledger.waiting("during", 4)
        async with judged(site):
            await submitted(site, through, during)
            await asyncio.gather(site.until(through, "running"), site.until(during, "running"))

            proxy.silence()
            site.ledger.let_go("during")
            await asyncio.to_thread(own_server.stop, is_immediate=True)
            await asyncio.to_thread(own_server.start)
            proxy.restore()
            assert await door.is_alive(site.service.url)

            await submitted(site, site.ledger.ending("later", 6))
            ended = await site.until(during, "failed")
            site.ledger.let_go("through")
        await asyncio.to_thread(site.service.stop)
    assert ended.exit_code == 4
    assert "writing waits: PostgreSQL: connection was closed" in site.service.log.read_text()


async def test_file_that_another_writer_holds_is_waited_for(
    sqlite_url: str, new_site: MakeSite, tmp_path: Path
) -> None:
    site = await new_site(f"{sqlite_url}?timeout=0.3", slots=2)
    through, during = site.ledger.waiting("through", 3), site.ledger.waiting("during", 4)
    new = site.ledger.ending("new", 5)
    other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    async with judged(site):
        await submitted(site, through, during)
        await asyncio.gather(site.until(through, "running"), site.until(during, "running"))

        other.execute("BEGIN EXCLUSIVE")
        site.ledger.let_go("during")
        await has_exited(site, during)
        answers = await door.knock(site.service.url, "through", new)
        refused = {name for name, answer in answers.items() if answer.is_refusal}
        assert refused == set(door.changes("through", new)), answers  # who only reads needs no lock
        assert await door.is_alive(site.service.url)
        other.execute("ROLLBACK")

        await submitted(site, new)
        ended = await site.until(during, "failed")
        site.ledger.let_go("through")
    other.close()
    assert ended.exit_code == 4


async def test_service_stops_without_its_server_and_the_next_one_goes_on(
    own_server: Cluster, new_site: MakeSite
) -> None:
    site = await new_site(await _new_database(own_server, "abandoned"), slots=2)
    through, during = site.ledger.waiting("through", 3), site.ledger.waiting("during", 4)
    await submitted(site, through, during)
    await asyncio.gather(site.until(through, "running"), site.until(during, "running"))

    await asyncio.to_thread(own_server.stop, is_immediate=True)
    site.ledger.let_go("during")
    await has_exited(site, during)
    status = await asyncio.to_thread(site.service.stop)
    site.casualties.killed.add(site.service.who)
    await asyncio.to_thread(own_server.start)
    await site.service.start()

    async with judged(site):
        ended = await site.until(during, "failed")
        site.ledger.let_go("through")
    assert status == 0
    assert ended.exit_code == 4

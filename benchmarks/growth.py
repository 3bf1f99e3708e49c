"""What takes longer the more jobs are stored: the same on a database with few and on one with many, in turn."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import aiohttp

from benchmarks import backlog, filled, page, scratch, submit
from benchmarks.restart import first_claim
from benchmarks.service import WIDTH, Service, serving
from benchmarks.spawn import NOTHING
from benchmarks.table import Figure, Goal
from benchmarks.worker import working
from jobmgr.client import Client
from jobmgr.domain.job import JobSpec, NewJob
from jobmgr.store import events, queues, submissions
from jobmgr.store.engine import Database
from jobmgr.store.queues import QueueChange
from jobmgr.wire.submission import new_job_id

T = TypeVar("T")

_GOAL = Goal("≤", 1.3)
_FEW = filled.MIX
_BATCH = 64
_BATCHES = 10
_SUBMISSIONS = 200


@dataclass(frozen=True, slots=True)
class Place:
    """A filled database, and the home of those that serve it one after the other."""

    database: str
    home: Path


@dataclass(frozen=True, slots=True)
class Served:
    """A service on it, and a connection to that."""

    url: str
    session: aiohttp.ClientSession


async def measure(service: Service, stored: int) -> list[Figure]:
    """Milliseconds with `stored` jobs in the database, beside those with as few as the mix has."""
    few = Place(await filled.database(service, _FEW), scratch.new_directory())
    many = Place(await filled.database(service, stored), scratch.new_directory())
    found = {
        f"claim of {_BATCH} jobs": await _in_turn(_claim_ms, few, many, turns=2),
        "start to first claim": await _in_turn(_start_ms, few, many, turns=2),
    }
    async with _served(few) as served_few, _served(many) as served_many:
        for name, step, turns in (
            (f"submit, {submit.CONNECTIONS} connections", _submit_ms, 4),
            (f"page of {page.LENGTH}, newest first", _newest_ms, 100),
            (f"page of {page.LENGTH} by status and user", _filtered_ms, 100),
            (f"page of {page.LENGTH} by user", _of_user_ms, 10),
        ):
            found[name] = await _in_turn(step, served_few, served_many, turns)
    return [
        Figure(
            f"{name}, {stored:,} stored, {service.engine}",
            "ms",
            many_ms,
            few_ms,
            f"the same with {_FEW:,}",
            _GOAL,
        )
        for name, (few_ms, many_ms) in found.items()
    ]


async def _in_turn(step: Callable[[T], Awaitable[float]], few: T, many: T, turns: int) -> tuple[float, float]:
    """The medians of so many turns on each. Who is second goes first in the next turn."""
    few_ms, many_ms = [], []
    for turn in range(turns):
        if turn % 2 == 0:
            few_ms.append(await step(few))
        many_ms.append(await step(many))
        if turn % 2 == 1:
            few_ms.append(await step(few))
    return statistics.median(few_ms), statistics.median(many_ms)


async def _claim_ms(place: Place) -> float:
    """One claim of _BATCH jobs, in the store: the median of _BATCHES, while nobody serves the database."""
    took_ms = []
    name = f"claims-{secrets.token_hex(4)}"
    async with _opened(place) as database, working(database, name) as worker:
        await database.write(queues.change, QueueChange(name, {}))
        await database.write(submissions.insert, [_no_op(name) for _ in range(_BATCH * _BATCHES)])
        for _ in range(_BATCHES):
            before = time.perf_counter()
            claimed = await worker.claim(_BATCH)
            took_ms.append(1000 * (time.perf_counter() - before))
            assert len(claimed) == _BATCH
            await worker.end(claimed)
    return statistics.median(took_ms)


async def _start_ms(place: Place) -> float:
    """From the start of a service's process, its imports with it, until it has claimed what waits."""
    job = _no_op("default")
    async with _opened(place) as database:
        await database.write(submissions.insert, [job])
        position = await database.read(events.position)
    with serving(place.home, place.database, WIDTH) as service:
        claimed_at = await first_claim(service.url, position)
        async with Client(service.url) as client:
            await client.wait(job.job_id)
        return 1000 * (claimed_at - service.started_at)


async def _submit_ms(served: Served) -> float:
    queue = await backlog.new_queue(served.session, paused=True)
    bodies = [backlog.one(queue, index) for index in range(submit.WARM_UP + _SUBMISSIONS)]
    return 1000 / (await submit.load(served.url, page.PATH, bodies)).per_s


async def _newest_ms(served: Served) -> float:
    return await page.time_ms(served.session, {"limit": str(page.LENGTH)})


async def _filtered_ms(served: Served) -> float:
    return await page.time_ms(served.session, page.FILTER)


async def _of_user_ms(served: Served) -> float:
    return await page.time_ms(served.session, {"user": filled.USER, "limit": str(page.LENGTH)})


@asynccontextmanager
async def _opened(place: Place) -> AsyncIterator[Database]:
    database = Database(place.database)
    await database.start()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def _served(place: Place) -> AsyncIterator[Served]:
    with serving(place.home, place.database, WIDTH) as service:
        async with aiohttp.ClientSession(service.url) as session:
            yield Served(service.url, session)


def _no_op(queue: str) -> NewJob:
    return NewJob(new_job_id(), JobSpec((NOTHING,)), name="no-op", queue=queue)

"""Jobs end to end while somebody reads the whole database again and again with a client of his own."""

from __future__ import annotations

import asyncio
import subprocess

import aiohttp

from benchmarks import backlog, endtoend, reporting
from benchmarks.service import Service, environment, python
from benchmarks.table import Figure, Goal

_GOAL = Goal("≥", 0.9)
# So many stored jobs for each one that runs, for the report to have something to read.
_HISTORY = 10


async def measure(service: Service, count: int) -> list[Figure]:
    """Jobs per second beside a reporting query in a loop, beside nothing, and beside a process that only computes."""
    await _store(service, _HISTORY * count)
    before_per_s = await endtoend.rate(service, count)
    reported_per_s = await _beside(service, count, database_of(service))
    computed_per_s = await _beside(service, count, reporting.NOBODY)
    # Before and after, because the machine's other work comes and goes.
    alone_per_s = (before_per_s + await endtoend.rate(service, count)) / 2
    name = f"{count:,} no-op jobs end to end beside a query that reads everything, {service.engine}"
    return [
        Figure(name, "/s", reported_per_s, alone_per_s, "the same without it", _GOAL),
        Figure(f"{name}, again", "/s", reported_per_s, computed_per_s, "beside a process that only computes"),
    ]


def database_of(service: Service) -> str:
    """The URL of the service's database, for other clients."""
    return service.database or f"sqlite:///{service.home / 'jobs.db'}"


async def _store(service: Service, count: int) -> None:
    async with aiohttp.ClientSession(service.url) as session:
        queue = await backlog.new_queue(session, paused=True)
        await backlog.post_lines(session, backlog.lines(queue, count))


async def _beside(service: Service, count: int, database: str) -> float:
    process = await asyncio.create_subprocess_exec(
        *python("benchmarks.reporting", database),
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).strip() == b"ready", "the reader could not connect"
    per_s = await endtoend.rate(service, count)
    answer, _ = await process.communicate(b"")  # the end of its input
    assert process.returncode == 0, "the reader failed"
    assert int(answer) > 0, "not one report was made"
    return per_s

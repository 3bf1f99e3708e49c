"""Jobs end to end while somebody reads the whole database again and again with a client of his own."""

from __future__ import annotations

import asyncio
import subprocess

import aiohttp

from benchmarks import backlog, endtoend, reporting
from benchmarks.service import Service, environment, python
from benchmarks.skip import Skipped, last_lines
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


async def measure_yielding(service: Service, count: int) -> list[Figure]:
    """The same beside a query that gives way, as docs/scaling.md recommends. Raises Skipped where it cannot."""
    await _store(service, _HISTORY * count)
    before_per_s = await endtoend.rate(service, count)
    reported_per_s = await _beside(service, count, database_of(service), reporting.YIELDING)
    alone_per_s = (before_per_s + await endtoend.rate(service, count)) / 2
    name = f"{count:,} no-op jobs end to end beside such a query that gives way, {service.engine}"
    return [Figure(name, "/s", reported_per_s, alone_per_s, "the same without it", _GOAL)]


def database_of(service: Service) -> str:
    """The URL of the service's database, for other clients."""
    return service.database or f"sqlite:///{service.home / 'jobs.db'}"


async def _store(service: Service, count: int) -> None:
    async with aiohttp.ClientSession(service.url) as session:
        queue = await backlog.new_queue(session, paused=True)
        await backlog.post_lines(session, backlog.lines(queue, count))


async def _beside(service: Service, count: int, *asked: str) -> float:
    process = await asyncio.create_subprocess_exec(
        *python("benchmarks.reporting", *asked),
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # as from a terminal of its own, which has its own share of the processor
    )
    assert process.stdout is not None
    if (await process.stdout.readline()).decode().strip() != reporting.READY:
        _, reason = await process.communicate()
        raise Skipped(f"the reader did not begin: {last_lines(reason.decode())}")
    per_s = await endtoend.rate(service, count)
    answer, _ = await process.communicate(b"")  # the end of its input
    assert process.returncode == 0, "the reader failed"
    assert int(answer) > 0, "not one report was made"
    return per_s

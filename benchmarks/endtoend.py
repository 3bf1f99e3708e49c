"""No-op jobs from submission to recorded end, beside bare spawning."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from benchmarks import backlog, spawn
from benchmarks.service import WIDTH, Service
from benchmarks.table import Figure, Goal

_GOALS = {"SQLite": Goal("≥", 0.65), "PostgreSQL": Goal("≥", 0.55)}


async def measure(service: Service, count: int) -> list[Figure]:
    """Jobs per second, from the first byte sent until the service says that all have completed."""
    bare_before = await asyncio.to_thread(spawn.rate, count, WIDTH)
    ours_per_s = await rate(service, count)
    # Before and after, because the machine's other work comes and goes.
    bare_per_s = (bare_before + await asyncio.to_thread(spawn.rate, count, WIDTH)) / 2
    name = f"{count:,} no-op jobs end to end, width {WIDTH}, {service.engine}"
    limit_name = f"a bare posix_spawn loop, width {WIDTH}"
    return [Figure(name, "/s", ours_per_s, bare_per_s, limit_name, _GOALS[service.engine])]


async def rate(service: Service, count: int) -> float:
    """Jobs per second of this service; all of them have completed."""
    async with aiohttp.ClientSession(service.url) as session:
        queue = await backlog.new_queue(session, paused=False)
        body = backlog.lines(queue, count)
        before = time.perf_counter()
        await backlog.post_lines(session, body)
        await backlog.await_ends(session, queue, count)
        return count / (time.perf_counter() - before)

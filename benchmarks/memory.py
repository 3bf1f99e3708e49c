"""Memory of the service: with many stored jobs, and while many run to their ends. Keepers are counted apart."""

from __future__ import annotations

import asyncio
from itertools import product

import aiohttp

from benchmarks import backlog, filled, imports, page, scratch
from benchmarks.service import WIDTH, Service, resident_mb, serving
from benchmarks.table import Figure, Goal

_STORED_PER_FINISHED = 10
_PORTIONS = 10
_FIRST_PORTIONS = 2
_SIZE_GOAL = Goal("<", 1.5)
_FLAT_GOAL = Goal("≤", 1.05)
_CALLERS = 8
_WALKED_PAGES = 20
_STATUSES = ("completed", "failed", "cancelled", "queued")


async def measure(service: Service, finished: int) -> list[Figure]:
    """Megabytes with ten times as many stored jobs, and after so many more have run.

    All of its readers have been at work before the first look, so that what they keep for later is in it. What the
    writer keeps, 32 MB of an SQLite file's pages, is full after a fifth of the jobs; growth is counted from there.
    """
    stored = finished * _STORED_PER_FINISHED
    url = await filled.database(service, stored)
    imports_mb = await asyncio.to_thread(imports.memory_mb)
    with serving(scratch.new_directory(), url, WIDTH) as ours:
        async with aiohttp.ClientSession(ours.url) as session:
            await _read(session)
            stored_mb = resident_mb(ours.pid)
            grown_mb = [
                await _run(session, ours.pid, finished // _PORTIONS)
                for _ in range(_FIRST_PORTIONS + _PORTIONS)
            ]
    return [
        Figure(
            f"memory of the service, {stored:,} stored, {service.engine}",
            "MB",
            stored_mb,
            imports_mb,
            "a process with its imports",
            _SIZE_GOAL,
        ),
        Figure(
            f"memory of the service, {finished:,} finished, {service.engine}",
            "MB",
            grown_mb[-1],
            grown_mb[_FIRST_PORTIONS - 1],
            f"after the first {finished // _PORTIONS * _FIRST_PORTIONS:,}",
            _FLAT_GOAL,
        ),
    ]


async def _read(session: aiohttp.ClientSession) -> None:
    """Pages of each user and status, and for each caller a walk through the newest jobs, all at the same time."""
    async with asyncio.TaskGroup() as group:
        for status, user in product(_STATUSES, filled.USERS):
            group.create_task(_pages(session, {"status": status, "user": user}))
        for _ in range(_CALLERS):
            group.create_task(_pages(session, {}))


async def _pages(session: aiohttp.ClientSession, wanted: dict[str, str]) -> None:
    query = {**wanted, "limit": str(page.LENGTH)}
    for _ in range(_WALKED_PAGES):
        async with session.get(page.PATH, params=query) as answer:
            answer.raise_for_status()
            cursor = (await answer.json())["next_cursor"]
        if cursor is None:
            return
        query["cursor"] = cursor


async def _run(session: aiohttp.ClientSession, pid: int, count: int) -> float:
    """The service's memory after it has run so many no-op jobs."""
    queue = await backlog.new_queue(session, paused=False)
    await backlog.post_lines(session, backlog.lines(queue, count))
    await backlog.await_ends(session, queue, count)
    return resident_mb(pid)

"""Several dispatchers on one PostgreSQL, without processes: what one server carries (docs/scaling.md)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import uvloop

from benchmarks import beside, store
from benchmarks.service import Service, environment, python
from benchmarks.table import Figure

_DISPATCHERS = (1, 2, 4)


async def measure(service: Service, count: int) -> list[Figure]:
    """Jobs per second through claim, start and end, by one, two and four dispatchers, each a process of its own."""
    rates = {dispatchers: await _rate(service, count, dispatchers) for dispatchers in _DISPATCHERS}
    return [
        Figure(
            f"claim, start and finish in the store, {count:,} jobs, {dispatchers} dispatchers",
            "/s",
            rates[dispatchers],
            rates[1],
            "one dispatcher",
        )
        for dispatchers in _DISPATCHERS[1:]
    ]


async def _rate(service: Service, count: int, dispatchers: int) -> float:
    url, is_new = await beside.database(service, f"dispatchers-{dispatchers}")
    assert is_new
    await store.fill(count, url)
    began = time.perf_counter()
    await asyncio.to_thread(_run_all, url, dispatchers)
    return count / (time.perf_counter() - began)


def _run_all(url: str, dispatchers: int) -> None:
    running = [
        subprocess.Popen(python("benchmarks.dispatchers", url, f"worker-{number}"), env=environment())
        for number in range(dispatchers)
    ]
    for process in running:
        assert process.wait() == 0


if __name__ == "__main__":
    uvloop.run(store.run(sys.argv[1], sys.argv[2]))

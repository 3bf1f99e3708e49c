"""What the service uses when nobody asks anything."""

from __future__ import annotations

import asyncio
import time

from benchmarks.service import Service, cpu_s
from benchmarks.table import Figure, Goal

LIMIT_PERCENT = 0.5
_GOAL = Goal("<", 1)
_SETTLE_S = 2.0


async def measure(service: Service, seconds: float) -> list[Figure]:
    """Percent of one core over `seconds`, after everything else: with jobs in the database and none to run."""
    await asyncio.sleep(_SETTLE_S)
    before, began = cpu_s(service.pid), time.perf_counter()
    await asyncio.sleep(seconds)
    percent = 100 * (cpu_s(service.pid) - before) / (time.perf_counter() - began)
    name = f"idle service over {seconds:g} s"
    return [Figure(name, "% of a core", percent, LIMIT_PERCENT, "what was promised", _GOAL)]

"""What the service uses when nobody asks anything."""

from __future__ import annotations

import asyncio
import time

from benchmarks.service import Service, cpu_s
from benchmarks.table import Figure

LIMIT_PERCENT = 1.0
_SETTLE_S = 2.0


async def measure(service: Service, seconds: float) -> list[Figure]:
    """Percent of one core over `seconds`, after everything else: with jobs in the database and none to run."""
    await asyncio.sleep(_SETTLE_S)
    before, began = cpu_s(service.pid), time.perf_counter()
    await asyncio.sleep(seconds)
    percent = 100 * (cpu_s(service.pid) - before) / (time.perf_counter() - began)
    return [
        Figure(f"idle service over {seconds:g} s", "% of a core", percent, LIMIT_PERCENT, "what was promised")
    ]

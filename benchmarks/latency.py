"""From submission to the running command on an idle service, beside one bare spawn: the usual one, p50.

The command is `date`: it says by itself when it ran, so both sides hold the start of a real program.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path

import aiohttp

from benchmarks import scratch
from benchmarks.service import Service
from benchmarks.table import Figure, Goal, quantile

_WARM_UP = 3
_SETTLE_S = 0.05
_FORMAT = "+%s%N"
_LIMIT = "one bare posix_spawn of the same command, p50"
_SHARES = (("p50", 0.5, Goal("≤", 4)), ("p99", 0.99, Goal("≤", 20)))


async def measure(service: Service, count: int) -> list[Figure]:
    """Milliseconds from the request to the command's own look at the clock, one job at a time."""
    date = shutil.which("date")
    assert date is not None
    bare = await asyncio.to_thread(_spawn_many, date, count)
    async with aiohttp.ClientSession(service.url) as session:
        ours = [await _submit(session, date) for _ in range(_WARM_UP + count)][_WARM_UP:]
    bare += await asyncio.to_thread(_spawn_many, date, count)
    limit_ms = quantile(bare, 0.5)
    return [
        Figure(f"submit to start, idle service, {name}", "ms", quantile(ours, share), limit_ms, _LIMIT, goal)
        for name, share, goal in _SHARES
    ]


async def _submit(session: aiohttp.ClientSession, date: str) -> float:
    before_ns = time.time_ns()
    async with session.post("/api/v1/jobs", json={"command": [date, _FORMAT]}) as answer:
        answer.raise_for_status()
        job = f"/api/v1/jobs/{(await answer.json())['job_id']}"
    is_running = True
    while is_running:
        # Nothing is asked while the job starts: the service is idle but for it.
        await asyncio.sleep(_SETTLE_S)
        is_running = await _status(session, job) != "completed"
    async with session.get(f"{job}/logs/stdout") as answer:
        answer.raise_for_status()
        return (int(await answer.text()) - before_ns) / 1e6


async def _status(session: aiohttp.ClientSession, job: str) -> str:
    async with session.get(job) as answer:
        answer.raise_for_status()
        status = str((await answer.json())["status"])
    assert status != "failed", f"{job} failed"
    return status


def _spawn_many(date: str, count: int) -> list[float]:
    stdout = scratch.new_directory() / "stdout"
    return [_spawn(date, stdout) for _ in range(count)]


def _spawn(date: str, stdout: Path) -> float:
    before_ns = time.time_ns()
    output = (os.POSIX_SPAWN_OPEN, 1, str(stdout), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    pid = os.posix_spawn(date, [date, _FORMAT], os.environ, file_actions=[output])
    os.waitpid(pid, 0)
    return (int(stdout.read_text()) - before_ns) / 1e6

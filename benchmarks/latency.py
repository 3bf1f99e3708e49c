"""From submission to the running command on an idle service, beside one bare spawn.

The command is `date`: it says by itself when it ran, so both sides hold the start of a real program.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from benchmarks.service import Service
from benchmarks.table import Figure, quantile

_WARM_UP = 3
_SETTLE_S = 0.05
_FORMAT = "+%s%N"
_LIMIT = "one bare posix_spawn of the same command"


async def measure(service: Service, count: int) -> list[Figure]:
    """Milliseconds from the request to the command's own look at the clock, one job at a time."""
    date = shutil.which("date")
    assert date is not None
    bare = await asyncio.to_thread(_spawn_many, date, count)
    async with aiohttp.ClientSession(service.url) as session:
        ours = [await _submit(session, date) for _ in range(_WARM_UP + count)][_WARM_UP:]
    return [
        Figure("submit to start, idle service, p50", "ms", quantile(ours, 0.5), quantile(bare, 0.5), _LIMIT),
        Figure(
            "submit to start, idle service, p99", "ms", quantile(ours, 0.99), quantile(bare, 0.99), _LIMIT
        ),
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


def _spawn_many(date: str, count: int) -> Sequence[float]:
    with tempfile.TemporaryDirectory(prefix="jobmgr-benchmark-") as directory:
        return [_spawn(date, Path(directory) / "stdout") for _ in range(count)]


def _spawn(date: str, stdout: Path) -> float:
    before_ns = time.time_ns()
    output = (os.POSIX_SPAWN_OPEN, 1, str(stdout), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    pid = os.posix_spawn(date, [date, _FORMAT], os.environ, file_actions=[output])
    os.waitpid(pid, 0)
    return (int(stdout.read_text()) - before_ns) / 1e6

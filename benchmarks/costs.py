"""Where the processor's time goes while no-op jobs run: the service, its keepers, and the commands themselves."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path
from typing import NamedTuple

import aiohttp

from benchmarks import backlog, spawn
from benchmarks.service import WIDTH, Service
from benchmarks.table import Figure

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LIMIT = "one bare posix_spawn, parent and child"


class Cost(NamedTuple):
    """Seconds of processor time, user and system."""

    service: float
    keepers: float
    commands: float


async def measure(service: Service, count: int) -> list[Figure]:
    """Milliseconds per job. The jobs wait in a paused queue first, so that nothing else is paid for."""
    bare_s = await asyncio.to_thread(_bare_s, count)
    async with aiohttp.ClientSession(service.url) as session:
        await _run(session, 20 * WIDTH)  # After this all keepers are there.
        queue = await backlog.new_queue(session, paused=True)
        await backlog.post_lines(session, backlog.lines(queue, count))
        before = _now(service)
        await backlog.resume(session, queue)
        await backlog.await_ends(session, queue, count)
        after = _now(service)
    return [
        Figure(
            f"processor time of a no-op job: {part}",
            "ms",
            (getattr(after, part) - getattr(before, part)) * 1000 / count,
            bare_s * 1000 / count,
            _LIMIT,
        )
        for part in Cost._fields
    ]


async def _run(session: aiohttp.ClientSession, count: int) -> None:
    queue = await backlog.new_queue(session, paused=False)
    await backlog.post_lines(session, backlog.lines(queue, count))
    await backlog.await_ends(session, queue, count)


def _bare_s(count: int) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    spawn.rate(count, WIDTH)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _now(service: Service) -> Cost:
    own, _ = _times(service.pid)
    keepers = [_times(pid) for pid in _keepers(service.home)]
    return Cost(own, sum(one for one, _ in keepers), sum(commands for _, commands in keepers))


def _keepers(home: Path) -> list[int]:
    """Those whose log is this home's; the warden is among them, and does nothing meanwhile."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                log = os.readlink(f"/proc/{name}/fd/2")
                command = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if log == str(home / "work" / "keepers.log") and b"executors.warden" in command:
                found.append(int(name))
    return found


def _times(pid: int) -> tuple[float, float]:
    """Seconds of the process, and of its children that it has reaped."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # The fields after the name are numbered from 3 in proc(5): utime, stime, cutime, cstime are 14 to 17.
    own, children = (int(fields[at]) + int(fields[at + 1]) for at in (11, 13))
    return own / _TICKS_PER_S, children / _TICKS_PER_S

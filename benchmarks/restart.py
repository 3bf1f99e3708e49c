"""How soon a service that was killed claims again, with many jobs queued and many running.

`python -m benchmarks.restart [--database URL]`: needs some 12 MB of memory for each running job.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import uvloop

from benchmarks import scratch, table
from benchmarks.service import serving
from benchmarks.spawn import NOTHING
from benchmarks.table import Figure, Goal
from jobmgr.client import Client
from jobmgr.domain.job import EventPosition

LIMIT_S = 1.0
_GOAL = Goal("≤", 1)
_BULK = 50_000


async def measure(home: Path, database: str | None, queued: int, live: int) -> list[Figure]:
    """Seconds from the start of the process, its imports with it, to its first claim."""
    # They run until somebody has written to it.
    fifo = home / "fifo"
    os.mkfifo(fifo)
    with serving(home, database, live) as service:
        position = await _fill(service.url, ["cat", str(fifo)], queued, live)
        os.kill(service.pid, signal.SIGKILL)
    with serving(home, database, live + 1) as service:
        claimed_at = await first_claim(service.url, position)
        await _let_go(service.url, fifo, live)
    return [
        Figure(
            f"start to first claim, {queued:,} queued and {live:,} live",
            "s",
            claimed_at - service.started_at,
            LIMIT_S,
            "what was promised",
            _GOAL,
        ),
    ]


async def _fill(url: str, command: list[str], queued: int, live: int) -> EventPosition:
    """Have so many jobs run, and so many wait behind them; the position of the last event."""
    async with Client(url) as client:
        await client.submit_many([{"command": command, "name": "live"}] * live)
        while (page := await client.list_page(status=["running"], limit=1, total=True)).total != live:
            print(f"{page.total} of {live} run", end="\r", file=sys.stderr, flush=True)
            await asyncio.sleep(0.5)
        for start in range(0, queued, _BULK):
            await client.submit_many([{"command": [NOTHING]}] * min(_BULK, queued - start))
        return (await client.list_page(limit=1)).position


async def first_claim(url: str, after: EventPosition) -> float:
    """When the first attempt after this event was claimed, by the clock of this machine in seconds."""
    async with Client(url) as client:
        async for event in client.follow_events(after):
            if event.kind == "claimed":
                return event.at.timestamp()
    raise AssertionError("unreachable")


async def _let_go(url: str, fifo: Path, live: int) -> None:
    async with Client(url) as client:
        while (page := await client.list_page(name="live", status=["running"], limit=1, total=True)).total:
            # Whoever has opened it by now reads its end; ENXIO: nobody has.
            with contextlib.suppress(OSError):
                os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
            await asyncio.sleep(0.2)
        assert page.total == 0
        done = await client.list_page(name="live", status=["completed"], limit=1, total=True)
        assert done.total == live, f"{done.total} of {live} live jobs completed"


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.restart", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--live", type=int, default=1000)
    parser.add_argument("--database", metavar="URL", help="an empty PostgreSQL database")
    asked = parser.parse_args()
    home = scratch.new_directory()
    print(table.text(uvloop.run(measure(home, asked.database, asked.queued, asked.live))))


if __name__ == "__main__":
    main()

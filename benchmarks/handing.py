"""Handing jobs in at a real SLURM: one by one and as arrays, beside a plain loop of `sbatch`.

`python -m benchmarks.handing` uses the SLURM whose commands are on PATH, and this user's right to submit there. The
jobs would begin in an hour, and are cancelled before. The work directory must be one that its nodes need not see.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import time
from contextlib import aclosing
from typing import Any

import uvloop

from benchmarks import scratch, table
from benchmarks.service import serving
from benchmarks.spawn import NOTHING
from benchmarks.table import Figure, Goal
from jobmgr.client import Client

_LATER = "--begin=now+1hour"
_GOAL = Goal("≥", 1)


async def measure(count: int) -> list[Figure]:
    """Jobs per second until the scheduler has all of them, and how many submissions that took."""
    with serving(scratch.new_directory(), None, 1) as service:
        async with Client(service.url) as client:
            await client.put_site("slurm", kind="slurm", max_submitted=2 * count)
            before_s = await asyncio.to_thread(_plain_s, count)
            # Their time limits differ, so that no two of them are alike.
            alone_s, alone = await _ours_s(client, [f"{60 + number}m" for number in range(count)])
            alike_s, alike = await _ours_s(client, ["60m"] * count)
            plain_s = (before_s + await asyncio.to_thread(_plain_s, count)) / 2
    plain_per_s = count / plain_s
    return [
        Figure(name, "/s", per_s, plain_per_s, "a plain loop of sbatch, one after the other", _GOAL)
        for name, per_s in (
            (f"hand in {count:,} jobs one by one, {alone} submissions", count / alone_s),
            (f"hand in {count:,} like jobs, {alike} submissions", count / alike_s),
        )
    ]


async def _ours_s(client: Client, walltimes: list[str]) -> tuple[float, int]:
    """From the request until all have a handle; and how many submissions these are."""
    jobs: list[dict[str, Any]] = [
        {
            "command": [NOTHING],
            "site": "slurm",
            "resources": {"walltime": walltime, "directives": [_LATER]},
        }
        for walltime in walltimes
    ]
    start = (await client.list_page(limit=1)).position
    before = time.perf_counter()
    ids = set(await client.submit_many(jobs))
    submissions: set[str] = set()
    waiting = set(ids)
    async with aclosing(client.follow_events(start)) as events:
        async for event in events:
            if event.kind == "scheduled" and event.job_id is not None:
                waiting.discard(event.job_id)
                submissions.add(str(event.data["handle"]).partition("_")[0])
            if not waiting:
                break
    took_s = time.perf_counter() - before
    # One after the other: a thousand connections at once are another matter.
    for job_id in ids:
        await client.cancel(job_id)
    await client.wait_many(list(ids))
    return took_s, len(submissions)


def _plain_s(count: int) -> float:
    home = scratch.new_directory()
    script = home / "script"
    script.write_text(f"#!/bin/sh\n#SBATCH {_LATER}\nexec {NOTHING}\n")
    before = time.perf_counter()
    ids = [
        subprocess.run(
            ["sbatch", "--parsable", str(script)], cwd=home, capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(count)
    ]
    took_s = time.perf_counter() - before
    subprocess.run(["scancel", *ids], check=True)
    return took_s


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.handing", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--jobs", type=int, default=1000)
    asked = parser.parse_args()
    print(table.text(uvloop.run(measure(asked.jobs))))


if __name__ == "__main__":
    main()

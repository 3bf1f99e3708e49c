"""Measures a real service on this machine: `python -m benchmarks.run`. Quiet the machine first.

Each figure stands beside its limit, measured in the same run: what the machine does without jobmgr. The
service is a process of its own; the callers are this process.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import uvloop

from benchmarks import bulk, endtoend, idle, latency, service, store, submit, table
from benchmarks.service import Service
from benchmarks.table import Figure

Measure = Callable[[Service, int], Awaitable[list[Figure]]]


class Part(NamedTuple):
    """One measurement, and how large it is: jobs, or seconds for `idle`."""

    measure: Measure
    full: int
    quick: int
    rounds: int = 3


_PARTS = {
    "submit": Part(submit.measure, full=4000, quick=800),
    "bulk": Part(bulk.measure, full=20_000, quick=5000),
    "store": Part(store.measure, full=100_000, quick=5000, rounds=1),
    "endtoend": Part(endtoend.measure, full=2000, quick=500),
    "latency": Part(latency.measure, full=100, quick=20),
    "idle": Part(idle.measure, full=10, quick=5, rounds=1),
}


def main() -> None:
    """Run the parts asked for and print the table."""
    asked = _arguments()
    about = {**table.machine(), "database": "postgresql" if asked.database else "sqlite"}
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    figures: list[Figure] = []
    with service.running(asked.database) as running:
        for name in asked.only or _PARTS:
            figures += _median_of_rounds(name, running, is_quick=asked.quick)
    print(table.text(figures))
    if asked.json is not None:
        asked.json.write_text(json.dumps(table.document(figures, about), indent=2) + "\n")


def _median_of_rounds(name: str, running: Service, *, is_quick: bool) -> list[Figure]:
    part = _PARTS[name]
    rounds = 1 if is_quick else part.rounds
    results = []
    for number in range(1, rounds + 1):
        print(f"{name}, round {number} of {rounds}", file=sys.stderr, flush=True)
        results.append(uvloop.run(_run(part.measure, running, part.quick if is_quick else part.full)))
    return table.medians(results)


async def _run(measure: Measure, running: Service, size: int) -> list[Figure]:
    return await measure(running, size)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes, one round, under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--database",
        metavar="URL",
        help="serve this PostgreSQL database, made for the purpose: jobs and limits stay in it "
        "(default: a temporary SQLite file)",
    )
    parser.add_argument("--only", nargs="+", choices=_PARTS, metavar="PART", help=f"of {', '.join(_PARTS)}")
    return parser.parse_args()


if __name__ == "__main__":
    main()

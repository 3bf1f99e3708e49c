"""Measures a real service on this machine: `python -m benchmarks.run`. Quiet the machine first.

Each figure stands beside its limit, measured in the same run: what the machine does without jobmgr, or what a
peer does. The ratio of the two is what has a goal. The service is a process of its own; the callers are this
process. Without options the parts run on SQLite and those that have a goal for it on PostgreSQL too, on a
private server. `--peers` runs other programs of this kind beside ours: each is installed with pip into an
environment of its own below ~/.cache/jobmgr-benchmarks, once. What cannot be measured here is named.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import uvloop

from benchmarks import (
    beside,
    bulk,
    costs,
    dispatchers,
    endtoend,
    growth,
    idle,
    latency,
    listing,
    memory,
    page,
    postgresql,
    report,
    service,
    store,
    submit,
    table,
    watchers,
)
from benchmarks.peers import comparison
from benchmarks.peers.catalogue import PEERS
from benchmarks.service import Engine, Service
from benchmarks.skip import Skipped
from benchmarks.table import Figure

Measure = Callable[[Service, int], Awaitable[list[Figure]]]


class Part(NamedTuple):
    """One measurement, on which databases, and how large it is: jobs, stored jobs, or seconds for `idle`."""

    measure: Measure
    full: int
    quick: int
    rounds: int = 3
    engines: Sequence[Engine] = ("SQLite",)


_BOTH: Sequence[Engine] = ("SQLite", "PostgreSQL")
_PARTS = {
    "submit": Part(submit.measure, full=4000, quick=800),
    "bulk": Part(bulk.measure, full=100_000, quick=5000, engines=_BOTH),
    "store": Part(store.measure, full=100_000, quick=5000, rounds=1, engines=_BOTH),
    "endtoend": Part(endtoend.measure, full=5000, quick=500, engines=_BOTH),
    "costs": Part(costs.measure, full=5000, quick=500),
    "dispatchers": Part(dispatchers.measure, full=40_000, quick=2000, rounds=1, engines=("PostgreSQL",)),
    "watchers": Part(watchers.measure, full=5000, quick=300, rounds=1),
    "report": Part(report.measure, full=5000, quick=300, rounds=1, engines=_BOTH),
    "yielding": Part(report.measure_yielding, full=5000, quick=300, rounds=1, engines=_BOTH),
    "latency": Part(latency.measure, full=100, quick=20),
    "growth": Part(growth.measure, full=1_000_000, quick=10_000, engines=_BOTH),
    "page": Part(page.measure, full=1_000_000, quick=10_000, engines=_BOTH),
    "listing": Part(listing.measure, full=50_000, quick=2000, rounds=1),
    "memory": Part(memory.measure, full=100_000, quick=1000, rounds=1, engines=_BOTH),
    "idle": Part(idle.measure, full=10, quick=5, rounds=1),
}
_PEERS = {
    name: Part(
        functools.partial(comparison.measure, name, peer),
        full=5000,
        quick=300,
        rounds=1,
        engines=(peer.engine,),
    )
    for name, peer in PEERS.items()
}


def main() -> None:
    """Run the parts asked for and print the table."""
    asked = _arguments()
    plan = list(_plan(asked))
    about = {**table.machine(), "databases": " and ".join(engine for engine, _ in plan)}
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    figures: list[Figure] = []
    skipped: dict[str, str] = {}
    for engine, parts in plan:
        with _skipping(skipped, engine), _serving(engine, asked.database) as running:
            for name, part in parts.items():
                with _skipping(skipped, name):
                    figures += _median_of_rounds(name, part, running, is_quick=asked.quick)
    print(table.text(figures))
    for name, reason in skipped.items():
        print(f"{name} was skipped: {reason}")
    if asked.json is not None:
        document = table.document(figures, {**about, "skipped": skipped})
        asked.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _plan(asked: argparse.Namespace) -> Iterator[tuple[Engine, dict[str, Part]]]:
    """What runs on which database; with a database given, all of it there."""
    chosen = {name: _PARTS[name] for name in (_PARTS if asked.only is None else asked.only)}
    chosen |= {name: _PEERS[name] for name in asked.peers}
    if asked.database is not None:
        yield "PostgreSQL", chosen
        return
    engines: tuple[Engine, ...] = ("SQLite", "PostgreSQL")
    for engine in engines:
        parts = {name: part for name, part in chosen.items() if engine in part.engines}
        if parts:
            yield engine, parts


@contextlib.contextmanager
def _serving(engine: Engine, database: str | None) -> Iterator[Service]:
    with contextlib.ExitStack() as stack:
        if engine == "PostgreSQL" and database is None:
            database = stack.enter_context(postgresql.server())
        running = stack.enter_context(service.running(database))
        stack.callback(lambda: uvloop.run(beside.drop_all(running)))
        yield running


@contextlib.contextmanager
def _skipping(skipped: dict[str, str], name: str) -> Iterator[None]:
    try:
        yield
    except Skipped as reason:
        skipped[name] = str(reason)


def _median_of_rounds(name: str, part: Part, running: Service, *, is_quick: bool) -> list[Figure]:
    rounds = 1 if is_quick else part.rounds
    results = []
    for number in range(1, rounds + 1):
        print(f"{name}, {running.engine}, round {number} of {rounds}", file=sys.stderr, flush=True)
        results.append(uvloop.run(_run(part.measure, running, part.quick if is_quick else part.full)))
    return table.medians(results)


async def _run(measure: Measure, running: Service, size: int) -> list[Figure]:
    return await measure(running, size)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes, one round, a few minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--database",
        metavar="URL",
        help="run everything on this PostgreSQL database, made for the purpose: jobs and limits stay in it "
        "(default: temporary databases of this run, SQLite and PostgreSQL)",
    )
    parser.add_argument(
        "--only",
        nargs="*",
        choices=_PARTS,
        metavar="PART",
        help=f"of {', '.join(_PARTS)}; without a name none, for `--peers` alone",
    )
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=PEERS,
        metavar="PEER",
        default=[],
        help=f"of {', '.join(PEERS)}: the same work by these too, as large as `endtoend`",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()

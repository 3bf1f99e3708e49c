"""Another program that runs jobs, as this benchmark sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.service import Engine, Service
from benchmarks.table import Figure

Rate = Callable[[Path, int], Awaitable[float]]
Compare = Callable[[str, Path, Service, int], Awaitable[list[Figure]]]


async def _nothing_more(_title: str, _python: Path, _service: Service, _count: int) -> list[Figure]:
    return []


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer: what it is, how it is installed, and what is measured of it.

    `keeps` says where its jobs are, and so what a crash takes away. `package` names its version. `installs` are
    the arguments of each `pip install`, in order. `rate` takes the Python of its environment and a number of
    no-op jobs, runs them WIDTH at a time and answers jobs per second, from the first submission to the last end;
    it raises Skipped if the peer does not start. `compare` makes further figures beside ours, if there are any.
    `engine` is what ours runs on beside it.
    """

    title: str
    keeps: str
    package: str
    installs: Sequence[Sequence[str]]
    rate: Rate
    compare: Compare = _nothing_more
    engine: Engine = "SQLite"

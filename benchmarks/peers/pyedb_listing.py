"""All jobs in one answer: of the PyEDB manager and of ours, which know the same simulations, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

from benchmarks import listing, scratch, submit
from benchmarks.listing import Answer
from benchmarks.peers import pyedb_service
from benchmarks.peers.pyedb_service import Manager
from benchmarks.service import WIDTH, Service, serving
from benchmarks.spawn import NOTHING
from benchmarks.table import Figure, Goal

_GOAL = Goal("<", 1)


async def compare(title: str, interpreter: Path, service: Service, stored: int) -> list[Figure]:
    """Milliseconds of both with so many simulations, of which none runs."""
    with pyedb_service.serving(interpreter, 1) as manager:
        async with pyedb_service.slot_held(manager.url, manager.home):
            await _fill(manager.url, manager.home, stored)
            url = await listing.filled(service, manager.home / "project.aedt", stored)
            with serving(scratch.new_directory(), url, WIDTH) as running:
                seen = [await _in_turn(running, manager, stored) for _ in range(listing.TIMES)]
    ours, theirs = zip(*seen, strict=True)
    name = f"{listing.title(stored, service)}, beside PyEDB"

    def figure(what: str, of: Callable[[Answer], float]) -> Figure:
        value, limit = (statistics.median(map(of, answers)) for answers in (ours, theirs))
        return Figure(f"{name}{what}", "ms", value, limit, title, _GOAL)

    return [
        figure("", lambda answer: answer.whole_ms),
        figure(", processor time of the service", lambda answer: answer.used_ms),
        figure(", first bytes", lambda answer: answer.first_ms),
        figure(", longest wait of another request", lambda answer: answer.other_ms),
    ]


async def _in_turn(running: Service, manager: Manager, stored: int) -> tuple[Answer, Answer]:
    ours = await listing.ask(running.url, running.pid, stored)
    # The job that holds the slot is one of theirs, too.
    return ours, await listing.ask(manager.url, manager.pid, stored + 1)


async def _fill(url: str, home: Path, stored: int) -> None:
    bodies = [pyedb_service.body(home, NOTHING, listing.name(number)) for number in range(stored)]
    async with submit.session(url) as session:
        await submit.post_all(session, pyedb_service.PATH, bodies)
        await pyedb_service.await_queue(session, queued=stored, running=1)

"""Hundreds of watchers while jobs run: how far they are behind, and what they cost."""

from __future__ import annotations

import asyncio
import subprocess

import aiohttp
import msgspec

from benchmarks import endtoend
from benchmarks.service import Service, environment, python
from benchmarks.table import Figure, Goal
from benchmarks.watching import Seen

EACH = 100
_BEHIND_S = 1.0
_PROMISED = "what was promised"
_NO_MORE = Goal("≤", 1.0)
_ALL = Goal("≥", 1.0)
_RATE = Goal("≥", 0.85)
_ROOMS = {"in rooms": "events", "plain": ""}


async def measure(service: Service, count: int) -> list[Figure]:
    """Jobs per second with EACH watchers of either kind, beside the same without; and what the watchers saw.

    Those on Socket.IO are first in the room of all events, then plain clients that get each message singly.
    """
    figures = []
    # Before and after, because the machine's other work comes and goes.
    before_per_s = await endtoend.rate(service, count)
    for kind, room in _ROOMS.items():
        watched_per_s, seen = await _watched(service, count, room)
        after_per_s = await endtoend.rate(service, count)
        alone_per_s, before_per_s = (before_per_s + after_per_s) / 2, after_per_s
        name = f"{count:,} no-op jobs end to end with {2 * EACH} watchers, {kind}"
        figures += [
            Figure(name, "/s", watched_per_s, alone_per_s, "the same without watchers", _RATE),
            *(figure for by, found in seen.items() for figure in _figures(f"{by}, {kind}", found)),
        ]
    return figures


def _figures(kind: str, seen: Seen) -> list[Figure]:
    behind = f"how far a watcher is behind, {kind}"
    return [
        Figure(f"{behind}, worst", "s", seen.behind_s, _BEHIND_S, _PROMISED, _NO_MORE),
        Figure(f"{behind}, p99", "s", seen.behind_p99_s, _BEHIND_S, _PROMISED, _NO_MORE),
        Figure(f"watchers that got each event once, {kind}", "", seen.complete, seen.watchers, "all", _ALL),
    ]


async def _watched(service: Service, count: int, room: str) -> tuple[float, dict[str, Seen]]:
    process = await asyncio.create_subprocess_exec(
        *python("benchmarks.watching", service.url, str(EACH), room),
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).strip() == b"ready", "the watchers could not connect"
    per_s = await endtoend.rate(service, count)
    answer, _ = await process.communicate(b"%d\n" % await _last_event(service))
    assert process.returncode == 0, "the watchers failed"
    return per_s, msgspec.json.decode(answer, type=dict[str, Seen])


async def _last_event(service: Service) -> int:
    async with (
        aiohttp.ClientSession(service.url) as session,
        session.get("/api/v1/events", params={"limit": "1"}) as answer,
    ):
        return int((await answer.json())["seq"])

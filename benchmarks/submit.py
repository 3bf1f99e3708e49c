"""Submitting jobs one by one over REST, on keep-alive connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from benchmarks import backlog, parser
from benchmarks.service import Service
from benchmarks.table import Figure, quantile

CONNECTIONS = 8
_WARM_UP = 100
_LIMIT = "an aiohttp handler that only parses the same body"


@dataclass(frozen=True, slots=True)
class Load:
    """What the callers saw: answers per second of all, seconds per answer of each."""

    per_s: float
    answer_s: Sequence[float]


async def measure(service: Service, count: int) -> list[Figure]:
    """Submissions per second and their answer times. The queue is paused, so that nothing runs beside them."""
    async with aiohttp.ClientSession(service.url) as session:
        queue = await backlog.new_queue(session, paused=True)
    bodies = [backlog.one(queue, index) for index in range(_WARM_UP + count)]
    ours = await _load(service.url, bodies)
    with parser.running() as url:
        bare = await _load(url, bodies)
    name = f"submit one by one, {CONNECTIONS} connections"
    return [
        Figure(name, "/s", ours.per_s, bare.per_s, _LIMIT),
        _answer_time(f"{name}, p50", 0.5, ours, bare),
        _answer_time(f"{name}, p99", 0.99, ours, bare),
    ]


def _answer_time(name: str, share: float, ours: Load, bare: Load) -> Figure:
    value, limit = (quantile(load.answer_s, share) * 1000 for load in (ours, bare))
    return Figure(name, "ms", value, limit, _LIMIT)


async def _load(url: str, bodies: Sequence[bytes]) -> Load:
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        await _post_all(session, bodies[:_WARM_UP])
        before = time.perf_counter()
        answer_s = await _post_all(session, bodies[_WARM_UP:])
        return Load(len(answer_s) / (time.perf_counter() - before), answer_s)


async def _post_all(session: aiohttp.ClientSession, bodies: Sequence[bytes]) -> list[float]:
    answer_s: list[float] = []
    left = iter(bodies)
    headers = {"Content-Type": "application/json"}

    async def caller() -> None:
        for body in left:
            before = time.perf_counter()
            async with session.post(parser.PATH, data=body, headers=headers) as answer:
                answer.raise_for_status()
                await answer.read()
            answer_s.append(time.perf_counter() - before)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(caller())
    return answer_s

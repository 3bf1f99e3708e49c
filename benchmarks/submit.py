"""Submitting jobs one by one over REST, on keep-alive connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from benchmarks import backlog, parser
from benchmarks.service import Service
from benchmarks.table import Figure, Goal, quantile

CONNECTIONS = 8
WARM_UP = 100
_LIMIT = "an aiohttp handler that only parses the same body"
_RATE_GOAL = Goal("≥", 0.5)
_TAIL_GOAL = Goal("≤", 4)


@dataclass(frozen=True, slots=True)
class Load:
    """What the callers saw: answers per second of all, seconds per answer of each."""

    per_s: float
    answer_s: Sequence[float]

    def answer_ms(self, share: float) -> float:
        """The milliseconds that this share of the answers did not exceed."""
        return quantile(self.answer_s, share) * 1000


async def measure(service: Service, count: int) -> list[Figure]:
    """Submissions per second and their answer times."""
    queue, bodies = await prepare(service, count)
    with parser.running() as url:
        before = await load(url, parser.PATH, bodies)
        ours = await load_ours(service, queue, bodies)
        bare = mean(before, await load(url, parser.PATH, bodies))
    name = f"submit one by one, {CONNECTIONS} connections"
    return [
        Figure(name, "/s", ours.per_s, bare.per_s, _LIMIT, _RATE_GOAL),
        Figure(f"{name}, p50", "ms", ours.answer_ms(0.5), bare.answer_ms(0.5), _LIMIT),
        Figure(f"{name}, p99", "ms", ours.answer_ms(0.99), bare.answer_ms(0.99), _LIMIT),
        Figure(f"{name}, p99 to p50", "ms", ours.answer_ms(0.99), ours.answer_ms(0.5), "its p50", _TAIL_GOAL),
    ]


async def prepare(service: Service, count: int) -> tuple[str, list[bytes]]:
    """A new queue, paused, so that nothing runs beside the submissions, and WARM_UP + `count` jobs for it."""
    async with session(service.url) as caller:
        queue = await backlog.new_queue(caller, paused=True)
    return queue, [backlog.one(queue, index) for index in range(WARM_UP + count)]


async def load_ours(service: Service, queue: str, bodies: Sequence[bytes]) -> Load:
    """What the callers of the service see; all jobs are in the queue then."""
    seen = await load(service.url, parser.PATH, bodies)
    async with session(service.url) as caller:
        stored = (await backlog.count_statuses(caller, queue))["queued"]
    assert stored == len(bodies), f"{stored} of {len(bodies)} jobs are stored"
    return seen


async def load(url: str, path: str, bodies: Sequence[bytes]) -> Load:
    """Post the bodies on CONNECTIONS connections, the first WARM_UP uncounted; each must be answered well."""
    async with session(url) as callers:
        await post_all(callers, path, bodies[:WARM_UP])
        before = time.perf_counter()
        answer_s = await post_all(callers, path, bodies[WARM_UP:])
        return Load(len(answer_s) / (time.perf_counter() - before), answer_s)


def session(url: str) -> aiohttp.ClientSession:
    """CONNECTIONS keep-alive connections to one service."""
    return aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=CONNECTIONS))


def mean(before: Load, after: Load) -> Load:
    """What two runs of the same size saw together; what they surround was measured at the same time."""
    return Load((before.per_s + after.per_s) / 2, [*before.answer_s, *after.answer_s])


async def post_all(callers: aiohttp.ClientSession, path: str, bodies: Sequence[bytes]) -> list[float]:
    """Seconds per answer, CONNECTIONS callers at a time; each must be answered well."""
    answer_s: list[float] = []
    left = iter(bodies)
    headers = {"Content-Type": "application/json"}

    async def caller() -> None:
        for body in left:
            before = time.perf_counter()
            async with callers.post(path, data=body, headers=headers) as answer:
                answer.raise_for_status()
                await answer.read()
            answer_s.append(time.perf_counter() - before)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(caller())
    return answer_s

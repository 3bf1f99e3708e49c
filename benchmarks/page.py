"""A page of jobs, filtered by status and user, among many: beside encoding the same jobs from memory.

The goal is about time in the service, so the ratio that counts is that of its processor time per page, in all of its
threads, to the time of encoding alone. The time until the answer is there holds a client and HTTP too; it stands
beside that of a bare handler, asked by the same client on one connection, which encodes the same jobs each time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import aiohttp

from benchmarks import encoder, filled, scratch
from benchmarks.service import WIDTH, Service, cpu_s, serving
from benchmarks.table import Figure, Goal, quantile

PATH = "/api/v1/jobs"
LENGTH = 100
FILTER = {"status": "completed", "user": filled.USER, "limit": str(LENGTH)}
_GOAL = Goal("≤", 3)
_PAGES = 400
_WARM_UP = 20


async def measure(service: Service, stored: int) -> list[Figure]:
    """Milliseconds per page with so many stored jobs."""
    url = await filled.database(service, stored)
    with serving(scratch.new_directory(), url, WIDTH) as ours:
        async with aiohttp.ClientSession(ours.url) as session:
            answer = await read(session, FILTER)
            await _times_ms(session, _WARM_UP)
            before_ms = encoder.encoding_ms(answer)
            used_s = cpu_s(ours.pid)
            answered_ms = await _times_ms(session, _PAGES)
            used_ms = 1000 * (cpu_s(ours.pid) - used_s) / _PAGES
    with encoder.running(answer) as bare_url:
        async with aiohttp.ClientSession(bare_url) as session:
            assert len(await read(session, FILTER)) == len(answer)
            await _times_ms(session, _WARM_UP)
            bare_ms = await _times_ms(session, _PAGES)
    encoding_ms = (before_ms + encoder.encoding_ms(answer)) / 2
    name = f"page of {LENGTH} of a user's completed jobs, {stored:,} stored, {service.engine}"
    return [
        Figure(
            f"{name}, time of the service",
            "ms",
            used_ms,
            encoding_ms,
            "encoding the same jobs from memory",
            _GOAL,
        ),
        Figure(
            f"{name}, p50",
            "ms",
            quantile(answered_ms, 0.5),
            quantile(bare_ms, 0.5),
            "an aiohttp handler that encodes the same jobs from memory",
        ),
    ]


async def _times_ms(session: aiohttp.ClientSession, count: int) -> Sequence[float]:
    return [await time_ms(session, FILTER) for _ in range(count)]


async def time_ms(session: aiohttp.ClientSession, wanted: Mapping[str, str]) -> float:
    """Milliseconds until one page is there."""
    before = time.perf_counter()
    await read(session, wanted)
    return 1000 * (time.perf_counter() - before)


async def read(session: aiohttp.ClientSession, wanted: Mapping[str, str]) -> bytes:
    """One page, which must be full."""
    async with session.get(PATH, params=wanted) as answer:
        answer.raise_for_status()
        body = await answer.read()
    assert body.count(b'"job_id"') == LENGTH, f"not {LENGTH} jobs for {wanted}"
    return body

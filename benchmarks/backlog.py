"""A queue of one measurement's own, so that measurements do not meet each other's jobs."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import Any

import aiohttp
import msgspec

from benchmarks.spawn import NOTHING

_LOOK_S = 0.05


async def new_queue(session: aiohttp.ClientSession, *, paused: bool) -> str:
    """The name of a new queue; in a paused one jobs are stored and do not run."""
    name = f"benchmark-{secrets.token_hex(4)}"
    async with session.patch(f"/api/v1/queues/{name}", json={"paused": paused}) as answer:
        await _expect(answer)
    return name


async def resume(session: aiohttp.ClientSession, queue: str) -> None:
    """Let the jobs of a paused queue run."""
    async with session.patch(f"/api/v1/queues/{queue}", json={"paused": False}) as answer:
        await _expect(answer)


def lines(queue: str, count: int) -> bytes:
    """`count` no-op jobs as NDJSON."""
    return b"\n".join(one(queue, index) for index in range(count))


def one(queue: str, index: int) -> bytes:
    """A no-op job as JSON."""
    return msgspec.json.encode({"command": [NOTHING], "name": f"job {index}", "queue": queue})


async def post_lines(session: aiohttp.ClientSession, body: bytes) -> None:
    """Store many jobs in one request; returns when they are committed."""
    headers = {"Content-Type": "application/x-ndjson"}
    async with session.post("/api/v1/jobs", data=body, headers=headers) as answer:
        await _expect(answer)


async def await_ends(session: aiohttp.ClientSession, queue: str, count: int) -> None:
    """Wait until `count` jobs of the queue have completed. Raises AssertionError if one ends otherwise."""
    while (counts := await count_statuses(session, queue))["completed"] < count:
        assert not counts["failed"] + counts["cancelled"], f"no-op jobs did not complete: {counts}"
        await asyncio.sleep(_LOOK_S)


async def count_statuses(session: aiohttp.ClientSession, queue: str) -> dict[str, int]:
    """How many jobs of the queue there are in each status."""
    async with session.get("/api/v1/queues") as answer:
        queues: Iterable[dict[str, Any]] = (await _expect(answer))["queues"]
    counts: dict[str, int] = next(found["counts"] for found in queues if found["name"] == queue)
    return counts


async def _expect(answer: aiohttp.ClientResponse) -> Any:
    if not answer.ok:
        raise RuntimeError(f"{answer.method} {answer.url}: {answer.status} {await answer.text()}")
    return await answer.json()

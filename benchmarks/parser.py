"""The limit of submitting one by one: an aiohttp handler that parses the same body and stores nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec
import uvloop
from aiohttp import web

from benchmarks import handler

PATH = "/api/v1/jobs"


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The URL of the handler."""
    with handler.running("benchmarks.parser") as url:
        yield url


async def _parse(request: web.Request) -> web.Response:
    asked = msgspec.json.decode(await request.read())
    answer = msgspec.json.encode({"job_id": asked["name"], "status": "queued"})
    return web.Response(body=answer, status=201, content_type="application/json")


if __name__ == "__main__":
    uvloop.run(handler.serve("POST", PATH, _parse))

"""The limit of submitting one by one: an aiohttp handler that parses the same body and stores nothing."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator

import msgspec
import uvloop
from aiohttp import web

from benchmarks.service import environment, python

PATH = "/api/v1/jobs"


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The URL of the handler, in a process of its own, like the service."""
    command = python("benchmarks.parser")
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


async def _parse(request: web.Request) -> web.Response:
    asked = msgspec.json.decode(await request.read())
    answer = msgspec.json.encode({"job_id": asked["name"], "status": "queued"})
    return web.Response(body=answer, status=201, content_type="application/json")


async def _serve() -> None:
    application = web.Application()
    application.router.add_post(PATH, _parse)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    # SIGTERM ends the process by default; there is nothing to put in order.
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())

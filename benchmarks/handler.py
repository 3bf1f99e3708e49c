"""A bare aiohttp handler in a process of its own, like the service: what HTTP costs without jobmgr."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Awaitable, Callable, Iterator

from aiohttp import web

from benchmarks.service import environment, python


@contextlib.contextmanager
def running(module: str, known: bytes = b"") -> Iterator[str]:
    """The URL that `module` serves at, which calls `serve` when it is run; it gets `known` on its standard input."""
    process = subprocess.Popen(
        python(module), env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with process.stdin:
            process.stdin.write(known)
        yield process.stdout.readline().decode().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


async def serve(method: str, path: str, handle: Callable[[web.Request], Awaitable[web.Response]]) -> None:
    """Answer requests until the process is ended; says first where."""
    application = web.Application()
    application.router.add_route(method, path, handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    # SIGTERM ends the process by default; there is nothing to put in order.
    await asyncio.Event().wait()

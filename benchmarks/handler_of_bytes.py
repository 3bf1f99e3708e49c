"""A bare aiohttp handler, in a process of its own, that answers bytes it has: the limit of an answer of this size."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import uvloop
from aiohttp import web

from benchmarks import handler


@contextlib.contextmanager
def running(path: str, body: bytes) -> Iterator[str]:
    """The URL where `path` is answered with `body`."""
    with handler.running("benchmarks.handler_of_bytes", path.encode() + b"\n" + body) as url:
        yield url


def _main() -> None:
    path, _, body = sys.stdin.buffer.read().partition(b"\n")

    async def serve(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    uvloop.run(handler.serve("GET", path.decode(), serve))


if __name__ == "__main__":
    _main()

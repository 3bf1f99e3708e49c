"""What the log is told of what is no HTTP."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp import web

from jobmgr.api import nonsense

NEVER_S = 3600.0


async def answer(_request: web.BaseRequest) -> web.Response:
    return web.Response()


async def send(times: int, what: bytes) -> None:
    """Send this to a server that ends then, each time over a connection of its own."""
    with nonsense.told(NEVER_S, lambda: 1000.0) as logger:
        server = web.Server(answer, logger=logger)
        listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        for _ in range(times):
            reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
            writer.write(what)
            await reader.read()
            writer.close()
        listening.close()
        await server.shutdown(0)


async def test_some_get_a_line_each_and_the_end_says_how_many_more(caplog: pytest.LogCaptureFixture) -> None:
    await send(25, b"GET / HTTP/1.1\r\nBearer: a\r\nno header, jm_secret\r\n\r\n")

    lines = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    assert lines[:10] == [lines[0]] * 10
    assert lines[0].startswith("WARNING a connection from 127.0.0.1 ends, what came is not HTTP: ")
    assert lines[10:] == ["WARNING 15 more connections ended, what came is not HTTP: 15 from 127.0.0.1"]
    assert "jm_secret" not in caplog.text
    assert "Traceback" not in caplog.text


async def test_what_goes_wrong_here_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with nonsense.told(NEVER_S, lambda: 1000.0) as logger:
        for _ in range(25):
            logger.error("went wrong", exc_info=ValueError("here"))

    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR] * 25


async def test_nothing_is_left_of_a_server_that_ended() -> None:
    with nonsense.told() as logger:
        assert len(logger.filters) == 1

    assert logger.filters == []

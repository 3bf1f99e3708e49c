"""`Expect`: whoever holds a body back is asked for it when it is read, not before; nothing else is expected of us."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from jobmgr.api.body import MAX_BODY_BYTES
from jobmgr.api.routes import ROUTES
from tests.api.conftest import TIMEOUT_S, Api

BODY = b'{"command": ["true"], "draft": true}'
JOBS = "POST /api/v1/jobs"
STRANGER = "Authorization: Bearer nobodys"


class Line:
    """A connection to the service."""

    def __init__(self, api: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host = api.url.removeprefix("http://")
        self._reader = reader
        self._writer = writer

    def ask(self, what: str, *lines: str, version: str = "1.1", length: int = len(BODY)) -> None:
        """Send the head of a request whose body is held back."""
        told = [f"Host: {self._host}"] if not any(line.startswith("Host") for line in lines) else []
        told += ["Content-Type: application/json", f"Content-Length: {length}", *lines]
        self.send("\r\n".join([f"{what} HTTP/{version}", *told, "", ""]).encode())

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def status(self) -> int:
        """That of the next answer, be it an interim one."""
        async with asyncio.timeout(TIMEOUT_S):
            return int((await self._reader.readuntil(b"\r\n\r\n")).split()[1])


@contextlib.asynccontextmanager
async def line(api: Api) -> AsyncIterator[Line]:
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Line(api, reader, writer)
    finally:
        writer.close()


async def first(api: Api, what: str, *lines: str, length: int = len(BODY)) -> int:
    """The status of what comes first."""
    async with line(api) as client:
        client.ask(what, *lines, length=length)
        return await client.status()


async def test_who_is_let_in_is_asked_for_the_body(api: Api) -> None:
    async with line(api) as client:
        client.ask(JOBS, "Expect: 100-Continue")
        invited = await client.status()
        client.send(BODY)

        assert (invited, await client.status(), await api.count()) == (100, 201, 1)


async def test_packets_that_are_held_back_are_asked_for(api: Api) -> None:
    path = "/socket.io/?EIO=4&transport=polling"
    sid = (await api.get(path)).body.partition(b'"sid":"')[2].partition(b'"')[0].decode()
    async with line(api) as client:
        client.ask(f"POST {path}&sid={sid}", "Expect: 100-continue", length=2)
        invited = await client.status()
        client.send(b"40")

        assert (invited, await client.status()) == (100, 200)


@pytest.mark.parametrize("what", [JOBS, "POST /socket.io/?EIO=4&transport=polling", "PATCH /api/v1/limits"])
async def test_who_is_refused_is_not_asked_for_the_body(api: Api, what: str) -> None:
    assert await first(api, what, "Expect: 100-continue", STRANGER) == 401
    assert await first(api, what, "Expect: 100-continue", "Host: elsewhere") == 421


async def test_a_body_that_is_too_large_is_not_asked_for(api: Api) -> None:
    assert await first(api, JOBS, "Expect: 100-continue", length=MAX_BODY_BYTES + 1) == 413


async def test_what_else_is_expected_changes_no_answer(api: Api) -> None:
    for route in ROUTES:
        if route.is_open:
            continue
        path = route.path.replace("{path:[\\s\\S]+}", "stdout")
        for name in ("job_id", "name", "token_id"):
            path = path.replace(f"{{{name}}}", "x")
        assert await first(api, f"{route.method} {path}", "Expect: a miracle", STRANGER, length=0) == 401, (
            path
        )
    async with line(api) as client:
        client.ask(JOBS, "Expect: a miracle")
        client.send(BODY)

        assert await client.status() == 201


async def test_a_client_of_http_1_0_is_told_nothing_but_the_answer(api: Api) -> None:
    async with line(api) as client:
        client.ask(JOBS, "Expect: 100-continue", version="1.0")
        client.send(BODY)

        assert await client.status() == 201

"""What is too large, or too many at once: bodies, heads of requests, connections, and what a client does not read."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator

import pytest

from jobmgr.api.limits import Limits
from jobmgr.api.server import Server
from jobmgr.service import JobManager
from tests.api.conftest import TOKEN, Api
from tests.api.test_rooms import DRAFT, Member, open_websocket
from tests.patience import is_ended
from tests.security.guards import (
    ADDRESS_SIZE,
    BODY_SIZE,
    COMPRESSED,
    CONNECTIONS,
    HEAD_SIZE,
    LINES_SIZE,
    READ_OR_GONE,
    UNPACKED,
    rests_on,
)

MEBIBYTE = 1024 * 1024
JOB = json.dumps(DRAFT).encode()
JSON = {"Content-Type": "application/json"}


@rests_on(BODY_SIZE)
async def test_large_body_is_not_taken(api: Api) -> None:
    async def untold() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b" " * MEBIBYTE
        yield JOB

    told = await api.post_bytes(b" " * (9 * MEBIBYTE) + JOB)
    streamed = await api.post("/api/v1/jobs", data=untold(), headers=JSON)

    assert (told.status, streamed.status, await api.count()) == (413, 413, 0)


@rests_on(LINES_SIZE)
async def test_lines_without_end_are_not_taken(api: Api) -> None:
    async def lines() -> AsyncIterator[bytes]:
        yield JOB + b"\n"
        for _ in range(64):
            yield b" " * (MEBIBYTE - 1) + b"\n"

    headers = {"Content-Type": "application/x-ndjson"}
    answer = await api.post("/api/v1/jobs", data=lines(), headers=headers)

    assert (answer.status, await api.count()) == (413, 0)


@rests_on(COMPRESSED, UNPACKED)
@pytest.mark.parametrize("encoding", ["gzip", "GZIP"])
async def test_compressed_body_is_not_taken(api: Api, encoding: str) -> None:
    headers = {**JSON, "Content-Encoding": encoding}
    await api.post("/api/v1/jobs", data=gzip.compress(JOB), headers=headers)

    assert await api.count() == 0


@rests_on(ADDRESS_SIZE)
async def test_long_address_is_not_read(api: Api) -> None:
    assert (await api.get(f"/api/v1/jobs?name={'n' * 40_000}")).status == 400


@rests_on(HEAD_SIZE)
@pytest.mark.parametrize("headers", [{"X-Long": "x" * 9000}, {f"X-{number}": "x" for number in range(200)}])
async def test_large_head_is_not_read(api: Api, headers: dict[str, str]) -> None:
    assert (await api.get("/api/v1/jobs", headers=headers)).status == 400


@rests_on(CONNECTIONS)
async def test_strangers_do_not_take_all_connections(manager: JobManager) -> None:
    async with Server(
        manager, host="127.0.0.1", port=0, token=TOKEN, limits=Limits(most_connections=4)
    ) as server:
        port = int(server.url.rsplit(":", 1)[1])
        strangers = []
        for _ in range(6):
            strangers.append(await asyncio.open_connection("127.0.0.1", port))
            # Its answer says that the connection was taken up.
            strangers[-1][1].write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in await strangers[-1][0].readline()
        ended = [await is_ended(reader) for reader, _ in strangers]
        for _, writer in strangers:
            writer.transport.abort()

    assert ended == [True] * 2 + [False] * 4


@rests_on(READ_OR_GONE)
async def test_who_reads_no_messages_does_not_keep_them(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    member = Member()
    await member.connect(api, {"rooms": ["events"]})
    told = 0
    with socket.socket() as deaf:
        # A small window, so that little is kept by the kernel.
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.to_thread(open_websocket, deaf, int(api.url.rpartition(":")[2]))

        while told < 30_000 and "lags too far behind" not in caplog.text:
            await api.post("/api/v1/jobs", json={"jobs": [{**DRAFT, "name": "n" * 400}] * 2000})
            told += 2000
            await member.told(told)
    await member.client.disconnect()

    assert "lags too far behind" in caplog.text

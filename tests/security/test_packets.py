"""What nobody has a reason to send over Socket.IO ends the connection, and fills neither memory nor log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tracemalloc
from collections.abc import AsyncIterator

import aiohttp
import pytest

from jobmgr.api.limits import Limits
from jobmgr.api.server import Server
from jobmgr.service import JobManager
from tests.api.conftest import TIMEOUT_S, TOKEN, Api
from tests.api.test_rooms import with_small_window
from tests.api.test_users import House, bearer
from tests.security.guards import FEW_LINES, FEW_PACKETS, READ_ANSWERS, UNDERSTOOD, rests_on

MEBIBYTE = 1024 * 1024
# How long the service is waited for until it counts as one that goes on.
PATIENT_S = 5.0
# Not all that aiohttp raises when a connection ended is of its own kind.
GONE = (aiohttp.ClientConnectionError, ConnectionError)


@contextlib.asynccontextmanager
async def joined(api: Api) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A client that was told that it is connected."""
    url = f"{api.url}/socket.io/?EIO=4&transport=websocket"
    async with api.session.ws_connect(url, compress=15) as websocket:
        await websocket.receive_str()
        await websocket.send_str("40")
        await websocket.receive_str()
        yield websocket


async def ends(websocket: aiohttp.ClientWebSocketResponse) -> bool:
    """Whether the service ends this connection, whatever it says before."""
    try:
        async with asyncio.timeout(PATIENT_S):
            async for _ in websocket:
                pass
    except TimeoutError:
        return False
    return True


@rests_on(UNDERSTOOD)
@pytest.mark.parametrize(
    "packet",
    ["4x", "4", "b4444", "47", '42{"rooms":[]}', '451-["subscribe",{"_placeholder":true,"num":0}]'],
)
async def test_what_nobody_has_to_send_ends_the_connection(api: Api, packet: str) -> None:
    async with joined(api) as websocket:
        await websocket.send_str(packet)

        assert await ends(websocket)


@rests_on(UNDERSTOOD)
async def test_attachments_are_not_waited_for(api: Api) -> None:
    async with joined(api) as websocket:
        tracemalloc.start()
        try:
            with contextlib.suppress(*GONE):
                await websocket.send_str('459999999999-["subscribe",{}]')
                for _ in range(400):
                    # Some 80 bytes on the wire.
                    await websocket.send_bytes(bytes(60_000))
            await ends(websocket)
            kept_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert kept_bytes < 8 * MEBIBYTE


@rests_on(UNDERSTOOD)
async def test_nonsense_over_one_connection_is_one_line(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    async with joined(api) as websocket:
        with contextlib.suppress(*GONE):
            for _ in range(500):
                await websocket.send_str("4x")
        await ends(websocket)

    assert caplog.text.count("is not understood") == 1


@rests_on(FEW_LINES)
async def test_nonsense_over_many_connections_is_few_lines(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(25):
        async with joined(api) as websocket:
            await websocket.send_str("4x")
            await ends(websocket)

    assert caplog.text.count("is not understood") < 15


@rests_on(FEW_PACKETS)
@pytest.mark.parametrize("packet", ["3", "3true", '42["none"]', '421["subscribe",{"rooms":[]}]'])
async def test_a_token_is_good_for_so_many_packets(manager: JobManager, packet: str) -> None:
    async with (
        Server(manager, host="127.0.0.1", port=0, token=TOKEN, limits=Limits(requests_per_s=1)) as server,
        aiohttp.ClientSession() as session,
    ):
        ann = await House(manager, server.url, session).add("ann")
        url = f"{server.url}/socket.io/?EIO=4&transport=websocket"
        async with session.ws_connect(url, headers=bearer(ann)) as websocket:
            await websocket.send_str("40")
            with contextlib.suppress(*GONE):
                for _ in range(60):
                    await websocket.send_str(packet)

            assert await ends(websocket)


LONG = f"40/{'n' * 60_000},"


@rests_on(READ_ANSWERS)
async def test_who_reads_no_answers_is_not_heard_for_long(api: Api) -> None:
    url = f"{api.url}/socket.io/?EIO=4&transport=websocket"
    connector = aiohttp.TCPConnector(socket_factory=with_small_window)
    # Nobody waits for its farewell.
    impatient = aiohttp.ClientWSTimeout(ws_close=0.1)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.ws_connect(url, timeout=impatient) as deaf,
    ):
        try:
            async with asyncio.timeout(TIMEOUT_S):
                for _ in range(400):
                    await deaf.send_str(LONG)
        except GONE:
            return
        pytest.fail("all of it was taken")


@rests_on(READ_ANSWERS)
async def test_who_posts_and_never_polls_is_not_heard_for_long(api: Api) -> None:
    polling = "/socket.io/?EIO=4&transport=polling"
    sid = json.loads((await api.get(polling)).body[1:])["sid"]

    posted = [await api.post(f"{polling}&sid={sid}", data=LONG) for _ in range(30)]

    assert posted[0].status == 200
    assert posted[-1].status == 400

"""What nobody has a reason to send over Socket.IO ends the connection, and fills neither memory nor log."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.api.conftest import Api
from tests.security.guards import FEW_LINES, UNDERSTOOD, rests_on

MEBIBYTE = 1024 * 1024
# How long the service is waited for until it counts as one that goes on.
PATIENT_S = 2.0
GONE = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


@contextlib.asynccontextmanager
async def joined(api: Api) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A client that was told that it is connected."""
    url = f"{api.url}/socket.io/?EIO=4&transport=websocket"
    async with api.session.ws_connect(url, compress=15) as websocket:
        await websocket.receive_str()
        await websocket.send_str("40")
        await websocket.receive_str()
        yield websocket


async def is_gone(websocket: aiohttp.ClientWebSocketResponse) -> bool:
    try:
        return (await websocket.receive(PATIENT_S)).type in GONE
    except TimeoutError:
        return False


@rests_on(UNDERSTOOD)
@pytest.mark.parametrize(
    "packet",
    ["4x", "4", "b4444", "47", '42{"rooms":[]}', '451-["subscribe",{"_placeholder":true,"num":0}]'],
)
async def test_what_nobody_has_to_send_ends_the_connection(api: Api, packet: str) -> None:
    async with joined(api) as websocket:
        await websocket.send_str(packet)

        assert await is_gone(websocket)


@rests_on(UNDERSTOOD)
async def test_attachments_are_not_waited_for(api: Api) -> None:
    async with joined(api) as websocket:
        tracemalloc.start()
        try:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                await websocket.send_str('459999999999-["subscribe",{}]')
                for _ in range(400):
                    # Some 80 bytes on the wire.
                    await websocket.send_bytes(bytes(60_000))
            await is_gone(websocket)
            kept_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert kept_bytes < 8 * MEBIBYTE


@rests_on(UNDERSTOOD)
async def test_nonsense_over_one_connection_is_one_line(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    async with joined(api) as websocket:
        with contextlib.suppress(aiohttp.ClientConnectionError):
            for _ in range(500):
                await websocket.send_str("4x")
        await is_gone(websocket)

    assert caplog.text.count("is not understood") == 1


@rests_on(FEW_LINES)
async def test_nonsense_over_many_connections_is_few_lines(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(25):
        async with joined(api) as websocket:
            await websocket.send_str("4x")
            await is_gone(websocket)

    assert caplog.text.count("is not understood") < 15

"""How large a request may be, and that who is slow, but not on purpose, gets all of an answer."""

from __future__ import annotations

import asyncio
import select
import socket

from jobmgr.api.limits import Limits
from jobmgr.api.server import Server
from jobmgr.service import JobManager
from tests.api.conftest import TOKEN, Api

MEBIBYTE = 1024 * 1024


def read_slowly(port: int, job_id: str, size: int) -> int:
    """How much of a file comes to somebody with a line of 3 MB per second."""
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        line.settimeout(30)
        line.connect(("127.0.0.1", port))
        head = f"GET /api/v1/jobs/{job_id}/files/big HTTP/1.0\r\nHost: localhost:{port}\r\n\r\n"
        line.sendall(head.encode())
        got = 0
        while got < size:
            piece = line.recv(32 * 1024)
            if not piece:
                break
            got += len(piece)
            select.select([], [], [], 0.01)
        return got


async def test_slow_line_gets_its_download(manager: JobManager) -> None:
    job = await manager.wait(await manager.submit(["truncate", "-s", "12M", "big"]), 30)
    # Shorter than it takes to send one piece of it.
    limits = Limits(stall_s=0.25)
    async with Server(manager, host="127.0.0.1", port=0, token=TOKEN, limits=limits) as server:
        port = int(server.url.rsplit(":", 1)[1])
        got = await asyncio.to_thread(read_slowly, port, job.job_id, 12 * MEBIBYTE)

    assert got >= 12 * MEBIBYTE


async def status_of(api: Api, address: str, *lines: str) -> int:
    """What a head is answered that is sent as it stands here."""
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (f"GET {address} HTTP/1.1", f"Host: {host}:{port}", "Connection: close", *lines, "", "")
    writer.write("\r\n".join(head).encode())
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    return int(answer.split()[1])


async def test_head_of_a_request_may_be_so_large(api: Api) -> None:
    path = "/api/v1/queues?"

    assert await status_of(api, path.ljust(32 * 1024, "x")) == 422
    assert await status_of(api, path, "X: ".ljust(8190, "x")) == 200
    assert await status_of(api, path, *["X: x"] * 126) == 200


async def test_larger_head_of_a_request_is_refused(api: Api) -> None:
    path = "/api/v1/queues?"

    assert await status_of(api, path.ljust(32 * 1024 + 1, "x")) == 400
    assert await status_of(api, path, "X: ".ljust(8200, "x")) == 400
    assert await status_of(api, path, "x" * 8200 + ": x") == 400
    assert await status_of(api, path, *["X: x"] * 127) == 400

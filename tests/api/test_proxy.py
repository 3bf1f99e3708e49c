"""The service behind nginx with TLS, as docs/security.md describes it."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest_asyncio
import socketio

from jobmgr.api.server import Server
from jobmgr.service import JobManager
from tests.api.conftest import TOKEN, Api
from tests.nginx import Proxy, free_port, running_nginx

BEARER = {"Authorization": f"Bearer {TOKEN}"}
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Behind:
    """The service, seen through the proxy."""

    api: Api
    proxy: Proxy


@pytest_asyncio.fixture
async def behind(manager: JobManager, nginx: str, tmp_path: Path) -> AsyncIterator[Behind]:
    port, folder = free_port(), tmp_path / "nginx"
    await asyncio.to_thread(folder.mkdir)
    names = [f"localhost:{port}"]
    async with Server(manager, host="127.0.0.1", port=0, token=TOKEN, allowed_hosts=names) as server:
        starting = running_nginx(nginx, folder, port, server.url)
        proxy = await asyncio.to_thread(starting.__enter__)
        try:
            connector = aiohttp.TCPConnector(ssl=proxy.context)
            async with aiohttp.ClientSession(connector=connector) as session:
                yield Behind(Api(manager, proxy.url, session), proxy)
        finally:
            await asyncio.to_thread(starting.__exit__, None, None, None)


async def test_commands_events_and_sockets_pass_the_proxy(behind: Behind) -> None:
    api, proxy = behind.api, behind.proxy
    environment = {
        "JOBMGR_HOME": "/nowhere",
        "JOBMGR_URL": proxy.url,
        "JOBMGR_TOKEN": TOKEN,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "jobmgr", "submit", "--draft", "--name", "far", "--", "true"]
    told: asyncio.Queue[str] = asyncio.Queue()

    async def hear(_: object) -> None:
        await told.put("job_queued")

    clients = {}
    for transport in ("websocket", "polling"):
        # The headers given to connect() are those of the first request only; a poll needs the token each time.
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=proxy.context), headers=BEARER)
        clients[transport] = client = socketio.AsyncClient(http_session=session)
        client.on("job_queued", hear)
        await client.connect(proxy.url, transports=[transport])
    stream = api.session.get(f"{api.url}/api/v1/events", headers={**BEARER, "Accept": "text/event-stream"})
    async with asyncio.timeout(60), stream as response:
        # Of a stream that was held back nothing would come: it has no end.
        assert (await response.content.readline()).startswith(b"retry:")
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            env=environment | {"SSL_CERT_FILE": str(proxy.certificate)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        async for line in response.content:
            if b'"name":"far"' in line:
                break
        await api.post("/api/v1/jobs", json={"command": ["true"]}, headers=BEARER)
        assert [await told.get(), await told.get()] == ["job_queued"] * 2
        assert [client.transport() for client in clients.values()] == list(clients)
    for client in clients.values():
        await client.disconnect()
        await client.eio.http.close()


async def test_large_bodies_and_files_pass_the_proxy(behind: Behind) -> None:
    api = behind.api
    job = await api.manager.wait(await api.manager.submit(["truncate", "-s", "20M", "big"]), 30)
    lines = b'{"command": ["true"], "draft": true, "description": "%s"}\n' % (b"x" * 1000)

    async with api.session.get(f"{api.url}/api/v1/jobs/{job.job_id}/files/big", headers=BEARER) as response:
        assert len(await response.read()) == 20 * 1024**2
    kind = {"Content-Type": "application/x-ndjson"}
    answer = await api.post("/api/v1/jobs", data=io.BytesIO(lines * 2000), headers={**BEARER, **kind})

    assert (answer.status, len(answer.json["job_ids"])) == (201, 2000)


async def test_page_of_the_service_behind_the_proxy_is_its_own(behind: Behind) -> None:
    api = behind.api
    page = {**BEARER, "Origin": api.url, "Sec-Fetch-Site": "same-origin"}

    stored = await api.post("/api/v1/jobs", json={"command": ["true"], "draft": True}, headers=page)
    refused = await api.post(
        "/api/v1/jobs", json={"command": ["true"]}, headers={**page, "Origin": "https://evil.example"}
    )

    assert stored.status == 201
    refused.problem(403, "wrong_origin")

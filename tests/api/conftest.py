"""A real service on a real port, and a plain HTTP client to talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from jobmgr import settings as settings_module
from jobmgr.api.server import Server
from jobmgr.domain.access import Principal
from jobmgr.domain.job import Job, JobFilter
from jobmgr.domain.limits import ResourceLimits
from jobmgr.domain.status import LIVE, Status
from jobmgr.service import JobManager
from tests.transports.conftest import make_server, ssh_key, sshd_program  # noqa: F401 -- fixtures

TOKEN = "a-token-for-tests"
OWNER = Principal.owner("me")
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int, code: str, field: str | None = None) -> str:
        """Check that this is that problem document; answers its sentence."""
        assert (self.status, self.headers["Content-Type"]) == (status, "application/problem+json"), self
        assert (self.json["status"], self.json["code"], self.json.get("field")) == (status, code, field), (
            self.json
        )
        assert self.json["title"]
        assert self.json["type"] == f"urn:jobmgr:error:{code}"
        detail = self.json["detail"]
        assert isinstance(detail, str)
        assert len(detail) > 10
        return detail


class Api:
    """The service, its manager, and requests to it."""

    def __init__(self, manager: JobManager, url: str, session: aiohttp.ClientSession) -> None:
        self.manager = manager
        self.url = url
        self.session = session

    async def request(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session.request(method, self.url + path, **options) as response:
            return Answer(response.status, response.headers.copy(), await response.read())

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Answer:
        return await self.request("POST", path, **options)

    async def patch(self, path: str, **options: Any) -> Answer:
        return await self.request("PATCH", path, **options)

    async def post_bytes(self, body: bytes, media_type: str = "application/json") -> Answer:
        """Post `body` to /jobs as it is."""
        return await self.post("/api/v1/jobs", data=io.BytesIO(body), headers={"Content-Type": media_type})

    async def submit(self, *command: str, **fields: Any) -> str:
        """Submit one job over HTTP; answers its id."""
        answer = await self.post("/api/v1/jobs", json={"command": list(command), **fields})
        assert answer.status == 201, answer
        job_id = answer.json["job_id"]
        assert isinstance(job_id, str)
        return job_id

    async def run(self, *command: str, **fields: Any) -> Job:
        """Submit one job and wait for its end."""
        return await self.manager.wait(await self.submit(*command, **fields), TIMEOUT_S)

    async def count(self) -> int:
        """How many jobs are stored."""
        return len((await self.manager.list(limit=1000)).jobs)


@pytest_asyncio.fixture
async def manager(tmp_path: Path) -> AsyncIterator[JobManager]:
    settings = settings_module.load({"home": str(tmp_path / "home")}, {}, tmp_path)
    (tmp_path / "home").mkdir()
    limits = ResourceLimits(max_concurrent_jobs=2)
    settings = replace(settings, max_concurrent_jobs=limits.max_concurrent_jobs, cancel_grace_s=1.0)
    async with JobManager(settings=settings) as running:
        yield running
        await end_all(running)


async def end_all(manager: JobManager) -> None:
    """Leave no process behind: what waits for nothing is cancelled and has ended."""
    busy = frozenset({Status.QUEUED, *LIVE})

    async def all_ended() -> bool:
        jobs = (await manager.list(JobFilter(status=busy), limit=1000)).jobs
        for job in jobs:
            await manager.cancel(job.job_id)
        return not jobs

    await eventually(all_ended)


@pytest_asyncio.fixture
async def api(manager: JobManager) -> AsyncIterator[Api]:
    async with (
        Server(manager, host="127.0.0.1", port=0, token=TOKEN) as server,
        aiohttp.ClientSession() as session,
    ):
        yield Api(manager, server.url, session)


@contextlib.asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve `app` on a free port; answers its URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def eventually(holds: Callable[[], Awaitable[Any]], timeout_s: float = TIMEOUT_S) -> Any:
    """The first true answer of `holds`; fails the test if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (answer := await holds()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        await asyncio.sleep(0.01)
    return answer


@pytest.fixture
def lines() -> Callable[..., bytes]:
    """Jobs as lines of JSON."""

    def encode(*jobs: Any) -> bytes:
        return b"".join(msgspec.json.encode(job) + b"\n" for job in jobs)

    return encode

"""How many files the service may have open, and that its jobs do not inherit it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.crash.holder import Role, holders
from tests.node import Node
from tests.patience import eventually

SOFT, HARD = 300, 2000
ASKING = ["sh", "-c", "ulimit -S -n; ulimit -H -n"]


@pytest_asyncio.fixture
async def node(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Node]:
    """A service that is started with a soft limit below its hard one."""
    node = Node(tmp_path / "node", sqlite_url, wrapper=("prlimit", f"--nofile={SOFT}:{HARD}"))
    await node.start()
    yield node
    await node.close()


async def _told(node: Node) -> bytes:
    """What a new job says about its limits."""
    async with node.client as client:
        job_id = await client.submit(ASKING)
        await client.wait(job_id, timeout_s=30)
        data: bytes = (await client.log(job_id)).data
        return data


async def test_service_takes_all_descriptors_and_its_jobs_keep_the_limit_it_was_given(node: Node) -> None:
    told = await _told(node)

    assert resource.prlimit(node.pid, resource.RLIMIT_NOFILE) == (HARD, HARD)
    assert told.split() == [str(SOFT).encode(), str(HARD).encode()]


async def test_more_connections_than_a_job_may_have_files_keep_nothing_from_starting(node: Node) -> None:
    assert await _told(node)
    warden = holders(node.work)[Role.WARDEN][0]
    url = json.loads((node.folder / "service.json").read_bytes())["url"]
    port = int(url.rsplit(":", 1)[1])
    os.kill(warden.pid, signal.SIGKILL)
    await eventually(lambda: "the warden is gone" in node.log)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(SOFT + 10):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
        await eventually(lambda: len(os.listdir(f"/proc/{node.pid}/fd")) > SOFT)

        told = await _told(node)

        assert told.split()[0] == str(SOFT).encode()
        # A keeper that kept its warden's socket, whose number was above the limit, would count as a second one.
        assert len(holders(node.work)[Role.WARDEN]) == 1

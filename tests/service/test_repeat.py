"""Answers that are lost because the service dies: the client asks again, and what was done is not done twice."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio

from jobmgr.client import Client
from tests.ledger import signatures, signing
from tests.node import Node
from tests.patience import eventually

T = TypeVar("T")


@pytest_asyncio.fixture
async def node(database_url: str, tmp_path: Path) -> AsyncIterator[Node]:
    """A service with fault points, at the same address after each start."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    faults = tmp_path / "faults"
    faults.mkdir()
    made = Node(tmp_path / "node", database_url, env={"JOBMGR_FAULTS": str(faults)}, port=port)
    await made.start()
    yield made
    await made.close()


async def die_at(node: Node, step: str, change: Callable[[Client], Awaitable[T]]) -> T:
    """What `change` answers although the service is killed at `step` of it, and started again."""
    fault = node.folder.parent / "faults" / step
    fault.touch()
    async with node.client as client:
        changing = asyncio.ensure_future(change(client))
        await eventually(lambda: not fault.exists())
        node.kill()
        await node.start()
        return await changing


@pytest.mark.parametrize("step", ["submissions.insert:committing", "submissions.insert:committed"])
async def test_jobs_submitted_to_a_dying_service_are_stored_once(
    node: Node, tmp_path: Path, step: str
) -> None:
    ledger = tmp_path / "ledger"
    # Neither ids nor keys of the caller: what is sent again is known by the request's own key.
    jobs = [{"command": signing(ledger)}] * 3

    job_ids = await die_at(node, step, lambda client: client.submit_many(jobs))

    async with node.client as client:
        await client.wait_many(job_ids, timeout_s=60)
        stored = [job.job_id async for job in client.list()]
    assert sorted(stored) == sorted(job_ids)
    assert sorted(signatures(ledger)) == sorted(job_ids)


@pytest.mark.parametrize("step", ["jobs.retry:committing", "jobs.retry:committed"])
async def test_a_retry_that_a_dying_service_was_asked_for_runs_the_job_once_more(
    node: Node, tmp_path: Path, step: str
) -> None:
    ledger = tmp_path / "ledger"
    async with node.client as client:
        job_id = await client.submit(signing(ledger, exit_code=1))
        await client.wait(job_id, timeout_s=60)

    await die_at(node, step, lambda client: client.retry(job_id))

    async with node.client as client:
        await client.wait(job_id, timeout_s=60)
        attempts = await client.attempts(job_id)
    assert len([attempt for attempt in attempts if attempt.counted]) == 2
    assert signatures(ledger) == [job_id] * 2

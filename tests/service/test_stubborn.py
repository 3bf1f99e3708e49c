"""Cancels and time limits reach a tree that resists, whoever of ours was killed before or meanwhile."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.domain.job import Job
from jobmgr.domain.status import Status
from jobmgr.executors import process
from jobmgr.failure import Failure
from tests import remnant
from tests.node import Node
from tests.patience import eventually

# Ignores TERM itself; below it a daemon that does too, in a session of its own, and one that is stopped.
TREE = """
trap '' TERM
setsid sh -c 'trap "" TERM; (while :; do sleep 0.05; done) & exit 0' &
sh -c 'kill -STOP $$' &
while :; do sleep 0.05; done
"""
MEMBERS = 3  # At least, beside the sleeps.


MakeNode = Callable[..., Node]


@pytest_asyncio.fixture
async def make(tmp_path: Path) -> AsyncIterator[MakeNode]:
    """Makes services with fault points that give a cancelled job a moment only."""
    async with AsyncExitStack() as stack:

        def make(name: str, database: str) -> Node:
            faults = tmp_path / f"{name}-faults"
            faults.mkdir()
            env = {"JOBMGR_FAULTS": str(faults), "JOBMGR_CANCEL_GRACE_S": "0.3"}
            made = Node(tmp_path / name, database, env=env)
            stack.push_async_callback(made.close)
            return made

        yield make


def kill_service(node: Node) -> None:
    node.kill()


def kill_keepers(node: Node) -> None:
    """Kill the keepers of commands; their warden lives, and the service, if it does."""
    ours = [process.read_stat(pid) for pid in remnant.keepers(node.work)]
    pids = {stat.pid for stat in ours if stat is not None}
    keepers = [stat for stat in ours if stat is not None and stat.parent in pids]
    assert keepers
    process.send_signals(keepers, signal.SIGKILL)


def kill_service_and_keepers(node: Node) -> None:
    node.kill()
    kill_keepers(node)


VICTIMS = [kill_service, kill_keepers, kill_service_and_keepers]


async def running(node: Node, **resources: str) -> str:
    """A job with the stubborn tree, all of it there."""
    async with node.client as client:
        job_id = await client.submit(["sh", "-c", TREE], resources=resources)
    await eventually(lambda: any(stat.state == "T" for stat in remnant.commands(node.work)))
    await eventually(lambda: len(remnant.commands(node.work)) > MEMBERS)
    return job_id


async def ended(node: Node, job_id: str) -> Job:
    async with node.client as client:
        return await client.wait(job_id, timeout_s=60)


@pytest.mark.parametrize("strike", VICTIMS)
async def test_a_wish_to_cancel_outlives_whoever_was_to_carry_it_out(
    database_url: str, make: MakeNode, tmp_path: Path, strike: Callable[[Node], None]
) -> None:
    node = make("node", database_url)
    await node.start()
    job_id = await running(node)
    step = tmp_path / "node-faults" / "jobs.cancel:committed"
    step.touch()
    async with node.client as client:
        asking = asyncio.create_task(client.cancel(job_id))
        await eventually(lambda: not step.exists())  # The wish is stored, and nobody has been told.
        strike(node)
        asking.cancel()
    if strike is kill_keepers:
        node.wake()
    else:
        await node.start()

    job = await ended(node, job_id)

    assert job.status is Status.CANCELLED
    assert remnant.commands(node.work) == []


async def test_a_time_limit_is_kept_whoever_was_killed(make: MakeNode, tmp_path: Path) -> None:
    async def keeps_limit(strike: Callable[[Node], None]) -> Job:
        node = make(strike.__name__, f"sqlite:///{tmp_path / strike.__name__}.db")
        await node.start()
        job_id = await running(node, walltime="2s")
        strike(node)
        # The service stays away until the tree is gone: the limit does not need it.
        await eventually(lambda: not remnant.commands(node.work))
        if strike is not kill_keepers:
            await node.start()
        return await ended(node, job_id)

    # At once, because each waits for the grace of a time limit.
    jobs = await asyncio.gather(*map(keeps_limit, VICTIMS))

    assert [(job.status, job.error.code if job.error else "") for job in jobs] == [
        (Status.FAILED, Failure.TIMEOUT)
    ] * len(VICTIMS)

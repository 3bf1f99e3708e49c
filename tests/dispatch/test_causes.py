"""Retries by cause, as a real SLURM tells it, and the more that they ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jobmgr.domain.job import Job
from jobmgr.domain.status import Status
from jobmgr.service import JobManager
from jobmgr.wire.requests import SiteAsked
from tests.dispatch.lab import Lab, is_now
from tests.patience import eventually
from tests.slurm import Slurm

pytestmark = pytest.mark.timeout(180)


async def submit(
    manager: JobManager, cause: str, first: str, resources: Mapping[str, Any], **growth: Any
) -> str:
    """A job that does `first` at first, and succeeds then; only this cause has it tried again."""
    retry = {"max_attempts": 2, "backoff": 0, "on": [cause], **growth}
    script = f"[ $JOBMGR_ATTEMPT = 2 ] || {first}"
    asked = {"memory": "20MB", **resources}
    return await manager.submit(["sh", "-c", script], site="lab", resources=asked, retry=retry)


async def is_running(manager: JobManager, job_id: str) -> Job:
    await eventually(lambda: is_now(manager, job_id, Status.RUNNING), timeout_s=60)
    return await manager.get(job_id)


async def tried_twice(manager: JobManager, job_id: str, cause: str) -> Job:
    job = await manager.wait(job_id, 120)
    attempts = [(one.error and one.error.code, one.outcome) for one in await manager.attempts(job_id)]
    assert attempts == [(cause, "failed"), (None, "completed")], job
    return job


async def test_what_the_cluster_did_to_an_attempt_is_retried_as_asked(lab: Lab) -> None:
    # This machine's SLURM has no cgroups, and so no word of its own for a want of memory.
    for program in ("squeue", "sacct"):
        lab.fault(program, '"$real" "$@" | sed s/FAILED/OUT_OF_MEMORY/')
    async with lab.service() as manager:
        await manager.put_site("lab", SiteAsked(kind="slurm"))
        # Alone: on a busy machine it might otherwise run on the node that is to fail.
        greedy = await submit(manager, "out_of_memory", "exit 1", {}, memory_factor=2)
        job = await tried_twice(manager, greedy, "out_of_memory")
        await lab.shows(job.handle, "MinMemoryNode=40M")
        low = await submit(manager, "preempted", "exec sleep 600", {"partition": "idle", "tasks": 4})
        lost = await submit(manager, "node_fail", "exec sleep 600", {"constraint": "n2"})
        for job_id in (low, lost):
            await is_running(manager, job_id)

        lab.slurm.say("sbatch", "--partition=urgent", "--ntasks=4", "--mem=10M", "--wrap=true")
        await _fail_node(lab.slurm, manager, lost)

        await tried_twice(manager, low, "preempted")
        await tried_twice(manager, lost, "node_fail")
        assert [attempt.grown.memory_bytes for attempt in await manager.attempts(greedy)] == [
            None,
            40 * 2**20,
        ]
        assert (await manager.spec(greedy)).grown.memory_bytes == 40 * 2**20


async def _fail_node(slurm: Slurm, manager: JobManager, job_id: str) -> None:
    slurm.stop_slurmd("n2")
    try:
        slurm.say("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=gone")

        async def has_ended() -> bool:
            return (await manager.attempts(job_id))[0].outcome is not None

        await eventually(has_ended, timeout_s=60)
    finally:
        await asyncio.to_thread(slurm.start_slurmd, "n2")
        slurm.run(["scontrol", "update", "NodeName=n2", "State=RESUME"])


async def test_attempt_that_ran_too_long_here_is_given_longer(manager: JobManager) -> None:
    retry = {"max_attempts": 2, "backoff": 0, "on": ["timeout"], "walltime_factor": 100}
    script = "[ $JOBMGR_ATTEMPT = 2 ] || exec sleep 600"

    job_id = await manager.submit(["sh", "-c", script], resources={"walltime": 0.2}, retry=retry)

    await tried_twice(manager, job_id, "timeout")
    assert [attempt.grown.walltime_s for attempt in await manager.attempts(job_id)] == [None, 20.0]


async def test_attempt_that_ran_too_long_in_the_cluster_is_given_longer(
    slurm: Slurm, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(slurm, sqlite_url, tmp_path)
    monkeypatch.setenv("PATH", slurm.environment["PATH"])
    async with lab.service() as manager:
        await manager.put_site("lab", SiteAsked(kind="slurm"))
        job_id = await submit(
            manager, "timeout", "exec sleep 600", {"walltime": "10m"}, walltime_factor=3, walltime_max="25m"
        )
        handle = (await is_running(manager, job_id)).handle

        # Its time is over now. SLURM looks for that every 30 s.
        slurm.say("scontrol", "update", f"jobid={handle}", "EndTime=now+1")

        job = await tried_twice(manager, job_id, "timeout")
        await lab.shows(job.handle, "TimeLimit=00:25:00")

"""Services at a real SLURM."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from jobmgr.domain.status import Status
from jobmgr.service import JobManager, ResourceLimits
from jobmgr.store.engine import Batch, Database
from jobmgr.wire.requests import SiteAsked
from tests.patience import eventually
from tests.slurm import Slurm

# A partition that is down: what is handed in waits there until it is moved.
WAITING = {"memory": "10MB", "partition": "shut"}


class Lab:
    """A cluster, a database, and services one after the other; faults may stand before the cluster's programs."""

    def __init__(self, slurm: Slurm, database_url: str, folder: Path) -> None:
        self.slurm = slurm
        self.database_url = database_url
        self.work = folder / "work"
        self.faults = folder / "faults"
        self.faults.mkdir()

    def service(self) -> JobManager:
        return JobManager(
            ResourceLimits(max_concurrent_jobs=2), database=self.database_url, work_dir=self.work
        )

    async def between(self, batch: Batch[Any, Any], item: object) -> None:
        """Write while no service runs."""
        database = Database(self.database_url)
        await database.start()
        await database.write(batch, item)
        await database.close()

    def fault(self, program: str, script: str) -> None:
        path = self.faults / program
        path.write_text(f"#!/bin/sh\nreal={self.slurm.programs}/{program}\n{script}\n")
        path.chmod(0o755)

    async def submitted(self, manager: JobManager, **fields: Any) -> str:
        """A job that waits in the cluster."""
        await manager.put_site("lab", SiteAsked(kind="slurm"))
        job_id = await manager.submit(["sh", "-c", "exit 3"], site="lab", resources=WAITING, **fields)
        await eventually(lambda: is_now(manager, job_id, Status.SCHEDULED), timeout_s=60)
        return job_id

    async def shows(self, handle: str | None, *words: str) -> None:
        """Wait until the cluster says this of a job."""

        async def is_so() -> bool:
            said = await asyncio.to_thread(self.slurm.say, "scontrol", "-o", "show", "job", str(handle))
            return set(words) <= set(said.split())

        await eventually(is_so, timeout_s=60)

    async def let_run(self, manager: JobManager, job_id: str) -> None:
        """Move it to where it starts, and see that it ran."""
        handle = (await manager.get(job_id)).handle
        self.slurm.say("scontrol", "update", f"jobid={handle}", "partition=debug")
        job = await manager.wait(job_id, 100)
        assert (job.exit_code, job.attempt, job.held_at) == (3, 1, None)


async def is_now(manager: JobManager, job_id: str, status: Status) -> bool:
    return (await manager.get(job_id)).status is status

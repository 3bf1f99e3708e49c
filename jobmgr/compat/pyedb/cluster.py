"""What the scheduler of this machine tells, asked directly: no service is needed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from msgspec import structs

from jobmgr.api.pyedb.cluster import GIBIBYTE, partition_shown
from jobmgr.dialects import registry
from jobmgr.dialects.dialect import Compliance, NotUnderstood, Standing, Wish
from jobmgr.errors import ClusterUnavailable, InvalidConfig, SiteUnreachable
from jobmgr.executors.cluster import Cluster
from jobmgr.executors.scheduler import Scheduler
from jobmgr.hfss import SchedulerType
from jobmgr.transports.local import LocalTransport


class SchedulerManager:
    """Questions to SLURM or LSF, in its own words. Raises ValueError for another scheduler.

    All raise ClusterUnavailable if it does not answer, or not so that it is understood.
    """

    def __init__(self, scheduler_type: SchedulerType) -> None:
        if scheduler_type not in {SchedulerType.SLURM, SchedulerType.LSF}:
            raise InvalidConfig("scheduler_type", f"{scheduler_type} cannot be asked here: give slurm or lsf")
        self.scheduler_type = SchedulerType(scheduler_type)

    async def get_partitions(self) -> list[dict[str, Any]]:
        """The partitions with what they have and what of it is used, as `GET /scheduler/partitions` has them.

        What is not told is None.
        """
        async with self._scheduler() as (_, cluster):
            partitions, nodes = await cluster.partitions(), await cluster.nodes()
        return [structs.asdict(partition_shown(one, nodes)) for one in partitions]

    async def get_jobs(self) -> list[dict[str, Any]]:
        """The jobs of all users that have not ended; `state` is the scheduler's own word.

        `nodes`, `cpus` and `memory_gb` (in powers of 1024) are all that a job has or, while it waits, asks for. LSF
        tells the cpus (its slots) and nodes of what runs, and the most memory that it has used so far. What is not
        told is None.
        """
        async with self._scheduler() as (_, cluster):
            jobs = (await cluster.jobs()).jobs
        return [_shown(job) for job in jobs]

    async def cancel_job(self, scheduler_job_id: str) -> bool:
        """Ask the scheduler to end a job; whether it complied. What jobmgr submitted is cancelled by its own id."""
        async with self._scheduler() as (scheduler, _):
            reply = await scheduler.ask(Wish.CANCEL, [scheduler_job_id])
        return reply.compliance is Compliance.DONE

    @asynccontextmanager
    async def _scheduler(self) -> AsyncIterator[tuple[Scheduler, Cluster]]:
        transport = LocalTransport(os.environ)
        scheduler = Scheduler(registry.dialect(self.scheduler_type), transport)
        try:
            yield scheduler, Cluster(scheduler, transport)
        except (NotUnderstood, SiteUnreachable) as error:
            raise ClusterUnavailable(str(self.scheduler_type), str(error)) from error
        finally:
            await transport.close()


def _shown(job: Standing) -> dict[str, Any]:
    memory_bytes = job.peak_memory_bytes if job.memory_bytes is None else job.memory_bytes
    return {
        "job_id": job.id,
        "partition": job.partition,
        "user": job.user,
        "state": job.word,
        "nodes": job.node_count,
        "cpus": job.cpus,
        "memory_gb": None if memory_bytes is None else memory_bytes / GIBIBYTE,
    }

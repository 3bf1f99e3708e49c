"""What waits and what runs, as pyedb's job manager had it in memory."""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec import structs

from jobmgr.compat.pyedb.desk import Desk
from jobmgr.compat.pyedb.limits import ResourceLimits
from jobmgr.compat.pyedb.session import Session
from jobmgr.compat.pyedb.usage import ResourceMonitor
from jobmgr.domain.job import Job
from jobmgr.domain.limits import ResourceLimits as Effective
from jobmgr.domain.status import LIVE, Status


class JobPoolManager:
    """A view on the database, each time as it is then: what stands in it changes nothing if it is changed.

    The order is the database's: larger priorities first, then as submitted. Jobs are put in by `JobManager.submit_job`
    and taken out by `cancel_job`.
    """

    def __init__(self, session: Session, resource_limits: ResourceLimits) -> None:
        self._session = session
        self.resource_limits = resource_limits

    @property
    def job_queue(self) -> deque[str]:
        """Ids of jobs that wait and have no priority, first one first."""
        return deque(job.job_id for job in self._jobs(Status.QUEUED) if job.priority == 0)

    @property
    def priority_queue(self) -> dict[int, list[str]]:
        """Ids of jobs that wait, by priority, highest first."""
        found: dict[int, list[str]] = {}
        for job in self._jobs(Status.QUEUED):
            if job.priority:
                found.setdefault(job.priority, []).append(job.job_id)
        return found

    @property
    def running_jobs(self) -> set[str]:
        """Ids of jobs that take a slot of this machine, or are in a scheduler's hands."""
        return {job.job_id for job in self._jobs(*LIVE)}

    @property
    def job_priorities(self) -> dict[str, int]:
        """Priorities of jobs that wait or run."""
        return {job.job_id: job.priority for job in self._jobs(Status.QUEUED, *LIVE)}

    def get_queue_stats(self) -> dict[str, Any]:
        """`total_queued`, `regular_queue_size`, `priority_queues`, `running_jobs`, `max_concurrent`."""
        if not self._session.is_running:
            return {
                "total_queued": 0,
                "regular_queue_size": 0,
                "priority_queues": {},
                "running_jobs": 0,
                "max_concurrent": self.resource_limits.max_concurrent_jobs,
            }
        found = structs.asdict(self._session.call(lambda desk: desk.client.queue_stats()))
        # A key of JSON is a text.
        by_priority = {int(priority): count for priority, count in found["priority_queues"].items()}
        return found | {"priority_queues": by_priority}

    def can_start_job(self, resource_monitor: ResourceMonitor) -> bool:
        """Whether the machine, as it is told, and the limits would let one more job start now.

        The service asks itself; this changes nothing.
        """
        usage, stats, limits = resource_monitor.current_usage, self.get_queue_stats(), self._limits()
        return bool(
            stats["running_jobs"] < stats["max_concurrent"]
            and (limits.max_cpu_percent is None or usage["cpu_percent"] <= limits.max_cpu_percent)
            and (limits.min_memory_gb is None or usage["memory_free_gb"] >= limits.min_memory_gb)
            and (limits.min_disk_gb is None or usage["disk_free_gb"] >= limits.min_disk_gb)
        )

    def __repr__(self) -> str:
        if not self._session.is_running:
            return f"<{type(self).__name__}: its manager does not run>"
        stats = self.get_queue_stats()
        return "<{}: {total_queued} queued, {running_jobs} running, at most {max_concurrent}>".format(
            type(self).__name__, **stats
        )

    def _limits(self) -> Effective | ResourceLimits:
        """Those that hold: a service of others has its own."""
        if not self._session.is_running:
            return self.resource_limits
        return self._session.call(lambda desk: desk.client.limits())

    def _jobs(self, *statuses: Status) -> list[Job]:
        if not self._session.is_running:
            return []

        async def ask(desk: Desk) -> list[Job]:
            return [job async for job in desk.client.list(status=statuses, order="-priority")]

        return self._session.call(ask)

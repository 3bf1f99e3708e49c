"""The machine of the service: what it has now, what waits for it, and how much of it may be used."""

from __future__ import annotations

import msgspec
from aiohttp import web

from jobmgr.api.idempotency import manager_of
from jobmgr.api.reply import reply
from jobmgr.domain.queue import Backlog
from jobmgr.errors import InvalidRequest
from jobmgr.manager.manager import Manager
from jobmgr.monitor import Sample
from jobmgr.wire.pyedb import (
    Done,
    LocalPool,
    MeAnswer,
    PoolLimitsAnswer,
    QueueStatistics,
    ResourceMonitoring,
    ResourcesAnswer,
    SchedulerDetection,
    SystemStatus,
)
from jobmgr.wire.requests import LimitsChange, given
from jobmgr.wire.translation import limits_answer


async def resources(request: web.Request) -> web.Response:
    """This machine now."""
    return reply(resources_answer(manager_of(request).resources()))


def resources_answer(sample: Sample) -> ResourcesAnswer:
    """A look at the machine as it travels."""
    used_gb = sample.memory_total_gb - sample.memory_free_gb
    return ResourcesAnswer(
        cpu_percent=sample.cpu_percent,
        memory_percent=_percent(used_gb, sample.memory_total_gb),
        memory_used_gb=round(used_gb, 3),
        memory_total_gb=round(sample.memory_total_gb, 3),
        memory_free_gb=round(sample.memory_free_gb, 3),
        disk_usage_percent=_percent(sample.disk_total_gb - sample.disk_free_gb, sample.disk_total_gb),
        disk_free_gb=round(sample.disk_free_gb, 3),
        timestamp=sample.at.isoformat(timespec="microseconds"),
    )


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


async def queue(request: web.Request) -> web.Response:
    """What waits, by priority."""
    return reply(_statistics(await manager_of(request).backlog()))


def _statistics(backlog: Backlog) -> QueueStatistics:
    others = {priority: count for priority, count in backlog.by_priority.items() if priority}
    return QueueStatistics(
        total_queued=backlog.queued,
        regular_queue_size=backlog.by_priority.get(0, 0),
        priority_queues={str(priority): others[priority] for priority in sorted(others, reverse=True)},
        running_jobs=backlog.running,
        max_concurrent=backlog.slots,
    )


async def limits(request: web.Request) -> web.Response:
    """How much of this machine may be used."""
    return reply(limits_answer(await manager_of(request).limits()))


async def change_limits(request: web.Request, body: LimitsChange) -> web.Response:
    """Change that; all of the changes are made, or none."""
    changes = given(body)
    if not changes:
        raise InvalidRequest("", f"No data provided; known fields: {', '.join(body.__struct_fields__)}")
    now = limits_answer(await manager_of(request).update_limits(**changes))
    values = msgspec.structs.asdict(now)
    return reply(
        PoolLimitsAnswer(
            **values, success=True, message="Concurrent job limits updated successfully", limits=now
        )
    )


async def status(request: web.Request) -> web.Response:
    """Scheduler, machine, queue and limits together."""
    manager = manager_of(request)
    machine, backlog = resources_answer(manager.resources()), await manager.backlog()
    scheduler = await manager.scheduler()
    return reply(
        SystemStatus(
            SchedulerDetection(scheduler.name, "JobManager", backend_available=True),
            ResourceMonitoring(**msgspec.structs.asdict(machine), active=True, last_update=machine.timestamp),
            scheduler.value,
            LocalPool(backlog.running, backlog.queued, backlog.slots),
            limits_answer(await manager.limits()),
        )
    )


async def start_monitoring(_request: web.Request) -> web.Response:
    """Nothing: the machine is looked at when somebody asks, and while limits need it."""
    return reply(Done(success=True, message="Resource monitoring already active"))


async def me(request: web.Request) -> web.Response:
    """Whom jobs belong to."""
    manager: Manager = manager_of(request)
    return reply(MeAnswer(manager.user))

"""The scheduler of the service, and its partitions."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from jobmgr.api.idempotency import manager_of
from jobmgr.api.reply import reply
from jobmgr.dialects.dialect import Node, Partition
from jobmgr.errors import InvalidRequest
from jobmgr.hfss.scheduler import SchedulerType
from jobmgr.manager.manager import Manager
from jobmgr.wire.pyedb import PyedbPartition, SchedulerTypeAnswer
from jobmgr.wire.text import readable

GIBIBYTE = 2**30


async def scheduler_type(request: web.Request) -> web.Response:
    """Which scheduler jobs go to."""
    return reply(SchedulerTypeAnswer((await manager_of(request).scheduler()).value))


async def partitions(request: web.Request) -> web.Response:
    """The partitions of the scheduler. Raises InvalidRequest if there is none."""
    manager = manager_of(request)
    scheduler = await manager.scheduler()
    if scheduler is SchedulerType.NONE:
        raise InvalidRequest("", "Scheduler not supported: there is none here; `jobmgr site add` adds one")
    return reply(await _partitions(manager, scheduler))


async def partitions_for_page(request: web.Request) -> web.Response:
    """The same; none without a scheduler."""
    manager = manager_of(request)
    scheduler = await manager.scheduler()
    return reply([] if scheduler is SchedulerType.NONE else await _partitions(manager, scheduler))


async def _partitions(manager: Manager, scheduler: SchedulerType) -> Sequence[PyedbPartition]:
    found, nodes = await manager.scheduler_machines(scheduler)
    return [partition_shown(one, nodes) for one in found]


def partition_shown(partition: Partition, nodes: Sequence[Node]) -> PyedbPartition:
    """A partition as it travels, with those of the scheduler's machines that it may use."""
    machines = _machines_of(partition, nodes)
    cores = _told([node.cpus for node in machines])
    is_use_told = _told([node.cpus_used for node in machines]) is not None
    # How much of its memory a node has given out is not told; who has given out cores has none for others, at worst.
    used = [node for node in machines if node.cpus_used or not node.is_up]
    memory_gb = _memory_gb(machines)
    memory_used_gb = _memory_gb(used) if is_use_told and memory_gb is not None else None
    return PyedbPartition(
        name=readable(partition.name),
        nodes_total=len(machines) or partition.nodes or 0,
        nodes_used=len(used) if is_use_told else None,
        cores_total=partition.cpus if cores is None else cores,
        cores_used=_told([node.cpus_used if node.is_up else node.cpus for node in machines])
        if is_use_told
        else None,
        memory_total_gb=memory_gb,
        memory_used_gb=memory_used_gb,
        # As LSF's were called.
        mem_total_gb=memory_gb,
        mem_used_gb=memory_used_gb,
    )


def _machines_of(partition: Partition, nodes: Sequence[Node]) -> Sequence[Node]:
    """Those that name it. Where none does, those that name none: PBS tells only of machines that are bound to a queue
    which it is, LSF of none.
    """
    bound = [node for node in nodes if partition.name in node.partitions]
    return bound or [node for node in nodes if not node.partitions]


def _memory_gb(nodes: Sequence[Node]) -> float | None:
    memory_bytes = _told([node.memory_bytes for node in nodes])
    return None if memory_bytes is None else memory_bytes / GIBIBYTE


def _told(amounts: Sequence[int | None]) -> int | None:
    """All of them together; None if there are some, and none is told."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known or not amounts else None

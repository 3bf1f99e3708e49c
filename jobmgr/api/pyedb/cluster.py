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
    return [partition_shown(one, [node for node in nodes if one.name in node.partitions]) for one in found]


def partition_shown(partition: Partition, nodes: Sequence[Node]) -> PyedbPartition:
    """A partition as it travels, with its machines."""
    memory_gb = sum(node.memory_bytes or 0 for node in nodes) / GIBIBYTE
    # How much of its memory a node has given out is not told; who has given out cores has none for others, at worst.
    used = [node for node in nodes if node.cpus_used or not node.is_up]
    memory_used_gb = sum(node.memory_bytes or 0 for node in used) / GIBIBYTE
    return PyedbPartition(
        name=readable(partition.name),
        nodes_total=len(nodes) or partition.nodes or 0,
        nodes_used=len(used),
        cores_total=sum(node.cpus or 0 for node in nodes) or partition.cpus or 0,
        cores_used=sum((node.cpus_used if node.is_up else node.cpus) or 0 for node in nodes),
        memory_total_gb=memory_gb,
        memory_used_gb=memory_used_gb,
        # As LSF's were called.
        mem_total_gb=memory_gb,
        mem_used_gb=memory_used_gb,
    )

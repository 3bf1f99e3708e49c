"""Clusters: what the schedulers of the sites tell."""

from __future__ import annotations

import asyncio

from aiohttp import web

from jobmgr.api.idempotency import manager_of
from jobmgr.api.reply import reply
from jobmgr.dialects.dialect import Node, Partition, Phase, Standing
from jobmgr.manager.cluster import ForeignJobs, Overview
from jobmgr.manager.recall import Told, shown
from jobmgr.wire.answers import (
    ClusterAnswer,
    ClusterJobAnswer,
    ClusterJobsAnswer,
    ClustersAnswer,
    InstalledAnswer,
    NodeAnswer,
    NodesAnswer,
    PartitionAnswer,
    PartitionsAnswer,
)
from jobmgr.wire.requests import ClusterJobsQuery
from jobmgr.wire.text import readable
from jobmgr.wire.translation import moment_or_none, moment_text


async def clusters(request: web.Request) -> web.Response:
    """All sites in numbers, and what is installed here."""
    manager = manager_of(request)
    found, installed = await asyncio.gather(manager.clusters(), manager.installed())
    return reply(
        ClustersAnswer(
            [_overview(each) for each in found],
            [InstalledAnswer(kind, readable(version)) for kind, version in installed.items()],
        )
    )


async def cluster(request: web.Request) -> web.Response:
    """One site in numbers."""
    manager, name = manager_of(request), request.match_info["name"]
    return reply(await shown(manager.cluster(name), _overview))


async def partitions(request: web.Request) -> web.Response:
    """The partitions of a site."""
    manager, name = manager_of(request), request.match_info["name"]

    def show(told: Told[tuple[Partition, ...]]) -> PartitionsAnswer:
        return PartitionsAnswer(name, moment_text(told.at), told.age_s, list(map(_partition, told.value)))

    return reply(await shown(manager.partitions(name), show))


async def nodes(request: web.Request) -> web.Response:
    """The machines of a site."""
    manager, name = manager_of(request), request.match_info["name"]

    def show(told: Told[tuple[Node, ...]]) -> NodesAnswer:
        return NodesAnswer(name, moment_text(told.at), told.age_s, list(map(_node, told.value)))

    return reply(await shown(manager.nodes(name), show))


async def jobs(request: web.Request, query: ClusterJobsQuery) -> web.Response:
    """A page of everybody's jobs at a site."""
    manager, name = manager_of(request), request.match_info["name"]
    phases = frozenset(map(Phase, query.phase))

    def show(told: Told[ForeignJobs]) -> ClusterJobsAnswer:
        page = told.value
        return ClusterJobsAnswer(
            site=name,
            told_at=moment_text(told.at),
            age_s=told.age_s,
            jobs=list(map(_job, page.jobs)),
            total=page.total,
            next_cursor=None if page.next_cursor is None else readable(page.next_cursor),
            complete=page.complete,
            why=readable(page.why),
        )

    listed = manager.cluster_jobs(
        name,
        user=query.user,
        partition=query.partition,
        phases=phases,
        limit=query.limit,
        cursor=query.cursor,
    )
    return reply(await shown(listed, show))


def _overview(found: Overview) -> ClusterAnswer:
    return ClusterAnswer(
        site=found.site.name,
        kind=found.site.dialect or found.site.executor,
        host=found.site.host,
        enabled=found.site.is_enabled,
        told_at=moment_or_none(found.told_at),
        age_s=found.age_s,
        nodes=found.nodes,
        nodes_up=found.nodes_up,
        cpus=found.cpus,
        cpus_used=found.cpus_used,
        gpus=found.gpus,
        jobs_running=found.jobs_running,
        jobs_waiting=found.jobs_waiting,
        trouble=readable(found.trouble) or None,
    )


def _partition(partition: Partition) -> PartitionAnswer:
    return PartitionAnswer(
        name=readable(partition.name),
        is_default=partition.is_default,
        is_up=partition.is_up,
        max_walltime_s=partition.max_walltime_s,
        nodes=partition.nodes,
        cpus=partition.cpus,
        jobs_running=partition.jobs_running,
        jobs_pending=partition.jobs_pending,
    )


def _node(node: Node) -> NodeAnswer:
    return NodeAnswer(
        name=readable(node.name),
        state=readable(node.state),
        is_up=node.is_up,
        cpus=node.cpus,
        cpus_used=node.cpus_used,
        memory_bytes=node.memory_bytes,
        gpus=node.gpus,
        partitions=list(map(readable, node.partitions)),
    )


def _job(job: Standing) -> ClusterJobAnswer:
    return ClusterJobAnswer(
        id=readable(job.id),
        name=readable(job.name),
        user=readable(job.user),
        partition=readable(job.partition),
        phase=job.phase,
        state=readable(job.word),
        reason=readable(job.reason),
        expected_start=moment_or_none(job.expected_start),
        started_at=moment_or_none(job.started_at),
        nodes=readable(job.nodes),
        node_count=job.node_count,
        cpus=job.cpus,
        memory_bytes=job.memory_bytes,
    )

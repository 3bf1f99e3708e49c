"""The verbs on clusters: what the schedulers of the sites tell of partitions, machines and everybody's jobs."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from jobmgr.dialects import registry
from jobmgr.dialects.dialect import Listing, Node, Partition, Phase, Standing
from jobmgr.domain.site import LOCAL, Site
from jobmgr.errors import ClusterUnavailable, InvalidRequest
from jobmgr.executors.cluster import Cluster, installed, place_of
from jobmgr.executors.scheduler import Scheduler
from jobmgr.manager.core import Core
from jobmgr.manager.recall import Told, shown
from jobmgr.store import sites

_HERE = "this machine"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Overview:
    """A site, and how large and busy its cluster is. None: not told. `trouble`: why it tells nothing newer."""

    site: Site
    told_at: datetime | None = None
    age_s: float | None = None
    nodes: int | None = None
    nodes_up: int | None = None
    cpus: int | None = None
    cpus_used: int | None = None
    gpus: int | None = None
    jobs_running: int | None = None
    jobs_waiting: int | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class ForeignJobs:
    """A page of the jobs of a cluster, of `total` that were selected; `next_cursor` is None on the last page.

    If they are not `complete`, there may be more, and `why` says why they were not listed.
    """

    jobs: Sequence[Standing]
    total: int
    next_cursor: str | None
    complete: bool
    why: str


class Clusters(Core):
    """What clusters tell of themselves. An answer is remembered for half a minute, so it may be asked for often.

    The questions about one site raise SiteNotFound; InvalidRequest if this service does not serve it; and
    ClusterUnavailable, with what was told last, if its scheduler cannot be asked or understood now.
    """

    async def clusters(self) -> Sequence[Overview]:
        """All sites by name; one that does not tell has `trouble`."""
        rows = await self._read(sites.listing)
        return await asyncio.gather(*map(self._overview, rows))

    async def cluster(self, name: str) -> Overview:
        """One site."""
        found = await self._overview(await self._site(name))
        if found.trouble:
            raise ClusterUnavailable(name, found.trouble, None if found.told_at is None else found)
        return found

    async def partitions(self, name: str) -> Told[tuple[Partition, ...]]:
        """The partitions of a site; this machine and plain hosts have none."""
        site = await self._site(name)
        if site.is_local:
            return Told.now(())
        return await self._told(site, "partitions", Cluster.partitions)

    async def nodes(self, name: str) -> Told[tuple[Node, ...]]:
        """The machines of a site."""
        return await self._nodes(await self._site(name))

    async def cluster_jobs(
        self,
        name: str,
        *,
        user: str | None = None,
        partition: str | None = None,
        phases: Collection[Phase] = (),
        limit: int = 100,
        cursor: str | None = None,
    ) -> Told[ForeignJobs]:
        """A page of everybody's jobs at a site that have not ended, in the order of their ids.

        `user`, `partition` and `phases` select, `cursor` is `next_cursor` of the page before. Raises InvalidRequest
        for `local`, too.
        """
        site = await self._site(name)
        if site.is_local:
            raise InvalidRequest("name", "local has no scheduler; `jobmgr ls` lists what runs here")

        is_filtered = user is not None or partition is not None or bool(phases)

        def is_selected(job: Standing) -> bool:
            return (
                (user is None or job.user == user)
                and (partition is None or job.partition == partition)
                and (not phases or job.phase in phases)
            )

        def page(told: Told[Listing]) -> Told[ForeignJobs]:
            jobs = told.value.jobs
            selected = [job for job in jobs if is_selected(job)] if is_filtered else jobs
            return Told(_page(told.value, selected, limit, cursor), told.at, told.age_s)

        return await shown(self._jobs(site), page)

    async def installed(self) -> Mapping[str, str]:
        """The schedulers whose commands answer on this machine, by kind, with what they say they are."""
        here = self.parts.here

        async def ask() -> Mapping[str, str]:
            return await installed(map(registry.dialect, registry.schedulers()), here)

        return (await self.parts.recall.told(here, _HERE, "installed", ask)).value

    async def partitions_here(self, kind: str) -> Told[tuple[Partition, ...]]:
        """The partitions of this machine's scheduler of a kind. No site of it needs to be stored."""
        return await self._told_here(kind, "partitions", Cluster.partitions)

    async def nodes_here(self, kind: str) -> Told[tuple[Node, ...]]:
        """The machines of this machine's scheduler of a kind."""
        return await self._told_here(kind, "nodes", Cluster.nodes)

    async def _told_here(self, kind: str, what: str, ask: Callable[[Cluster], Awaitable[T]]) -> Told[T]:
        here = self.parts.here
        cluster = Cluster(Scheduler(registry.dialect(kind), here), here)
        return await self.parts.recall.told(here, _HERE, f"{what} of {kind}", lambda: ask(cluster))

    async def _site(self, name: str) -> Site:
        return await self._read(sites.get, name)

    async def _nodes(self, site: Site) -> Told[tuple[Node, ...]]:
        if site.is_local:
            return Told.now((self._this_machine(),))
        return await self._told(site, "nodes", Cluster.nodes)

    async def _jobs(self, site: Site) -> Told[Listing]:
        return await self._told(site, "jobs", Cluster.jobs)

    async def _told(self, site: Site, what: str, ask: Callable[[Cluster], Awaitable[T]]) -> Told[T]:
        executor = await self.dispatcher.foreign(site)
        return await self.parts.recall.told(executor, site.name, what, lambda: ask(executor.cluster))

    def _this_machine(self) -> Node:
        machine = self.dispatcher.admission.machine
        # Jobs need not say how many cpus they use.
        return Node(
            name=self.parts.service,
            state="up",
            is_up=True,
            cpus=machine.cpus,
            cpus_used=None,
            memory_bytes=machine.memory_bytes,
            gpus=len(machine.gpus),
            partitions=(),
        )

    async def _overview(self, site: Site) -> Overview:
        if site.is_local:
            here = overview(site, await self._nodes(site), None)
            return replace(here, jobs_running=self.dispatcher.roster.count(LOCAL))
        (nodes, no_nodes), (jobs, no_jobs) = await asyncio.gather(
            _last(self._nodes(site)), _last(self._jobs(site))
        )
        return replace(overview(site, nodes, jobs), trouble=no_nodes or no_jobs)


def overview(site: Site, nodes: Told[tuple[Node, ...]] | None, jobs: Told[Listing] | None) -> Overview:
    """A site in numbers, as old as the older of what was told."""
    both: list[Told[Any]] = [told for told in (nodes, jobs) if told is not None]
    oldest = max(both, key=lambda told: told.age_s, default=None)
    machines = () if nodes is None else nodes.value
    found = Overview(
        site,
        None if oldest is None else oldest.at,
        None if oldest is None else oldest.age_s,
        cpus=_sum(machine.cpus for machine in machines),
        cpus_used=_sum(machine.cpus_used for machine in machines),
        gpus=_sum(machine.gpus for machine in machines),
    )
    if nodes is not None:
        up = sum(machine.is_up for machine in machines)
        found = replace(found, nodes=len(machines), nodes_up=up)
    if jobs is not None:
        phases = Counter(job.phase for job in jobs.value.jobs)
        found = replace(
            found,
            jobs_running=phases[Phase.RUNNING] + phases[Phase.ENDING],
            jobs_waiting=phases[Phase.PENDING] + phases[Phase.HELD],
        )
    return found


def _page(listing: Listing, selected: Sequence[Standing], limit: int, cursor: str | None) -> ForeignJobs:
    # By its place, so that who has ended since the page before does not shift the others.
    start = (
        0 if cursor is None else bisect_right(selected, place_of(cursor), key=lambda job: place_of(job.id))
    )
    jobs = selected[start : start + limit]
    more = jobs[-1].id if len(selected) > start + limit else None
    return ForeignJobs(jobs, len(selected), more, listing.complete, listing.why)


async def _last(told: Awaitable[Told[T]]) -> tuple[Told[T] | None, str]:
    """What is told, or was told last, and why there is nothing newer."""
    try:
        return await told, ""
    except ClusterUnavailable as error:
        return error.last, error.reason
    except InvalidRequest as error:
        return None, error.message


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None

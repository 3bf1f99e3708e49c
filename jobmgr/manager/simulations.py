"""The verbs on simulations: jobs that were made of a configuration, which is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from jobmgr.dialects.dialect import Node, Partition
from jobmgr.domain import access
from jobmgr.domain.access import Verb
from jobmgr.domain.advice import same_project
from jobmgr.domain.job import Job
from jobmgr.domain.queue import DEFAULT_QUEUE
from jobmgr.domain.site import Site
from jobmgr.errors import InvalidConfig, JobNotFound, NotASimulation, PathNotFound
from jobmgr.hfss import script
from jobmgr.hfss.config import HFSSSimulationConfig
from jobmgr.hfss.job import KIND, configuration, new_job
from jobmgr.hfss.scheduler import SchedulerType
from jobmgr.manager.cluster import Clusters
from jobmgr.manager.files import Files
from jobmgr.store import listing, simulations, sites
from jobmgr.wire.pyedb import SimulationShown

# Which is meant where several are, as in pyedb.
_DETECTED = (SchedulerType.SLURM, SchedulerType.LSF, SchedulerType.PBS, SchedulerType.WINDOWS_HPC)


@dataclass(frozen=True, slots=True)
class Simulation:
    """A job, and the configuration that it was made of."""

    job: Job
    config: HFSSSimulationConfig


class Simulations(Files, Clusters):
    """Run simulations, and look at them."""

    async def simulate(
        self,
        config: HFSSSimulationConfig,
        *,
        priority: int = 0,
        queue: str = DEFAULT_QUEUE,
    ) -> Job:
        """Store the job of a simulation, which has the configuration's id; committed on return.

        The same again while it lives changes nothing; once it has ended, it runs again as another attempt of the same
        job, in the queue and with the priority that are given then. A configuration for a scheduler goes to the site of
        that kind, which is made if there is none: see `ensure_site`. Raises InvalidConfig and InvalidRequest naming the
        field, PathNotFound if this machine is to run it and has no such project, SimulationExists if a job of this id
        has another configuration.
        """
        new = new_job(config, priority=priority, queue=queue, user=self.user)
        await self._check_project(config)
        if config.scheduler_type is not SchedulerType.NONE:
            await self.ensure_site(config.scheduler_type)
        self.dispatcher.expect_work()
        return await self._write(simulations.submit, new)

    async def advice(self, job: Job, config: HFSSSimulationConfig) -> Sequence[str]:
        """What is worth telling about a simulation that is stored all the same."""
        project = script.absolute(config).project_path
        for other, made_of in await self._read(simulations.rivals, job):
            if made_of.get("project_path") == project:
                return [same_project(config.project_path, other)]
        return []

    async def _check_project(self, config: HFSSSimulationConfig) -> None:
        try:
            await asyncio.to_thread(config.check_here)
        except PathNotFound:
            # Who asks once more for what was stored is answered alike, whatever became of the project.
            try:
                await self._read(listing.key_of, config.jobid)
            except JobNotFound:
                pass
            else:
                return
            raise

    async def simulation(self, job_id: str) -> Simulation:
        """One simulation. Raises JobNotFound, NotASimulation."""
        (job,) = await self._read(listing.get, [job_id])
        self._check(job)
        return Simulation(job, await self._config(job_id))

    async def _config(self, job_id: str) -> HFSSSimulationConfig:
        kind, payload = await self._read(simulations.payload, job_id)
        if kind != KIND:
            raise NotASimulation(job_id)
        return configuration(payload)

    async def portion(self, after: int, at_most: int) -> tuple[Sequence[SimulationShown], int | None]:
        """At most so many jobs that whoever asks may see, in the order in which they were stored, from behind the one
        with the key `after`.

        And the key of the last one; None: there are no more. Configurations are as they are stored.
        """
        return await self._ask(simulations.page, after, at_most, self.sight)

    async def scheduler(self) -> SchedulerType:
        """The scheduler of this service: that of a site, else one that answers on this machine, else NONE."""
        stored = {site.dialect for site in await self._read(sites.listing) if site.is_enabled}
        for kinds in (stored, await self.installed()):
            for scheduler in _DETECTED:
                if scheduler.value in kinds:
                    return scheduler
        return SchedulerType.NONE

    async def scheduler_machines(
        self, scheduler: SchedulerType
    ) -> tuple[Sequence[Partition], Sequence[Node]]:
        """The partitions of a scheduler, and its machines: of the site where jobs go, else of this machine's own.

        Stores nothing. Raises ClusterUnavailable; InvalidRequest if this service does not serve the site.
        """
        site = await self._site_of(scheduler.value)
        if site is None:
            kind = scheduler.value
            return (await self.partitions_here(kind)).value, (await self.nodes_here(kind)).value
        return (await self.partitions(site.name)).value, (await self.nodes(site.name)).value

    async def _site_of(self, kind: str) -> Site | None:
        there = [site for site in await self._read(sites.listing) if site.dialect == kind]
        return min(there, key=lambda site: (site.name != kind, site.name), default=None)

    async def ensure_site(self, scheduler: SchedulerType) -> Site:
        """The site of this kind where jobs go that name none; made on this machine if there is none of the kind.

        Raises InvalidConfig if none is stored and its commands do not answer here, AccessDenied if none is stored and
        whoever asks may make none.
        """
        kind = scheduler.value
        there = await self._site_of(kind)
        if there is not None:
            return there
        if self.caller is not None:
            access.check(self.caller.principal, Verb.OPERATE)
        if kind not in await self.installed():
            raise InvalidConfig(
                "scheduler_type",
                f"there is no site of the kind {kind}, and its commands do not answer on this machine;"
                f" `jobmgr site add NAME --kind {kind} --host HOST` makes one, and `none` runs it on this machine",
            )
        site = Site(name=kind, dialect=kind, work_dir=str(self.parts.runs.parent.absolute()))
        # Not the change that a key stands for: it comes to the same however often it is made.
        return await self.database.write(sites.ensure, site, caller=self.caller)

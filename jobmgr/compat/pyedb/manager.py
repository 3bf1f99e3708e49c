"""The job manager of pyedb, asynchronous: a service of this program, or the one that runs already."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from types import TracebackType
from typing import Any, Self

from msgspec import structs

from jobmgr import settings
from jobmgr.api import idempotency
from jobmgr.client import simulation
from jobmgr.client.client import Client
from jobmgr.client.remarks import Remarks
from jobmgr.compat.pyedb import limits
from jobmgr.compat.pyedb.desk import Desk, Work
from jobmgr.compat.pyedb.limits import ResourceLimits
from jobmgr.compat.pyedb.pool import JobPoolManager
from jobmgr.compat.pyedb.records import Records
from jobmgr.compat.pyedb.session import Session
from jobmgr.compat.pyedb.usage import ResourceMonitor
from jobmgr.domain.job import Job
from jobmgr.domain.limits import ResourceLimits as Effective
from jobmgr.domain.once import Once
from jobmgr.domain.status import TERMINAL, WAITING, Status
from jobmgr.errors import JobNotFound, WaitTimeout
from jobmgr.hfss import HFSSSimulationConfig, SchedulerType
from jobmgr.settings import Settings

logger = logging.getLogger(__name__)

# How long a cancelled job is waited for: its processes have ten seconds to end by themselves.
_CANCEL_S = 30.0
_LIMITS = tuple(field.name for field in fields(ResourceLimits))


class JobManager:
    """Runs simulations on this machine and in its scheduler's queue, in order of priority.

        manager = JobManager(ResourceLimits(max_concurrent_jobs=4))
        job_id = await manager.submit_job(config, priority=5)
        await manager.wait_until_all_done()
        print(manager.jobs[job_id].status)
        manager.close()

    It starts at the first submission, at `start`, or as `async with JobManager(...) as manager`; at the end of the
    program it is closed. Jobs are in the database of `jobmgr serve` (JOBMGR_DATABASE, or `database`), and survive this
    program: what runs at its end runs on, and what waits is run by the next service. If a service runs on that database
    already, what is submitted here goes there. All loops and threads may use one manager.
    """

    def __init__(
        self,
        resource_limits: ResourceLimits | None = None,
        scheduler_type: SchedulerType | str = SchedulerType.NONE,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        database: str | None = None,
        work_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self._limits = ResourceLimits() if resource_limits is None else resource_limits
        limits.check(asdict(self._limits))
        self.scheduler_type = SchedulerType.of(scheduler_type)
        self.ansys_path: str | None = None
        # Where its service is to listen: that of the next start.
        self.host, self.port = host, port
        self._flags = {
            "database": database,
            "work_dir": None if work_dir is None else os.fspath(work_dir),
        }
        self.session = Session(self._settings)
        self.jobs = Records(self.session)
        self.job_pool = JobPoolManager(self.session, self._limits)
        self.resource_monitor = ResourceMonitor(ask=self._usage)

    @property
    def resource_limits(self) -> ResourceLimits:
        """What may run. Others hold at once, also in its service; InvalidConfig if they make no sense."""
        return self._limits

    @resource_limits.setter
    def resource_limits(self, found: ResourceLimits) -> None:
        limits.check(asdict(found))
        if self.session.is_running:
            self._set_limits(asdict(found))
            found.bind(self._set_limits)
        if found is not self._limits:
            self._limits.bind(None)
        self._limits = self.job_pool.resource_limits = found

    def _settings(self) -> Settings:
        asked = {"host": self.host, "port": self.port, **self._flags, **asdict(self.resource_limits)}
        return settings.load(asked, os.environ)

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def start(self) -> None:
        """Return when it takes submissions. Raises what is wrong: AddressUnavailable, StoreError, InvalidRequest, …"""
        if self.session.is_running:
            return
        self.session.start()
        self.resource_limits.bind(self._set_limits)

    def close(self, *, wait: bool = False) -> None:
        """Let go: what runs runs on, what waits is run by the next service. It may be started again.

        With `wait` nothing new is started, and what runs is waited for.
        """
        self.resource_limits.bind(None)
        self.session.stop(wait=wait)

    async def submit_job(self, config: HFSSSimulationConfig, priority: int = 0) -> str:
        """Store a simulation to be run, larger priorities first; answers its id, `config.jobid`.

        While it lives, another call with the same configuration changes nothing; after its end it is run again. Raises
        InvalidConfig, Conflict (another configuration has this `jobid`).
        """
        await self._start()
        return await self.session.ask(storing(config, priority))

    async def cancel_job(self, job_id: str) -> bool:
        """End the job and all of its processes. False: there is none, it had ended, or it ended by itself meanwhile."""
        await self._start()
        return await self.session.ask(cancelling(job_id))

    async def wait_until_all_done(self) -> None:
        """Wait until no stored job is left that has not ended, whoever submitted it; log why one does not start.

        But for drafts, held jobs, and what depends on them: those wait for somebody.
        """
        await self._start()
        await self.session.ask(lambda desk: all_done(desk.client))

    async def edit_concurrent_limits(self, update_data: Mapping[str, Any]) -> dict[str, Any] | None:
        """Change limits while it runs, all or none; all of them as they are then, None if none is named.

        Raises InvalidConfig, a ValueError which names the limit.
        """
        changes = {name: update_data[name] for name in _LIMITS if name in update_data}
        if not changes:
            return None
        limits.check(changes)
        await self._start()
        found = await self.session.ask(lambda desk: desk.client.update_limits(**changes))
        # Only what was said here: the others may be those of a service that has limits of its own.
        self.resource_limits.take(changes)
        return asdict(found)

    async def _start(self) -> None:
        if not self.session.is_running:
            await asyncio.to_thread(self.start)

    def _usage(self) -> Mapping[str, Any] | None:
        if not self.session.is_running:
            return None
        return structs.asdict(self.session.call(lambda desk: desk.client.resources()))

    def _set_limits(self, changes: Mapping[str, Any]) -> Effective:
        return self.session.call(lambda desk: desk.client.update_limits(**changes))


def storing(config: HFSSSimulationConfig, priority: int) -> Work[str]:
    """Stores a simulation, once, however often and at however many services of its database it is done; its id."""
    # One that has ended meanwhile would else be run again by whom the next service asks.
    key = secrets.token_hex(16)

    async def store(desk: Desk) -> str:
        if desk.own is None:
            job_id = await desk.client.simulate(config, priority=priority, key=key)
        else:
            # Not over its routes, which let clients name known programs only: this is the user's own program.
            body = simulation.encoded(config, priority)
            once = Once(desk.own.user, key, idempotency.fingerprint("POST", simulation.SUBMIT, body))
            job = await desk.own.under(once).simulate(config, priority=priority)
            for sentence in await desk.own.advice(job, config):
                logger.warning("%s", sentence)
            job_id = job.job_id
        desk.shelf.put_config(job_id, config)
        desk.shelf.forget(job_id)
        return job_id

    return store


async def ended(client: Client, job_ids: Sequence[str]) -> Sequence[Job]:
    """These jobs once all have ended; why one of them does not start is logged meanwhile."""
    async with Remarks(client, job_ids, logger.log):
        return await client.wait_many(job_ids)


async def all_done(client: Client) -> None:
    """Wait until no stored job is left that has not ended, but drafts, held ones, and what depends on them."""
    unfinished = [status for status in Status if status not in TERMINAL]
    while job_ids := [job.job_id async for job in client.list(status=unfinished) if _goes_on(job)]:
        try:
            await ended(client, job_ids)
        except JobNotFound:
            continue  # One was deleted meanwhile: look again.


def _goes_on(job: Job) -> bool:
    """Whether nobody has to let it go, and no job has to end first: whoever waits looks again at a parent's end."""
    is_let = not job.draft and job.held_at is None and not job.deps_left
    return is_let or job.status not in {*WAITING, Status.SCHEDULED}


def cancelling(job_id: str) -> Work[bool]:
    """Ends a job, and waits for that; whether it did, which had not ended when this was first done."""
    # Done again, because an answer was lost, it finds the job cancelled by itself.
    had_ended: bool | None = None

    async def cancel(desk: Desk) -> bool:
        nonlocal had_ended
        try:
            if had_ended is None:
                had_ended = (await desk.client.get(job_id)).status.is_terminal
            job = await desk.client.cancel(job_id)
            if not job.status.is_terminal:
                job = await desk.client.wait(job_id, _CANCEL_S)
        except JobNotFound:
            return False
        except WaitTimeout:
            logger.warning("job %s is to be cancelled; it has not ended yet", job_id)
            return True
        finally:
            desk.shelf.forget(job_id)
        return job.status is Status.CANCELLED and not had_ended

    return cancel

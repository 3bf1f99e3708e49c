"""What was read of jobs lately, kept as current as the events that tell of changes."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import aclosing
from types import TracebackType
from typing import Self

from jobmgr.client.client import PAGE_SIZE, Client
from jobmgr.domain.job import EventPosition, Job, JobPage
from jobmgr.errors import EventsGone, JobmgrError, JobNotFound, ServiceUnreachable
from jobmgr.hfss import HFSSSimulationConfig

logger = logging.getLogger(__name__)

# A page of a listing many times over, and some ten megabytes.
_MOST_JOBS = 10_000
_MOST_CONFIGS = 1_000
_PAUSE_S = 1.0


class Shelf:
    """Jobs that were asked for lately, as long as nothing happened to them; all others are asked of the service.

    A job may be as old as its last event is on its way. Without events nothing is kept. For one loop only.
    """

    def __init__(self, client: Client, most: int = _MOST_JOBS) -> None:
        self._client = client
        self._most = most
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._configs: OrderedDict[str, HFSSSimulationConfig | None] = OrderedDict()
        # The last event of each job that had one lately. Of no job an event after `_since` was forgotten.
        self._told: OrderedDict[str, int] = OrderedDict()
        self._since: EventPosition | None = None
        # Set when the service has been away for longer than the client has patience, and at the end.
        self.lost = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Follow no longer, and keep nothing."""
        self.lost.set()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._jobs)

    async def job(self, job_id: str) -> Job:
        """The job. Raises JobNotFound."""
        kept = self._jobs.get(job_id)
        if kept is not None:
            self._jobs.move_to_end(job_id)
            return kept
        page = await self._client.list_page(ids=[job_id], limit=1)
        if not page.jobs:
            raise JobNotFound(job_id)
        self._keep(page)
        return page.jobs[0]

    async def page(self, cursor: str | None) -> JobPage:
        """A page of all jobs, oldest first."""
        page = await self._client.list_page(order="created", limit=PAGE_SIZE, cursor=cursor)
        self._keep(page)
        return page

    async def config(self, job_id: str) -> HFSSSimulationConfig | None:
        """What the job simulates; None if it is no simulation. Raises JobNotFound."""
        if job_id not in self._configs:
            self.put_config(job_id, await self._client.simulation(job_id))
        return self._configs[job_id]

    def put_config(self, job_id: str, config: HFSSSimulationConfig | None) -> None:
        """Keep what is known already: it does not change as long as there is the job."""
        self._configs[job_id] = config
        if len(self._configs) > _MOST_CONFIGS:
            self._configs.popitem(last=False)

    def forget(self, job_id: str) -> None:
        """Ask for it again: it was changed, and the event is on its way."""
        self._jobs.pop(job_id, None)

    def _keep(self, page: JobPage) -> None:
        """Keep those to which nothing happened since they were read."""
        since = self._since
        if since is None or page.position.epoch != since.epoch or page.position.seq < since.seq:
            return
        for job in page.jobs:
            if self._told.get(job.job_id, 0) <= page.position.seq:
                self._jobs[job.job_id] = job
                self._jobs.move_to_end(job.job_id)
        while len(self._jobs) > self._most:
            self._jobs.popitem(last=False)

    async def _follow(self) -> None:
        is_told = False
        while True:
            try:
                since = (await self._client.list_page(limit=1)).position
                self._since = since
                is_told = False
                async with aclosing(self._client.follow_events(since)) as events:
                    async for event in events:
                        if event.job_id is not None:
                            self._tell(event.job_id, EventPosition(since.epoch, event.seq))
                        if event.kind == "deleted" and event.job_id is not None:
                            self._configs.pop(event.job_id, None)
            except EventsGone:
                pass  # It is followed anew, from now on.
            except JobmgrError as error:
                if not is_told:
                    logger.warning("jobs are read one by one, because their events are not told: %s", error)
                is_told = True
                if isinstance(error, ServiceUnreachable):
                    self.lost.set()
                await asyncio.sleep(_PAUSE_S)
            finally:
                self._since = None
                self._jobs.clear()
                self._told.clear()

    def _tell(self, job_id: str, at: EventPosition) -> None:
        self._jobs.pop(job_id, None)
        self._told[job_id] = at.seq
        self._told.move_to_end(job_id)
        if len(self._told) > self._most:
            _, seq = self._told.popitem(last=False)
            self._since = EventPosition(at.epoch, seq)

"""Waiting for jobs to end: their states are read once, then the events after that moment tell the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing

from jobmgr.client.connection import Connection, path
from jobmgr.client.following import follow_once
from jobmgr.client.patience import TRANSIENT, Patience
from jobmgr.domain.job import Event, EventPosition, Job
from jobmgr.domain.status import TERMINAL, Status
from jobmgr.errors import EventsGone, JobNotFound, WaitTimeout
from jobmgr.wire.answers import JobsAnswer
from jobmgr.wire.translation import to_job

# Ids of one request: within the service's page and the usual limit of 8 KiB for a request line.
_IDS_PER_PAGE = 200
_ID_CHARACTERS_PER_PAGE = 6000

OnProgress = Callable[[int, int], None]


async def wait_for(
    connection: Connection,
    job_ids: Sequence[str],
    on_progress: OnProgress | None,
    timeout_s: float | None,
    patience_s: float,
) -> list[Job]:
    """Wait until all of these jobs have ended; the jobs in the order asked for, as they are then."""
    waiting = _Waiting(connection, job_ids, on_progress, Patience(patience_s))
    try:
        async with asyncio.timeout(timeout_s):
            return await waiting.run()
    except TimeoutError:
        raise WaitTimeout(waiting.shortfall(timeout_s)) from None


class _Waiting:
    def __init__(
        self,
        connection: Connection,
        job_ids: Sequence[str],
        on_progress: OnProgress | None,
        patience: Patience,
    ) -> None:
        self._connection = connection
        self._job_ids = job_ids
        self._on_progress = on_progress
        self._patience = patience
        self._open = dict.fromkeys(job_ids)
        self._total = len(self._open)
        self._ended: dict[str, Job] = {}

    async def run(self) -> list[Job]:
        answered = False
        while len(self._ended) < self._total:
            try:
                after = await self._read_states()
            except TRANSIENT as error:
                if not answered:
                    raise
                await self._patience.wait_after(error)
                continue
            answered = True
            self._patience.answered()
            if self._open:
                await self._follow(after)
        return [self._ended[job_id] for job_id in self._job_ids]

    def shortfall(self, timeout_s: float | None) -> str:
        left = list(self._open)
        named = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
        return f"{len(left)} of {self._total} jobs had not ended after {timeout_s:g} s: {named}"

    async def _read_states(self) -> EventPosition:
        """Read what has not been seen ended, and give the position from which events tell the rest."""
        after: EventPosition | None = None
        for job_ids in pages(
            [job_id for job_id in dict.fromkeys(self._job_ids) if job_id not in self._ended]
        ):
            query = {"ids": ",".join(job_ids), "limit": str(len(job_ids))}
            page = await self._connection.read(path("jobs"), JobsAnswer, query)
            # Later pages are read later, so the position of the first one misses nothing.
            after = after or EventPosition(page.epoch, page.seq)
            self._take({answer.job_id: to_job(answer) for answer in page.jobs}, job_ids)
        assert after is not None
        return after

    def _take(self, found: dict[str, Job], job_ids: Sequence[str]) -> None:
        for job_id in job_ids:
            if job_id not in found:
                raise JobNotFound(job_id)
            if found[job_id].status.is_terminal:
                self._ended[job_id] = found[job_id]
                self._open.pop(job_id, None)
            else:
                self._open[job_id] = None
        self._tell()

    async def _follow(self, after: EventPosition) -> None:
        """Return when all seem to have ended, or when the states have to be read again."""
        try:
            async with aclosing(follow_once(self._connection, after, self._patience)) as events:
                async for event in events:
                    self._patience.recovered()
                    self._notice(event)
                    if not self._open:
                        return
        except (EventsGone, *TRANSIENT):
            await self._patience.pause()

    def _notice(self, event: Event) -> None:
        if event.job_id in self._open and Status(event.data.get("status", Status.PENDING)) in TERMINAL:
            del self._open[event.job_id]
            self._tell()

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._total - len(self._open), self._total)


def pages(job_ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids in portions that one request can name."""
    page: list[str] = []
    characters = 0
    for job_id in job_ids:
        if page and (len(page) >= _IDS_PER_PAGE or characters + len(job_id) > _ID_CHARACTERS_PER_PAGE):
            yield page
            page, characters = [], 0
        page.append(job_id)
        characters += len(job_id) + 1
    if page:
        yield page

"""What is worth saying while jobs are waited for: why they do not start, and how far simulations are."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from jobmgr.client import waiting
from jobmgr.client.client import Client
from jobmgr.domain.job import Job
from jobmgr.domain.status import TERMINAL, WAITING, Status
from jobmgr.errors import JobmgrError
from jobmgr.hfss.job import KIND

# As `Logger.log` is called.
Say = Callable[[int, str], object]

_LOOK_S = 1.0
_HELD_UP = frozenset({*WAITING, Status.SCHEDULED, Status.PAUSED})
# What every job passes through, and what is told by whoever waits for it.
_UNSAID = frozenset({"next", "due", "claimed", "running", *(status.value for status in TERMINAL)})


class Remarks:
    """A context around the waiting for `job_ids`: meanwhile, each thing is said once.

    `say(level, text)` gets why they do not start, one after the other and the first first, as WARNING, or as INFO if
    that ends in the ordinary course, which is told of a single job only: one of many waits for the others. With
    `of_progress` it gets also how far simulations are, whenever that changes, and at the end once more.
    """

    def __init__(
        self, client: Client, job_ids: Sequence[str], say: Say, *, of_progress: bool = False
    ) -> None:
        self._client = client
        self._say = say
        self._of_progress = of_progress
        self._left = dict.fromkeys(job_ids)
        self._are_many = len(self._left) > 1
        self._reasons: set[str] = set()
        self._times_asked: Counter[str] = Counter()
        self._lines: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)
        if kind is None and self._of_progress:
            for job_ids in list(waiting.pages(self._left)):
                await self._look(job_ids)

    async def _run(self) -> None:
        # Those that were named first are those that start first, as a rule.
        while self._left:
            await self._look(next(waiting.pages(self._left)))
            await asyncio.sleep(_LOOK_S)

    async def _look(self, job_ids: Sequence[str]) -> None:
        # Whoever waits hears of errors; a service or a site that is away now may answer the next time.
        with suppress(JobmgrError):
            jobs = (await self._client.list_page(ids=job_ids, order="created", limit=len(job_ids))).jobs
            for job in jobs:
                if self._of_progress and job.kind == KIND and job.status not in WAITING:
                    await self._tell_progress(job)
                if job.status.is_terminal:
                    self._left.pop(job.job_id, None)
            held_up = [job for job in jobs if job.status in _HELD_UP]
            if held_up:
                # One question per look; what holds the first one up may be nothing to that which can never run.
                job = min(held_up, key=lambda job: (self._times_asked[job.job_id], -job.priority))
                self._times_asked[job.job_id] += 1
                await self._tell_why(job)

    async def _tell_progress(self, job: Job) -> None:
        with suppress(JobmgrError):
            line = (await self._client.progress(job.job_id)).line
            if line and line != self._lines.get(job.job_id):
                self._lines[job.job_id] = line
                self._say(logging.INFO, f"{job.job_id} {job.name}: {line}" if self._are_many else line)

    async def _tell_why(self, job: Job) -> None:
        reasons = [
            reason
            for reason in await self._client.why(job.job_id)
            if reason.code not in self._reasons | _UNSAID
        ]
        is_ordinary = all(reason.is_ordinary for reason in reasons)
        if reasons and not (is_ordinary and self._are_many):
            self._reasons.update(reason.code for reason in reasons)
            level = logging.INFO if is_ordinary else logging.WARNING
            self._say(level, f"{job.job_id} waits: {'; '.join(reason.message for reason in reasons)}")

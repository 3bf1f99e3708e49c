"""Simulations: submit, list, cancel, change priorities, read logs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec
from aiohttp import web

from jobmgr.api.idempotency import manager_of
from jobmgr.api.path import job_id_of
from jobmgr.api.pyedb import submission
from jobmgr.api.reply import reply
from jobmgr.domain.job import Job
from jobmgr.domain.status import RANKED, Status
from jobmgr.errors import InvalidConfig, JobmgrError, JobNotFound
from jobmgr.hfss.status import JobStatus
from jobmgr.manager.manager import Manager
from jobmgr.wire.pyedb import (
    CancelAnswer,
    PriorityAsked,
    PrioritySet,
    SimulationAsked,
    SimulationLog,
    SimulationShown,
    SimulationsQuery,
    SimulationStored,
)
from jobmgr.wire.translation import encode

logger = logging.getLogger(__name__)

CURSOR_HEADER = "X-Next-Cursor"
_PORTION = 1000


async def submit(request: web.Request, body: SimulationAsked) -> web.Response:
    """Store a simulation; answers with the word for where it is."""
    job, warnings = await _store(request, body, or_newest=False)
    return reply(_stored(job, JobStatus.of(job.status), warnings))


async def submit_from_page(request: web.Request, body: SimulationAsked) -> web.Response:
    """The same for a web page, which does not know this machine's programs."""
    job, warnings = await _store(request, body, or_newest=True)
    return reply(_stored(job, "submitted", warnings))


async def _store(
    request: web.Request, body: SimulationAsked, *, or_newest: bool
) -> tuple[Job, Sequence[str]]:
    manager = manager_of(request)
    # A file server that is gone keeps whoever looks there, and only them.
    config = await asyncio.to_thread(submission.configuration, body, manager.programs, or_newest=or_newest)
    if submission.wants_scheduler(body, config):
        config = submission.with_scheduler(config, await manager.scheduler())
    try:
        job = await manager.simulate(config, priority=body.priority, queue=body.queue)
    except InvalidConfig as error:
        raise submission.placed(error, body) from error
    return job, await manager.advice(job, config)


def _stored(job: Job, word: str, warnings: Sequence[str]) -> SimulationStored:
    message = f"Job {job.job_id} submitted successfully"
    return SimulationStored(
        success=True, job_id=job.job_id, message=message, status=word, warnings=list(warnings)
    )


async def list_jobs(request: web.Request, query: SimulationsQuery) -> web.StreamResponse:
    """All jobs, or a page of them, oldest first."""
    manager = manager_of(request)
    after = int(query.cursor or 0)
    if query.limit is not None:
        jobs, next_ = await manager.portion(after, query.limit)
        return reply(jobs, headers=_next_page(request, query.limit, next_))
    return await _stream(request, manager, after)


def _next_page(request: web.Request, limit: int, next_: int | None) -> dict[str, str]:
    if next_ is None:
        return {}
    address = request.rel_url.with_query(limit=limit, cursor=next_)
    return {CURSOR_HEADER: str(next_), "Link": f'<{address}>; rel="next"'}


async def _stream(request: web.Request, manager: Manager, after: int) -> web.StreamResponse:
    # Read before the answer begins, so that an error is one.
    jobs, next_ = await manager.portion(after, _PORTION)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    begin = b"["
    try:
        while jobs:
            await response.write(begin + _encoded(jobs))
            begin = b","
            jobs, next_ = ((), None) if next_ is None else await manager.portion(next_, _PORTION)
        await response.write(b"[]" if begin == b"[" else b"]")
    except JobmgrError as error:
        logger.warning("the list of all jobs breaks off: %s", error)
        if request.transport is not None:
            # An answer that looks whole would be a lie.
            request.transport.abort()
    return response


def _encoded(jobs: Sequence[SimulationShown]) -> bytes:
    """The items of the array, without its brackets."""
    return encode(jobs)[1:-1]


async def cancel(request: web.Request) -> web.Response:
    """End a job."""
    return reply(_cancelled(await manager_of(request).cancel(job_id_of(request))))


async def cancel_from_page(request: web.Request) -> web.Response:
    """The same; an unknown job is an answer here, not an error."""
    job_id = request.match_info["job_id"]
    try:
        job = await manager_of(request).cancel(job_id_of(request))
    except JobNotFound as error:
        unknown = CancelAnswer(success=False, message=str(error), status="failed", job_id=job_id[:128])
        return reply(unknown)
    return reply(_cancelled(job))


def _cancelled(job: Job) -> CancelAnswer:
    # A job that is cancelled already ends as whoever asks wants, also if the answer before was lost.
    is_ending = job.status not in (Status.COMPLETED, Status.FAILED)
    word = "initiated" if is_ending else f"failed: it is {job.status}"
    return CancelAnswer(
        success=is_ending,
        message=f"Job {job.job_id} cancellation {word}",
        status="cancelled" if is_ending else "failed",
        job_id=job.job_id,
    )


async def set_priority(request: web.Request, body: PriorityAsked) -> web.Response:
    """Change a job's priority."""
    job = await manager_of(request).set_priority(job_id_of(request), body.priority)
    effective = job.status in RANKED
    late = "" if effective else f"; the job is {job.status} already, so this counts only if it runs again"
    return reply(
        PrioritySet(
            success=True,
            message=f"Priority set to {job.priority}{late}",
            job_id=job.job_id,
            status=JobStatus.of(job.status),
            priority=job.priority,
            effective=effective,
        )
    )


async def log(request: web.Request) -> web.Response:
    """What the log of a run says; nothing if there is none yet."""
    progress = await manager_of(request).progress(job_id_of(request))
    if progress is None:
        return web.Response(status=204)
    return reply(msgspec.convert(progress.state, SimulationLog))

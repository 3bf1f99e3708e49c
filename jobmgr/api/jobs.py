"""Jobs: submit, read, change, and the verbs on one job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from jobmgr.api.body import read_jobs
from jobmgr.api.idempotency import manager_of
from jobmgr.api.keys import CALLER
from jobmgr.api.path import job_id_of
from jobmgr.api.problems import Refusal, status_of
from jobmgr.api.reply import reply
from jobmgr.domain.advice import advice
from jobmgr.domain.job import Job, JobFilter, NewJob
from jobmgr.errors import JobExists
from jobmgr.manager.manager import Manager
from jobmgr.wire.answers import AttemptsAnswer, BulkAnswer, ProgressAnswer, SubmittedAnswer
from jobmgr.wire.requests import JobsQuery, PriorityChange, RetryQuery
from jobmgr.wire.submission import JobChange
from jobmgr.wire.translation import attempt_answer, job_answer, spec_answer, why_answer


async def submit(request: web.Request) -> web.Response:
    """Store one job, or many: all or none. They are committed when this is answered."""
    new, is_bulk = await read_jobs(request, request[CALLER].principal.name)
    try:
        stored = await manager_of(request).store_jobs(new)
    except JobExists as error:
        if not is_bulk:
            raise
        raise _placed(error, new) from error
    if is_bulk:
        return reply(BulkAnswer([job.job_id for job in stored], advice(new)), 201)
    job = stored[0]
    answer = SubmittedAnswer(job.job_id, job.status, advice(new))
    return reply(answer, 201, {"Location": f"/api/v1/jobs/{job.job_id}"})


def _placed(error: JobExists, new: Sequence[NewJob]) -> Refusal:
    # Of two in this bulk the latter is one too many.
    index = max(index for index, job in enumerate(new) if job.job_id == error.job_id)
    field = f"jobs[{index}].job_id"
    return Refusal(status_of(JobExists), error.code, f"{field}: {error}", field)


async def list_jobs(request: web.Request, query: JobsQuery) -> web.Response:
    """A page of jobs."""
    wanted = JobFilter(
        # Nothing is empty here unless it was left out: an empty parameter is refused.
        status=frozenset(query.status) or None,
        ids=tuple(query.ids) or None,
        id_prefix=query.id_prefix,
        user=query.user,
        queue=query.queue,
        site=query.site,
        executor=query.executor,
        tag=query.tag,
        name=query.name,
    )
    return reply(await manager_of(request).page_answer(wanted, query))


async def get(request: web.Request) -> web.Response:
    """One job."""
    return reply(job_answer(await manager_of(request).get(job_id_of(request))))


async def change(request: web.Request, body: JobChange) -> web.Response:
    """Change name, description, priority, tags or extended properties."""
    return reply(job_answer(await manager_of(request).update(job_id_of(request), body)))


async def delete(request: web.Request) -> web.Response:
    """Forget an ended job."""
    await manager_of(request).delete(job_id_of(request))
    return web.Response(status=204)


async def set_priority(request: web.Request, body: PriorityChange) -> web.Response:
    """Change a job's priority."""
    return reply(job_answer(await manager_of(request).set_priority(job_id_of(request), body.priority)))


async def retry(request: web.Request, query: RetryQuery) -> web.Response:
    """Run a job once more."""
    job = await manager_of(request).retry(job_id_of(request), assume_dead=query.assume_dead)
    return reply(job_answer(job))


def verb(does: Callable[[Manager, str], Awaitable[Job]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The handler of a verb that needs no more than the job's id."""

    async def handle(request: web.Request) -> web.Response:
        return reply(job_answer(await does(manager_of(request), job_id_of(request))))

    return handle


async def spec(request: web.Request) -> web.Response:
    """What a job runs."""
    return reply(spec_answer(await manager_of(request).spec(job_id_of(request))))


async def progress(request: web.Request) -> web.Response:
    """How far a simulation is."""
    found = await manager_of(request).progress(job_id_of(request))
    if found is None:
        return reply(ProgressAnswer("", None, None))
    return reply(ProgressAnswer(found.line, found.log, dict(found.state)))


async def attempts(request: web.Request) -> web.Response:
    """All attempts of a job."""
    found = await manager_of(request).attempts(job_id_of(request))
    return reply(AttemptsAnswer([attempt_answer(attempt) for attempt in found]))


async def why(request: web.Request) -> web.Response:
    """Why a job is where it is."""
    job_id = job_id_of(request)
    return reply(why_answer(job_id, await manager_of(request).why(job_id)))

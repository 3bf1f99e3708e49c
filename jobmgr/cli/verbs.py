"""`cancel`, `retry`, `pause`, `resume`, `hold`, `release`, `execute`, `priority`: changing jobs, many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import click

from jobmgr.cli import output
from jobmgr.cli.main import DONE, exit_code
from jobmgr.cli.session import batched, expand, with_client
from jobmgr.client import Client
from jobmgr.domain.job import Job
from jobmgr.domain.site import LOCAL
from jobmgr.domain.status import Status
from jobmgr.errors import AnswerLost, JobmgrError, ServiceUnreachable

# The service commits what arrives together at once, so a few requests at a time are faster than one by one.
_AT_A_TIME = 16

_job_ids = click.argument("job_ids", nargs=-1, required=True, metavar="ID...")


@click.command()
@_job_ids
@with_client
async def cancel(client: Client, job_ids: Sequence[str]) -> int:
    """End jobs, running ones with all their processes; `-` reads ids from stdin."""
    return await _each(client, client.cancel, job_ids)


@click.command()
@_job_ids
@click.option(
    "--assume-dead", is_flag=True, help="Also jobs whose attempt is unreachable: you know it is dead."
)
@with_client
async def retry(client: Client, job_ids: Sequence[str], *, assume_dead: bool) -> int:
    """Run jobs that have ended once more; `-` reads ids from stdin."""
    return await _each(client, lambda job_id: client.retry(job_id, assume_dead=assume_dead), job_ids)


@click.command()
@_job_ids
@with_client
async def pause(client: Client, job_ids: Sequence[str]) -> int:
    """Stop running jobs where they are, with all their processes; `-` reads ids from stdin.

    A paused job keeps its slot and its memory; its walltime stands still.
    """
    return await _each(client, client.pause, job_ids)


@click.command()
@_job_ids
@with_client
async def resume(client: Client, job_ids: Sequence[str]) -> int:
    """Let paused jobs go on; `-` reads ids from stdin."""
    return await _each(client, client.resume, job_ids)


@click.command()
@_job_ids
@with_client
async def hold(client: Client, job_ids: Sequence[str]) -> int:
    """Keep waiting jobs from starting until they are released; `-` reads ids from stdin.

    The scheduler of a site is told to hold what waits there; `jobmgr why ID` says what it answered.
    """
    return await _each(client, client.hold, job_ids)


@click.command()
@_job_ids
@with_client
async def release(client: Client, job_ids: Sequence[str]) -> int:
    """Let held jobs go; `-` reads ids from stdin."""
    return await _each(client, client.release, job_ids)


@click.command()
@_job_ids
@with_client
async def execute(client: Client, job_ids: Sequence[str]) -> int:
    """Queue jobs that were saved as drafts; `-` reads ids from stdin."""
    return await _each(client, client.execute, job_ids)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("priority", type=int)
@_job_ids
@with_client
async def priority(client: Client, priority: int, job_ids: Sequence[str]) -> int:
    """Give jobs another PRIORITY, from -2147483647 to 2147483647, larger first; `-` reads ids from stdin.

    The scheduler of a site is told of what waits there; `jobmgr why ID` says what it did not take.
    """
    return await _each(client, lambda job_id: client.set_priority(job_id, priority), job_ids)


async def _each(client: Client, verb: Callable[[str], Awaitable[Job]], job_ids: Sequence[str]) -> int:
    """Do it to each job; what is refused is said, does not stop the others, and decides the exit code."""

    async def do(text: str) -> Job:
        return await verb(await client.full_id(text))

    worst = DONE
    for batch in batched(expand(job_ids), _AT_A_TIME):
        for result in await asyncio.gather(*map(do, batch), return_exceptions=True):
            if isinstance(result, Job):
                output.line(f"{result.job_id} {result.status}{_wish(result)}")
            elif isinstance(result, JobmgrError) and not isinstance(result, (ServiceUnreachable, AnswerLost)):
                output.error(str(result))
                worst = max(worst, exit_code(result))
            else:
                raise result
    return worst


def _wish(job: Job) -> str:
    if not job.status.is_live:
        return ""
    if job.cancel_requested_at is not None:
        return " (being cancelled)"
    if job.held_at is not None:
        return " (being held)"
    if job.pause_requested_at is not None and job.status is not Status.PAUSED:
        return " (being paused)"
    # Elsewhere the scheduler may have suspended it, and nobody wishes that it goes on.
    if job.pause_requested_at is None and job.status is Status.PAUSED and job.site == LOCAL:
        return " (being resumed)"
    return ""

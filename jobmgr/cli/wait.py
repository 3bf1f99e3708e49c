"""`wait`: until jobs have ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import click

from jobmgr.cli import output
from jobmgr.cli.main import DONE, JOB_FAILED
from jobmgr.cli.session import expand, with_client
from jobmgr.client import Client
from jobmgr.client.remarks import Remarks
from jobmgr.domain.job import Job
from jobmgr.domain.resources import counted, parse_duration
from jobmgr.domain.status import TERMINAL, Status

_NAMED_FAILURES = 20


@click.command()
@click.argument("job_ids", nargs=-1, metavar="ID...")
@click.option(
    "--all",
    "waits_for_all",
    is_flag=True,
    help="All jobs that have not ended now, without drafts and held ones.",
)
@click.option("--timeout", metavar="TIME", help="At most so long: 90s, 5m, 1:30:00.")
@with_client
async def wait(client: Client, *, job_ids: Sequence[str], waits_for_all: bool, timeout: str | None) -> int:
    """Wait until jobs have ended; `-` reads ids from stdin.

    Meanwhile it says on stderr why they do not start, and how far simulations are.

    Exits with 0 when all completed, 1 when any failed or was cancelled, 4 when the time was over first.
    """
    if bool(job_ids) == waits_for_all:
        raise click.UsageError("name the jobs to wait for, or give --all")
    timeout_s = None if timeout is None else parse_duration(timeout, "--timeout")
    found = await _open(client) if waits_for_all else [await client.full_id(text) for text in expand(job_ids)]
    return await wait_and_tell(client, found, timeout_s)


async def _open(client: Client) -> list[str]:
    """All jobs that will end if nobody does anything; says how many others there are."""
    statuses = [status.value for status in Status if status not in TERMINAL]
    jobs = [job async for job in client.list(status=statuses)]
    going = [job.job_id for job in jobs if not (job.held_at or (job.status is Status.PENDING and job.draft))]
    if len(going) < len(jobs):
        output.note(f"not waiting for {counted(len(jobs) - len(going), 'job')} held or saved as a draft")
    return going


async def wait_and_tell(client: Client, job_ids: Sequence[str], timeout_s: float | None) -> int:
    """Wait with a bar, say what is worth saying meanwhile, then what did not complete; the exit code."""
    async with Remarks(client, job_ids, _note, of_progress=True):
        with output.progress("waiting") as bar:
            jobs = await client.wait_many(job_ids, bar, timeout_s=timeout_s)
    return _tell(jobs)


def _note(_level: int, text: str) -> None:
    output.note(text)


def _tell(jobs: Sequence[Job]) -> int:
    """Say how the jobs ended; the exit code."""
    failed = [job for job in jobs if job.status is not Status.COMPLETED]
    for job in failed[:_NAMED_FAILURES]:
        reason = f": {job.error.message}" if job.error else ""
        output.note(f"{job.job_id} {job.name} {job.status}{reason}")
    if len(failed) > _NAMED_FAILURES:
        output.note(f"... and {len(failed) - _NAMED_FAILURES} more that did not complete")
    if len(jobs) > 1:
        counts = Counter(job.status for job in jobs)
        output.note(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
    return JOB_FAILED if failed else DONE

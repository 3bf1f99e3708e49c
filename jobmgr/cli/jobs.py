"""`ls`, `show` and `why`: looking at jobs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Unpack

import click
import msgspec

from jobmgr.cli import output, table, wording
from jobmgr.cli.session import note_unknown_user, with_client
from jobmgr.client import Client
from jobmgr.client.client import PAGE_SIZE, Filters
from jobmgr.domain.environment import secrets_of
from jobmgr.domain.job import Dependency, FileEntry, Job, JobPage, JobSpec
from jobmgr.domain.resources import size_text
from jobmgr.domain.retry import Growth
from jobmgr.domain.status import Status
from jobmgr.errors import ExecutorUnavailable, FileMissing, QueueNotFound, SiteError, SiteNotFound
from jobmgr.hfss.command import BATCH_OPTIONS
from jobmgr.hfss.job import KIND
from jobmgr.hfss.layout import read_pairs
from jobmgr.wire import translation
from jobmgr.wire.answers import ProgressAnswer

TABLE_ROWS = 50
_STATUS = click.Choice([status.value for status in Status])


@click.command()
@click.option(
    "--status", "statuses", type=_STATUS, multiple=True, help="Only jobs of this status; repeatable."
)
@click.option("--queue", help="Only jobs of this queue.")
@click.option("--site", help="Only jobs of this site; those of this machine are at `local`.")
@click.option("--tag", help="Only jobs with this tag.")
@click.option("--name", help="Only jobs of this name; `*` stands for any text.")
@click.option("--user", help="Only jobs of this user.")
@click.option("--order", default="-created", show_default=True, help="created, -created or -priority.")
@click.option("--limit", type=click.IntRange(min=0), help=f"At most so many; 0: all (table: {TABLE_ROWS}).")
@click.option("--ids", "ids_only", is_flag=True, help="Print ids alone, one per line, to pipe them on.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@with_client
async def ls(
    client: Client,
    /,
    *,
    statuses: Sequence[str],
    limit: int | None,
    ids_only: bool,
    as_json: bool,
    **filters: str,
) -> None:
    """List jobs, newest first.

    `jobmgr ls --status failed --ids | jobmgr retry -` runs all failed jobs again.
    """
    if limit is None:
        limit = 0 if ids_only or as_json else TABLE_ROWS
    jobs, last = await _read(client, limit, status=statuses or None, **filters)
    if not jobs:
        await _check_names(client, filters.get("queue"), filters.get("site"))
        if filters.get("user") is not None:
            await note_unknown_user(client, filters["user"])
    if ids_only:
        output.lines(job.job_id for job in jobs)
    elif as_json:
        output.as_json([msgspec.to_builtins(translation.job_answer(job)) for job in jobs])
    elif jobs:
        output.show(table.jobs_table(jobs, wording.utc_now()))
    else:
        output.note("no jobs")
    if limit and last.next_cursor is not None:
        total = f"{last.total}" if last.total_is_exact else f"more than {last.total}"
        output.note(f"there are more than these {limit} of {total}; `--limit 0` lists all")


async def _check_names(client: Client, queue: str | None, site: str | None) -> None:
    # A name mistyped would look like a queue or a site without jobs.
    if queue is not None and queue not in [each.name for each in await client.queues()]:
        raise QueueNotFound(queue)
    if site is not None and site not in [each.name for each in await client.sites()]:
        raise SiteNotFound(site)


async def _read(client: Client, limit: int, **filters: Unpack[Filters]) -> tuple[list[Job], JobPage]:
    """The first `limit` jobs (0: all), and the page they end on; with a limit it has the total."""
    jobs: list[Job] = []
    cursor: str | None = None
    while True:
        size = min(limit - len(jobs), PAGE_SIZE) if limit else PAGE_SIZE
        page = await client.list_page(limit=size, cursor=cursor, total=limit > 0, **filters)
        jobs += page.jobs
        cursor = page.next_cursor
        if cursor is None or len(jobs) == limit:
            return jobs, page


@click.command()
@click.argument("job_id")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON: the job with `spec`, `attempts`, `files` and `progress`.",
)
@with_client
async def show(client: Client, job_id: str, *, as_json: bool) -> None:
    """Show one job with its attempts and files."""
    job_id = await client.full_id(job_id)
    job = await client.get(job_id)
    spec = await client.spec(job_id)
    attempts = await client.attempts(job_id)
    files = await _files(client, job)
    progress = await _progress(client, job)
    if as_json:
        output.as_json(
            {
                **msgspec.to_builtins(translation.job_answer(job)),
                "spec": msgspec.to_builtins(translation.spec_answer(spec)),
                "attempts": [
                    msgspec.to_builtins(translation.attempt_answer(attempt)) for attempt in attempts
                ],
                "files": [msgspec.to_builtins(translation.file_answer(file)) for file in files],
                "progress": None if progress is None else msgspec.to_builtins(progress),
            }
        )
        return
    now = wording.utc_now()
    output.show(table.facts_table(_facts(job, spec, progress)))
    if attempts:
        output.line("")
        output.show(table.attempts_table(attempts, now))
    if files:
        output.line("")
        output.show(table.files_table(files))


async def _files(client: Client, job: Job) -> Sequence[FileEntry]:
    if not job.attempt:
        return ()
    try:
        return await client.files(job.job_id)
    except FileMissing:
        return ()
    except (ExecutorUnavailable, SiteError) as error:
        # Of a job that ran elsewhere the rest is known here.
        output.note(f"its files cannot be listed now: {error}")
        return ()


async def _progress(client: Client, job: Job) -> ProgressAnswer | None:
    if job.kind != KIND:
        return None
    try:
        return await client.progress(job.job_id)
    except (ExecutorUnavailable, SiteError) as error:
        output.note(f"its log cannot be read now: {error}")
        return None


def _facts(job: Job, spec: JobSpec, progress: ProgressAnswer | None) -> list[tuple[str, object]]:
    return [
        ("id", job.job_id),
        ("name", job.name),
        ("description", job.description),
        *_command(job, spec),
        ("cwd", spec.cwd),
        ("environment", ", ".join(sorted(spec.env))),
        (
            "secrets",
            ", ".join(f"{name} from {value}" for name, value in sorted(secrets_of(spec.env).items())),
        ),
        *_rules(spec),
        ("status", job.status.value),
        ("progress", None if progress is None else progress.line),
        ("error", f"{job.error.code}: {job.error.message}" if job.error else None),
        ("exit code", job.exit_code),
        ("attempt", job.attempt or None),
        ("queue", job.queue),
        ("site", job.site),
        ("priority", job.priority),
        ("user", job.user),
        ("tags", ", ".join(job.tags)),
        (
            "properties",
            msgspec.json.encode(job.extended_properties).decode() if job.extended_properties else None,
        ),
        ("draft", "yes; `jobmgr execute` queues it" if job.draft else None),
        ("held since", wording.local(job.held_at)),
        ("due at", wording.local(job.due_at)),
        ("submitted", wording.local(job.created_at)),
        ("queued", wording.local(job.queued_at)),
        ("started", wording.local(job.started_at)),
        ("finished", wording.local(job.finished_at)),
        ("cancel asked", wording.local(job.cancel_requested_at)),
        ("pause asked", wording.local(job.pause_requested_at)),
        ("handle", job.handle),
        ("directory", job.work_dir),
    ]


def _command(job: Job, spec: JobSpec) -> list[tuple[str, object]]:
    """Of a simulation the options of the solver stand by themselves: the quotes in them would each be quoted again."""
    argv = spec.command
    if job.kind != KIND or BATCH_OPTIONS not in argv[:-1]:
        return [("command", shlex.join(argv))]
    at = argv.index(BATCH_OPTIONS) + 1
    options = [("batch option", f"{name} = {value}") for name, value in read_pairs(argv[at])]
    return [("command", f"{shlex.join(argv[:at])} ... {shlex.join(argv[at + 1 :])}"), *options]


def _rules(spec: JobSpec) -> list[tuple[str, object]]:
    """What the job asked for and how it is tried; what was not asked for is left out."""
    grown = dict(wording.amounts(spec.grown))
    is_retried = spec.retry.max_attempts > 1
    return [
        *(
            (name, f"{value}, by now {grown[name]}" if name in grown else value)
            for name, value in wording.amounts(spec.resources)
        ),
        ("attempts", f"at most {spec.retry.max_attempts}" if is_retried else None),
        ("backoff", wording.seconds(spec.retry.backoff_s) if is_retried else None),
        ("retried after", ", ".join(sorted(spec.retry.on)) if is_retried else None),
        *_growth(spec.retry.growth),
        *(("depends on", _dependency(dependency)) for dependency in spec.depends_on),
    ]


def _growth(growth: Growth) -> list[tuple[str, object]]:
    kinds = (
        ("memory grows", growth.memory_factor, size_text(growth.memory_max_bytes)),
        ("walltime grows", growth.walltime_factor, wording.seconds(growth.walltime_max_s)),
    )
    return [
        (name, f"{factor:g} times" + (f", at most {most}" if most else ""))
        for name, factor, most in kinds
        if factor is not None
    ]


def _dependency(dependency: Dependency) -> str:
    state = {True: "met", False: "not met", None: "not met yet"}[dependency.met]
    return f"{dependency.when} of {dependency.job_id or 'a job that is not yours to see'}, {state}"


@click.command()
@click.argument("job_id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_client
async def why(client: Client, job_id: str, *, as_json: bool) -> None:
    """Say why a job is where it is, best reason first."""
    job_id = await client.full_id(job_id)
    reasons = await client.why(job_id)
    if as_json:
        output.as_json(msgspec.to_builtins(translation.why_answer(job_id, list(reasons))))
    else:
        output.lines(reason.message for reason in reasons)

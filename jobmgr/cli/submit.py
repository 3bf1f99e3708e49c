"""`submit`: one job from the command line, or many from a file."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, BinaryIO

import click

from jobmgr.cli import assignments, output
from jobmgr.cli.session import with_client
from jobmgr.cli.wait import wait_and_tell
from jobmgr.client import Client
from jobmgr.domain.job import When
from jobmgr.domain.resources import parse_duration
from jobmgr.errors import InvalidRequest, JobmgrError
from jobmgr.failure import Failure
from jobmgr.wire.resources import ResourcesAsked

_RETRY = ("max_attempts", "backoff", "memory_factor", "memory_max", "walltime_factor", "walltime_max")
_JOB_OF_BULK = re.compile(r"jobs\[(\d+)\](?:\.(.+))?", re.DOTALL)


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--name", help="What people call the job.")
@click.option("--queue", help="The queue it stands in.")
@click.option("--site", help="Where it runs: this machine, or a site of `jobmgr site ls`.")
@click.option(
    "--priority", type=int, help="Larger runs first; 0 unless given, at most 2147483647 either way."
)
@click.option(
    "--env", multiple=True, metavar="K=V", help="A variable; K alone takes its value of now. Repeatable."
)
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="K=REFERENCE",
    help="A variable that is fetched at each start: file:PATH, env:NAME or keyring:SERVICE/NAME. Repeatable.",
)
@click.option("--cwd", type=click.Path(), help="Where it runs; its run directory unless given.")
@click.option("--cpus", type=int, help="Cores to reserve.")
@click.option("--memory", help="Memory to reserve: 512MB, 4GB.")
@click.option("--gpus", type=int, help="GPUs to reserve, of each node; CUDA_VISIBLE_DEVICES names them.")
@click.option("--walltime", help="Ended after this time: 90s, 5m, 1:30:00.")
@click.option(
    "-R",
    "--resource",
    "asked",
    multiple=True,
    metavar="NAME=VALUE",
    help="What a scheduler is asked for: partition=long, modules=ansys/2026, setup=LINE, … Repeatable.",
)
@click.option("--max-attempts", type=int, help="How often it is tried; once unless given.")
@click.option("--backoff", help="Pause before the next attempt: 5m; 30s unless given.")
@click.option(
    "--retry-on",
    multiple=True,
    type=click.Choice([code.value for code in Failure]),
    help="Try again only after this; after everything unless given. Repeatable.",
)
@click.option("--memory-factor", type=float, help="So many times the memory after out_of_memory: 2.")
@click.option("--memory-max", help="How far that goes: 64GB.")
@click.option("--walltime-factor", type=float, help="So many times the walltime after timeout: 1.5.")
@click.option("--walltime-max", help="How far that goes: 12h.")
@click.option(
    "--after", multiple=True, metavar="ID[:WHEN]", help="Wait for a job: success, failure or any. Repeatable."
)
@click.option(
    "--not-before", metavar="TIME", help="2026-01-31T18:00 (of this machine's zone), or +10m from now."
)
@click.option("--tag", "tags", multiple=True, help="A tag. Repeatable.")
@click.option("--draft", is_flag=True, help="Save it only; `jobmgr execute` queues it.")
@click.option("--job-id", help="An id of your own: storing it twice is refused.")
@click.option("--key", help="A name of your own: the same job submitted again with it is stored once.")
@click.option("--wait", "waits", is_flag=True, help="Wait for the end; the exit code tells how it went.")
@click.option(
    "--from", "source", type=click.File("rb"), metavar="FILE", help="Jobs as JSON, one per line; `-`: stdin."
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- CMD...")
@with_client
async def submit(
    client: Client, /, *, command: Sequence[str], source: BinaryIO | None, waits: bool, **options: Any
) -> int | None:
    """Store a job to be run and print its id, or store all jobs of a file and print their ids.

    \b
    jobmgr submit --name mesh --memory 4GB -- mesher input.geo
    jobmgr submit --from jobs.ndjson          {"command": ["solve", "1"], "name": "case 1"}
    """
    # By identity: 0 was given, and equals False.
    given = {name: value for name, value in options.items() if value not in (None, ()) and value is not False}
    if waits and options["draft"]:
        raise click.UsageError("--wait would wait for ever: a draft does not run before `jobmgr execute`")
    if source is not None:
        if command or given:
            raise click.UsageError(
                "--from takes the jobs as they are; write commands and options into the file"
            )
        job_ids = await _submit_file(client, source)
    elif command:
        job = fields(given)
        for dependency in job.get("depends_on", ()):
            dependency["job_id"] = await client.full_id(dependency["job_id"])
        job_ids = [await client.submit(command, **job)]
    else:
        raise click.UsageError("no command to run; write it after `--`, or give --from FILE")
    output.lines(job_ids)
    output.flush()
    if given.keys() & {"cpus", "memory", "gpus"}:
        await _warn(client, job_ids[0])
    return await wait_and_tell(client, job_ids, None) if waits else None


async def _warn(client: Client, job_id: str) -> None:
    """Say when this machine cannot give what the job asks for."""
    # It is stored all the same; whoever wants to know more will see the service's failure.
    with contextlib.suppress(JobmgrError):
        for reason in await client.why(job_id):
            if reason.code == "asks_too_much":
                output.note(f"warning: {reason.message}")


async def _submit_file(client: Client, source: BinaryIO) -> Sequence[str]:
    numbered = [(number, line) for number, line in enumerate(source.read().split(b"\n"), 1) if line.strip()]
    name = "stdin" if source.name == "<stdin>" else str(source.name)
    if not numbered:
        raise InvalidRequest(name, "holds no jobs; write one JSON object per line")
    try:
        with output.progress("submitting") as progress:
            return await client.submit_lines([line for _, line in numbered], on_progress=progress)
    except InvalidRequest as error:
        match = _JOB_OF_BULK.fullmatch(error.field)
        if match is not None:
            number = numbered[int(match[1])][0]
            where = f"{name} line {number}" + (f": {match[2]}" if match[2] else "")
            sentence = str(error).removeprefix(f"{error.field}: ").removeprefix(f"jobs[{match[1]}] ")
            error.args = (f"{where}: {sentence}",)
        raise


def fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options as fields of a submitted job. Raises InvalidRequest for one that cannot be understood."""
    job = {
        name: given[name]
        for name in ("name", "queue", "site", "priority", "draft", "job_id", "key")
        if name in given
    }
    if env := _environment(given.get("env", ()), given.get("secrets", ())):
        job["env"] = env
    if "cwd" in given:
        job["cwd"] = os.path.abspath(given["cwd"])  # noqa: PTH100 -- links stay as they were written
    if "after" in given:
        job["depends_on"] = [_dependency(text) for text in given["after"]]
    if "not_before" in given:
        job["not_before"] = _moment(given["not_before"], datetime.now().astimezone())
    if "tags" in given:
        job["tags"] = list(given["tags"])
    for field, names in (
        ("resources", ("cpus", "memory", "gpus", "walltime")),
        ("retry", _RETRY),
    ):
        if asked := {name: given[name] for name in names if name in given}:
            job[field] = asked
    if "retry_on" in given:
        job["retry"] = {**job.get("retry", {}), "on": list(given["retry_on"])}
    if "asked" in given:
        more = assignments.fields(given["asked"], ResourcesAsked, "--resource")
        job["resources"] = {**more, **job.get("resources", {})}
    return job


def _environment(variables: Sequence[str], secrets: Sequence[str]) -> dict[str, Any]:
    env: dict[str, Any] = dict(_variable(text) for text in variables)
    for text in secrets:
        name, sign, reference = text.partition("=")
        if not sign:
            raise InvalidRequest("--secret", f"{name!r} has no reference; write NAME=file:PATH")
        env[name] = {"secret": reference}
    return env


def _variable(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if sign:
        return name, value
    if name not in os.environ:
        raise InvalidRequest("--env", f"{name!r} has no value here; write {name}=VALUE")
    return name, os.environ[name]


def _dependency(text: str) -> dict[str, str]:
    job_id, colon, when = text.partition(":")
    if colon and when not in list(When):
        raise InvalidRequest(
            "--after", f"{when!r} is not one of {', '.join(When)}; write {job_id}:{When.ANY}"
        )
    return {"job_id": job_id, "when": when or When.SUCCESS.value}


def _moment(text: str, now: datetime) -> str:
    if text.startswith("+"):
        return (now + timedelta(seconds=parse_duration(text[1:], "--not-before"))).isoformat()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            "--not-before", f"{text!r} is not a time; write 2026-01-31T18:00 or +10m"
        ) from None
    return (moment if moment.tzinfo else moment.astimezone()).isoformat()

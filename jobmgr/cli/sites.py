"""`site`: where jobs may run."""

from __future__ import annotations

from typing import Any, get_args

import click
import msgspec

from jobmgr.cli import assignments, output, table
from jobmgr.cli.session import with_client
from jobmgr.client import Client
from jobmgr.domain.job import Job
from jobmgr.domain.site import MAX_SUBMITTED
from jobmgr.wire import translation
from jobmgr.wire.requests import AUTO, Kind, SshAsked
from jobmgr.wire.resources import ResourcesAsked

_TRIAL_WAIT_S = 600.0


@click.group()
def site() -> None:
    """List, add, test, disable and remove sites: where jobs may run."""


@site.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@with_client
async def ls(client: Client, *, as_json: bool) -> None:
    """List sites."""
    sites = await client.sites()
    if as_json:
        output.as_json(msgspec.to_builtins(sites))
    else:
        output.show(table.sites_table(sites))


@site.command()
@click.argument("name")
@click.option(
    "--kind",
    required=True,
    type=click.Choice([*get_args(Kind), AUTO]),
    help="Which scheduler it has; `auto`: the one that answers there.",
)
@click.option("--host", help="Where its commands are run, over SSH; this machine unless given.")
@click.option("--work-dir", help="Its work directory, seen by its machines; the service's own unless given.")
@click.option(
    "--max-submitted", type=int, default=MAX_SUBMITTED, show_default=True, help="Jobs it has at once."
)
@click.option("--max-running", type=int, help="Jobs that run there at once; no more are handed in.")
@click.option("--disabled", is_flag=True, help="Give it no jobs yet.")
@click.option(
    "--default", "defaults", multiple=True, metavar="NAME=VALUE", help="What jobs ask for: partition=long."
)
@click.option(
    "--ssh", "ssh", multiple=True, metavar="NAME=VALUE", help="How to connect: user=me, port=22, key_file=…"
)
@with_client
async def add(client: Client, /, name: str, **options: Any) -> None:
    """Add a site, or change it to this."""
    fields = {
        "kind": options["kind"],
        "enabled": not options["disabled"],
        "max_submitted": options["max_submitted"],
        "defaults": assignments.fields(options["defaults"], ResourcesAsked, "--default"),
        "ssh": assignments.fields(options["ssh"], SshAsked, "--ssh"),
        **{key: options[key] for key in ("host", "work_dir", "max_running") if options[key] is not None},
    }
    made = await client.put_site(name, **fields)
    output.line(f"{made.name} {made.kind} {made.host or 'here'}; try it with `jobmgr site test {made.name}`")


@site.command()
@click.argument("name")
@with_client
async def disable(client: Client, name: str) -> None:
    """Give a site no more jobs; those it has go on."""
    await client.enable_site(name, enabled=False)
    output.line(f"{name} is disabled; `jobmgr site enable {name}` opens it")


@site.command()
@click.argument("name")
@with_client
async def enable(client: Client, name: str) -> None:
    """Give a site jobs again."""
    await client.enable_site(name)
    output.line(f"{name} is open")


@site.command()
@click.argument("name")
@with_client
async def remove(client: Client, name: str) -> None:
    """Forget a site that no stored job names."""
    await client.remove_site(name)
    output.line(f"{name} removed")


@site.command()
@click.argument("name")
@click.option("--no-job", is_flag=True, help="Submit nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the steps, and the job if there was one.")
@with_client
async def test(client: Client, name: str, *, no_job: bool, as_json: bool) -> int:
    """Try a site step by step, up to a harmless job that runs there. Exit code 1: something is wrong."""
    trial = await client.try_site(name)
    if not as_json:
        output.show(table.steps_table(trial.steps))
    job = None if no_job or not trial.is_well else await _try_job(client, name)
    if as_json:
        told = None if job is None else msgspec.to_builtins(translation.job_answer(job))
        output.as_json({**msgspec.to_builtins(trial), "job": told})
    elif job is not None:
        said = f" ({job.error.message})" if job.error else ""
        there = f", as {job.handle} there" if job.handle else ""
        output.line(f"job {job.job_id} {job.status}{said}{there}")
    return 0 if trial.is_well and (job is None or job.exit_code == 0) else 1


async def _try_job(client: Client, name: str) -> Job | None:
    """A harmless job that was submitted there, once it has ended; none if it would wait for ever."""
    if any(each.name == name and not each.enabled for each in await client.sites()):
        output.note(f"{name} is disabled, so no job was submitted; `jobmgr site enable {name}` opens it")
        return None
    job_id = await client.submit(["uname", "-n"], name=f"test of site {name}", site=name, tags=["site-test"])
    output.note(f"job {job_id} submitted; `jobmgr why {job_id}` says where it is")
    return await client.wait(job_id, _TRIAL_WAIT_S)

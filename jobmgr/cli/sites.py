"""`site`: where jobs may run."""

from __future__ import annotations

from typing import Any, get_args

import click
import msgspec

from jobmgr.cli import assignments, output, table
from jobmgr.cli.session import with_client
from jobmgr.client import Client
from jobmgr.domain.site import MAX_SUBMITTED
from jobmgr.wire.requests import Kind, SshAsked
from jobmgr.wire.submission import ResourcesAsked

_TRIAL_WAIT_S = 600.0


@click.group()
def site() -> None:
    """List, add, test and remove sites: where jobs may run."""


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
@click.option("--kind", required=True, type=click.Choice(get_args(Kind)), help="Which scheduler it has.")
@click.option("--host", help="Where its commands are run, over SSH; this machine unless given.")
@click.option("--work-dir", help="Its work directory, seen by its machines; the service's own unless given.")
@click.option(
    "--max-submitted", type=int, default=MAX_SUBMITTED, show_default=True, help="Jobs it has at once."
)
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
        **{key: options[key] for key in ("host", "work_dir") if options[key] is not None},
    }
    made = await client.put_site(name, **fields)
    output.line(f"{made.name} {made.kind} {made.host or 'here'}; try it with `jobmgr site test {made.name}`")


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
@with_client
async def test(client: Client, name: str, *, no_job: bool) -> int:
    """Try a site step by step, up to a harmless job that runs there."""
    trial = await client.try_site(name)
    output.show(table.steps_table(trial.steps))
    if not trial.is_well:
        return 1
    if no_job:
        return 0
    job_id = await client.submit(["uname", "-n"], name=f"test of site {name}", site=name, tags=["site-test"])
    output.line(f"job {job_id} submitted; `jobmgr why {job_id}` says where it is")
    job = await client.wait(job_id, _TRIAL_WAIT_S)
    said = f" ({job.error.message})" if job.error else ""
    output.line(f"job {job.job_id} {job.status}{said}, as {job.handle} there")
    return 0 if job.exit_code == 0 else 1

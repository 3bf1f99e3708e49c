"""`limits`: what the service may use of its machine."""

from __future__ import annotations

from dataclasses import asdict

import click
import msgspec

from jobmgr.cli import output
from jobmgr.cli.number import number_or_none
from jobmgr.cli.session import with_client
from jobmgr.client import Client
from jobmgr.domain.limits import ResourceLimits
from jobmgr.wire import translation


@click.group()
def limits() -> None:
    """List and set the limits of the service."""


@limits.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_client
async def ls(client: Client, *, as_json: bool) -> None:
    """List the limits that are in force."""
    found = await client.limits()
    if as_json:
        output.as_json(msgspec.to_builtins(translation.limits_answer(found)))
    else:
        _tell(found)


@limits.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("name", type=click.Choice(list(asdict(ResourceLimits()))), metavar="NAME")
@click.argument("value", metavar="VALUE|none")
@with_client
async def set_limit(client: Client, name: str, value: str) -> None:
    """Set a limit of the service, or take it away; it is stored, so it holds at the next start too."""
    _tell(await client.update_limits(**{name: number_or_none(value, "VALUE")}))


def _tell(limits: ResourceLimits) -> None:
    output.lines(f"{name} {'none' if value is None else value}" for name, value in asdict(limits).items())

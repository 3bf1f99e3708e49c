"""`user`: who may use the service."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from jobmgr.cli import output, table
from jobmgr.cli.session import with_client
from jobmgr.client import Client
from jobmgr.domain.access import Role
from jobmgr.errors import Conflict
from jobmgr.wire.answers import UserAnswer

_ROLE = click.Choice([role.value for role in Role])


@click.group()
def user() -> None:
    """List, add, change and remove users."""


@user.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@with_client
async def ls(client: Client, *, as_json: bool) -> None:
    """List users."""
    users = await client.users()
    if as_json:
        output.as_json(msgspec.to_builtins(users))
    else:
        output.show(table.users_table(users))


@user.command()
@click.argument("name")
@click.option(
    "--role", type=_ROLE, default=Role.USER.value, show_default=True, help="What they are here for."
)
@click.option(
    "--group", "groups", multiple=True, help="Who shares one sees the other's jobs; may be repeated."
)
@with_client
async def add(client: Client, /, name: str, role: str, groups: tuple[str, ...]) -> None:
    """Add a user. One who is there already is not changed: `jobmgr user set` does that."""
    try:
        output.line(f"{name} added: {_said(await client.put_user(name, role=role, groups=groups, new=True))}")
    except Conflict:
        known = {each.name: each for each in await client.users()}.get(name)
        if known is None:
            raise
        if (known.role, set(known.groups), known.disabled) != (role, set(groups), False):
            said = f"{name} is there already: {_said(known)}; `jobmgr user set {name}` changes that"
            raise Conflict(said) from None
        output.line(f"{name} is there already: {_said(known)}")
    output.note(f"`jobmgr token make {name}` makes an API token for {name}")


@user.command("set")
@click.argument("name")
@click.option("--role", type=_ROLE, help="What they are here for.")
@click.option("--group", "groups", multiple=True, help="All their groups from now on; may be repeated.")
@click.option("--no-groups", is_flag=True, help="They are in no group any more.")
@click.option(
    "--disable/--enable",
    "disabled",
    default=None,
    help="Let them in no more, and revoke all their API tokens; or let them in again.",
)
@with_client
async def change(client: Client, /, name: str, **options: Any) -> None:
    """Change a user; what is not said stays."""
    if options["groups"] and options["no_groups"]:
        raise click.UsageError("--group and --no-groups exclude each other")
    fields = {key: options[key] for key in ("role", "disabled") if options[key] is not None}
    if options["groups"] or options["no_groups"]:
        fields["groups"] = list(options["groups"])
    if not fields:
        raise click.UsageError("say what to change: --role, --group, --no-groups, --disable or --enable")
    output.line(f"{name} {_said(await client.change_user(name, **fields))}")


@user.command()
@click.argument("name")
@with_client
async def rm(client: Client, name: str) -> None:
    """Forget a user without jobs, and all their API tokens."""
    await client.remove_user(name)
    output.line(f"{name} removed")


def _said(user: UserAnswer) -> str:
    groups = f" in {', '.join(user.groups)}" if user.groups else ""
    return f"{user.role}{groups}{' disabled' if user.disabled else ''}"

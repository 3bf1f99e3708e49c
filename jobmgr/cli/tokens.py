"""`token`: what programs and other users show."""

from __future__ import annotations

import re
from typing import Any

import click
import msgspec

from jobmgr.cli import output, table, wording
from jobmgr.cli.session import with_client
from jobmgr.client import Client
from jobmgr.domain.access import Scope
from jobmgr.domain.user import LASTS, TOKEN_ID

# Of a token that was pasted, also in part, the id is what is meant.
_SHOWN = re.compile(rf"jm_({TOKEN_ID})(?:_|$)")


@click.group()
def token() -> None:
    """List, make and revoke API tokens."""


@token.command("ls")
@click.argument("user", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@with_client
async def ls(client: Client, user: str | None, *, as_json: bool) -> None:
    """List API tokens, newest first: of USER, or all that one may see."""
    tokens = await client.api_tokens(user)
    if as_json:
        output.as_json(msgspec.to_builtins(tokens))
    else:
        output.show(table.tokens_table(tokens, wording.utc_now()))


@token.command()
@click.argument("user", required=False)
@click.option("--label", default="", help="What it is for.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it may do, at most; may be repeated. All that the user's role allows unless given.",
)
@click.option(
    "--expires",
    default=LASTS,
    show_default=True,
    help="How long it is valid: 90d, 12h; until when: 2026-01-31T18:00Z; or `never`.",
)
@with_client
async def make(client: Client, /, user: str | None, **options: Any) -> None:
    """Make an API token for USER, or for oneself, and print it: it is shown this once.

    Nothing else is printed on stdout: `JOBMGR_TOKEN=$(jobmgr token make alice)`.
    """
    fields = {"label": options["label"], "scopes": list(options["scopes"]), "expires": options["expires"]}
    made = await client.make_api_token(user, **fields)
    until = "never expires" if made.expires_at is None else f"expires {made.expires_at}"
    output.note(
        f"API token {made.id} of {made.user} may {', '.join(made.scopes)} and {until}; it is shown this once"
    )
    output.line(made.token)


@token.command()
@click.argument("token_ids", metavar="ID...", nargs=-1, required=True)
@with_client
async def revoke(client: Client, token_ids: tuple[str, ...]) -> None:
    """Let API tokens be valid no more, from the next request on."""
    for given in token_ids:
        shown = _SHOWN.match(given)
        token_id = given if shown is None else shown[1]
        if shown is not None:
            output.note(f"this is the API token itself; its id {token_id} is enough, and no secret")
        revoked = await client.revoke_api_token(token_id)
        output.line(f"{revoked.id} of {revoked.user} revoked")

"""`report`: what happened, for people, programs and spreadsheets."""

from __future__ import annotations

import re
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any

import click
import msgspec

from jobmgr.cli import output, table
from jobmgr.cli.session import with_client
from jobmgr.client import Client
from jobmgr.domain.resources import is_bare_number, parse_duration
from jobmgr.errors import InvalidRequest
from jobmgr.wire import spreadsheet
from jobmgr.wire.answers import AuditEntryAnswer
from jobmgr.wire.translation import moment_text

_TIME = "how long ago (2d, 12h), a day (2026-01-31) or a time with its zone (2026-01-31T18:00Z)"
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@click.group()
def report() -> None:
    """Tell who did what."""


@report.command()
@click.option("--actor", metavar="USER", help="What this user did.")
@click.option("--kind", help="What happened: cancelled, user_added, api_token_made, …")
@click.option("--job", metavar="ID", help="What was done to this job.")
@click.option("--since", metavar="TIME", help=f"From then on: {_TIME}.")
@click.option("--until", metavar="TIME", help="Before then.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many.")
@click.option("--json", "form", flag_value="json", help="Print a JSON list.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV, in which no spreadsheet finds a formula.")
@with_client
async def audit(client: Client, /, limit: int, form: str | None, **filters: Any) -> None:
    """Tell who did what, when, and from where, newest first."""
    given = {name: value for name, value in filters.items() if value is not None}
    for name in ("since", "until"):
        if name in given:
            given[name] = _moment(given[name], f"--{name}")
    entries = await _first(client, limit, given)
    if form == "json":
        output.as_json(msgspec.to_builtins(entries))
    elif form == "csv":
        output.lines(spreadsheet.of_audit(entries).removesuffix("\r\n").split("\r\n"))
    else:
        output.show(table.audit_table(entries))


async def _first(client: Client, limit: int, filters: dict[str, str]) -> list[AuditEntryAnswer]:
    found: list[AuditEntryAnswer] = []
    async with aclosing(client.audit(**filters)) as entries:
        async for entry in entries:
            if len(found) == limit:
                output.note(f"there are more; `--limit {10 * limit}` shows more of them")
                break
            found.append(entry)
    return found


def _moment(text: str, option: str) -> str:
    """The time that is meant, as it travels: of a day its beginning here."""
    try:
        if _DAY.fullmatch(text):
            return moment_text(datetime.fromisoformat(text).astimezone())
        if "T" in text and (at := datetime.fromisoformat(text)).tzinfo is not None:
            return at.isoformat()
        if not is_bare_number(text):
            return moment_text(table.utc_now() - timedelta(seconds=parse_duration(text, option)))
    except (InvalidRequest, ValueError, OverflowError):
        pass
    raise click.BadParameter(f"{text!r} is not {_TIME}", param_hint=option)

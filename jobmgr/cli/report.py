"""`report`: what happened, for people, programs and spreadsheets."""

from __future__ import annotations

import re
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any

import click
import msgspec

from jobmgr.cli import output, table, wording
from jobmgr.cli.session import note_unknown_user, with_client
from jobmgr.client import Client
from jobmgr.domain.resources import is_bare_number, parse_duration
from jobmgr.errors import InvalidRequest, JobNotFound
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
@click.option("--job", metavar="ID", help="What was done to this job; the first characters of its id do.")
@click.option("--since", metavar="TIME", help=f"From then on: {_TIME}.")
@click.option("--until", metavar="TIME", help="Before then.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, in which no spreadsheet finds a formula.")
@with_client
async def audit(client: Client, /, *, limit: int, as_json: bool, as_csv: bool, **filters: Any) -> None:
    """Tell who did what, when, and from where, newest first."""
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    given = {name: value for name, value in filters.items() if value is not None}
    for name in ("since", "until"):
        if name in given:
            given[name] = _moment(given[name], f"--{name}")
    if "job" in given:
        given["job"] = await _job_id(client, given["job"])
    entries = await _first(client, limit, given)
    if not entries and "actor" in given:
        await note_unknown_user(client, given["actor"])
    if as_json:
        output.as_json(msgspec.to_builtins(entries))
    elif as_csv:
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


async def _job_id(client: Client, text: str) -> str:
    try:
        return await client.full_id(text)
    except JobNotFound as error:
        # Of a job that was deleted the audit still knows.
        output.note(str(error))
        return text


def _moment(text: str, option: str) -> str:
    """The time that is meant, as it travels: of a day its beginning here."""
    try:
        if _DAY.fullmatch(text):
            return moment_text(datetime.fromisoformat(text).astimezone())
        if "T" in text and (at := datetime.fromisoformat(text)).tzinfo is not None:
            return at.isoformat()
        if not is_bare_number(text):
            return moment_text(wording.utc_now() - timedelta(seconds=parse_duration(text, option)))
    except (InvalidRequest, ValueError, OverflowError):
        pass
    raise click.BadParameter(f"{text!r} is not {_TIME}", param_hint=option)

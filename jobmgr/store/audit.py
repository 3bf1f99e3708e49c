"""Reading the audit: the events that somebody asked for, newest first, in pages by key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from jobmgr.domain.audit import AuditEntry, AuditFilter, AuditPage
from jobmgr.errors import InvalidRequest
from jobmgr.store.tables import Event
from jobmgr.store.transaction import AnyRow

_SHOWN = sa.select(
    Event.seq, Event.at, Event.actor, Event.origin, Event.kind, Event.job_id, Event.data
).where(
    # As the index has it, which holds nothing else. By time, because that is what is asked for; events of one commit
    # have one time, and their numbers.
    Event.actor.is_not(None)
)


def page(connection: sa.Connection, wanted: AuditFilter, limit: int, cursor: str | None) -> AuditPage:
    """At most `limit` entries behind `cursor`. Raises InvalidRequest if that is none."""
    statement = _filtered(wanted).order_by(Event.at.desc(), Event.seq.desc()).limit(limit + 1)
    if cursor is not None:
        at, seq = _decode(cursor)
        place = sa.tuple_(Event.at, Event.seq)
        last = sa.tuple_(sa.literal(at, Event.at.type), sa.literal(seq, Event.seq.type))
        statement = statement.where(place < last)
    rows = connection.execute(statement).all()
    entries = [_entry(row) for row in rows[:limit]]
    return AuditPage(entries, _encode(entries[-1]) if len(rows) > limit else None)


def _filtered(wanted: AuditFilter) -> sa.Select[Any]:
    found = _SHOWN
    for column, value in (
        (Event.actor, wanted.actor),
        (Event.kind, wanted.kind),
        (Event.job_id, wanted.job_id),
    ):
        if value is not None:
            found = found.where(column == value)
    if wanted.since is not None:
        found = found.where(Event.at >= wanted.since)
    if wanted.until is not None:
        found = found.where(Event.at < wanted.until)
    return found


def _entry(row: AnyRow) -> AuditEntry:
    return AuditEntry(row.seq, row.at, row.actor, row.origin, row.kind, row.job_id, row.data)


def _encode(entry: AuditEntry) -> str:
    return f"{entry.at.isoformat(timespec='microseconds')[:26]}Z_{entry.seq}"


def _decode(cursor: str) -> tuple[datetime, int]:
    at, _, seq = cursor.partition("_")
    try:
        place = datetime.fromisoformat(at).astimezone(UTC), int(seq)
    except (ValueError, OverflowError):
        place = None
    if place is None or not 0 <= place[1] < 2**63:
        raise InvalidRequest("cursor", "is not a cursor of ours; use next_cursor of the page before")
    return place

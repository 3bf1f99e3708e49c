"""Whether the pages of an SQLite file hang together."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

import sqlalchemy as sa

_COMPLAINTS_MAX = 10
_STEPS_BETWEEN_LOOKS = 10_000  # of SQLite's virtual machine; a few milliseconds


@dataclass(frozen=True, slots=True)
class Integrity:
    """What SQLite's own check found; not complete if its time was up."""

    complaints: tuple[str, ...]
    is_complete: bool


def check(connection: sa.Connection, limit_s: float | None) -> Integrity:
    """`PRAGMA quick_check` for at most `limit_s`; without a limit `integrity_check`, which reads the indexes too."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    pragma = "integrity_check" if limit_s is None else "quick_check"
    deadline = None if limit_s is None else time.monotonic() + limit_s
    if deadline is not None:
        raw.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
    try:
        rows = connection.exec_driver_sql(f"PRAGMA {pragma}({_COMPLAINTS_MAX})").scalars().all()
    except sa.exc.OperationalError as error:
        if "interrupted" not in str(error.orig):
            raise
        return Integrity((), is_complete=False)
    finally:
        raw.set_progress_handler(None, 0)
    return Integrity(tuple(str(row) for row in rows if row != "ok"), is_complete=True)

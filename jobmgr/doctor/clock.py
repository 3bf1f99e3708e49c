"""Judges this machine's clock against the database. Ownership never depends on it, due times do."""

from __future__ import annotations

from datetime import datetime, timedelta

from jobmgr.doctor.facts import Facts, Rows
from jobmgr.domain.checkup import Check, ok, unchecked, warning
from jobmgr.store.server import Server

_TOLERANCE_S = 2.0
_REMEDY = (
    "set the clocks (chrony, ntpd): who owns a job never depends on them, "
    "but when it is due and which times are shown does"
)


def judge(facts: Facts) -> Check:
    """Compare with the server's clock, or with the newest event in a file."""
    if isinstance(facts.server, Server):
        return judge_server(facts.server)
    if not isinstance(facts.rows, Rows):
        return unchecked("clock", facts.rows.reason)
    return judge_event(facts.rows.newest_event, facts.now)


def judge_server(server: Server) -> Check:
    """Compare with the server's clock."""
    off_s = abs(server.ahead_s)
    if off_s > _TOLERANCE_S + server.uncertainty_s:
        direction = "behind" if server.ahead_s > 0 else "ahead of"
        return warning("clock", f"this machine is {off_s:.0f} s {direction} the database server", _REMEDY)
    return ok("clock", "as the database server's, within 2 s")


def judge_event(newest: datetime | None, now: datetime) -> Check:
    """Compare with when the newest event was written."""
    if newest is None:
        return ok("clock", "there is nothing yet to compare it with")
    ahead = newest - now
    if ahead > timedelta(seconds=_TOLERANCE_S):
        found = f"the newest event in the database is {ahead.total_seconds():.0f} s in the future"
        return warning("clock", found, _REMEDY)
    return ok("clock", "later than the newest event in the database")

"""Judges live attempts, and processes of attempts that are not live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from jobmgr.doctor.amount import some
from jobmgr.doctor.facts import Neighbour, Orphan, Rows, Sighted
from jobmgr.domain.checkup import Check, Verdict, ok, problem, warning
from jobmgr.domain.resources import counted
from jobmgr.executors.evidence import Finding

# Between the commit of a claim and the command there are milliseconds, under load perhaps seconds.
_STARTING = timedelta(seconds=60)
_SHOWN_AT_MOST = 20


class Plight(StrEnum):
    """How a live attempt is off. The values are what is said about it."""

    HELD = "held by their keepers"
    STARTING = "being started"
    UNSTARTED = "claimed, but not started"
    UNWRITTEN = "ended, but not recorded"
    UNHELD = "running without a keeper, so that how they end cannot be recorded"
    GONE = "gone without a record of their end"
    UNREADABLE = "not to be judged by their control files"


def plight(sighted: Sighted, now: datetime, *, is_served: bool) -> Plight:
    """What the traces of a live attempt mean."""
    if sighted.finding is Finding.OPEN:
        if sighted.has_holder:
            return Plight.HELD
        return Plight.UNHELD if sighted.runs else Plight.GONE
    if sighted.finding is Finding.UNDECIDED:
        is_fresh = now - sighted.attempt.claimed_at < _STARTING
        return Plight.STARTING if is_served and is_fresh else Plight.UNSTARTED
    if sighted.finding in (Finding.ENDED, Finding.VOID):
        return Plight.UNWRITTEN
    if sighted.finding in (Finding.OTHER_BOOT, Finding.OTHER_ATTEMPT):
        return Plight.GONE
    return Plight.UNREADABLE


_BY_NEXT_SERVICE = "start `jobmgr serve`, which takes them up"
_BY_RESTART = "restart the service, which then takes them up, and look at its log"
# What to do about each, where nobody serves and where a service should have done it.
_REMEDIES: Mapping[Plight, tuple[str, str]] = MappingProxyType(
    {
        Plight.UNSTARTED: (_BY_NEXT_SERVICE, _BY_RESTART),
        Plight.UNWRITTEN: (_BY_NEXT_SERVICE, _BY_RESTART),
        Plight.GONE: ("start `jobmgr serve`, which records them as lost", _BY_RESTART),
    }
)


def judge(rows: Rows, now: datetime, *, is_served: bool) -> Check:
    """The worst that was found about live attempts."""
    name = "attempts"
    groups: dict[Plight, list[Sighted]] = {}
    for one in rows.live:
        groups.setdefault(plight(one, now, is_served=is_served), []).append(one)
    if not groups:
        return ok(name, "none is live in this work directory")
    found = "; ".join(
        f"{len(groups[kind])} {kind}{_jobs(kind, groups[kind])}" for kind in Plight if kind in groups
    )
    if Plight.UNREADABLE in groups:
        detail = next((one.detail for one in groups[Plight.UNREADABLE] if one.detail), "")
        return problem(
            name, f"{found} ({detail})", "look at that file by hand; nothing is decided until it can be read"
        )
    late = next((kind for kind in _REMEDIES if kind in groups), None)
    if late is not None:
        verdict = Verdict.PROBLEM if is_served else Verdict.WARNING
        return Check(name, verdict, found, _REMEDIES[late][is_served])
    if Plight.UNHELD in groups:
        remedy = "nothing to do, they run on; but they will be `lost`, so look at their output yourself"
        return warning(name, found, remedy)
    if not is_served:
        return warning(name, found, "nothing is lost: start `jobmgr serve`, which takes them up")
    return ok(name, found)


def _jobs(kind: Plight, group: Sequence[Sighted]) -> str:
    if kind in (Plight.HELD, Plight.STARTING):
        return ""
    return f" (job {some([one.attempt.job_id for one in group])})"


def judge_orphans(orphans: Sequence[Orphan]) -> Check:
    """Processes that nobody watches any more."""
    name = "orphans"
    if not orphans:
        return ok(name, "no process of an ended attempt is left")
    pids = [str(orphan.carrier.stat.pid) for orphan in orphans[:_SHOWN_AT_MOST]]
    shown = [f"pid {orphan.carrier.stat.pid} {_origin(orphan)}" for orphan in orphans]
    remedy = f"look at them with `ps -fp {','.join(pids)}`, and end what is not wanted with `kill {' '.join(pids)}`"
    many = counted(len(orphans), "process", "processes")
    return problem(name, f"{many} that no live attempt accounts for: {some(shown)}", remedy)


def _origin(orphan: Orphan) -> str:
    *_, job_id, number = orphan.carrier.run.split("/")
    state = "which has ended" if orphan.is_known else "unknown to this database"
    return f"of job {job_id}, attempt {number}, {state}"


def judge_dispatchers(neighbours: Sequence[Neighbour], now: datetime) -> Check:
    """Who is registered, and whether somebody holds each live attempt."""
    name = "dispatchers"
    working = [one for one in neighbours if one.is_alive]
    stopped = [str(one.registered.identity.pid) for one in working if one.is_stopped]
    if stopped:
        found = f"the service is stopped (process {some(stopped)})"
        return problem(name, found, f"let it go on: `kill -CONT {' '.join(stopped)}`")
    forsaken = [
        one for one in neighbours if not one.is_alive and not one.is_elsewhere and one.registered.live
    ]
    forsaken += [one for one in neighbours if one.is_elsewhere and one.registered.has_stopped]
    if forsaken:
        return _forsaken(forsaken, working, now)
    distant = [one for one in neighbours if one.is_elsewhere]
    silent = [one for one in distant if one.is_silent and one.registered.live]
    if silent:
        found = f"{_held(silent)} of dispatchers that do not count up any more, on {_hosts(silent)}"
        return warning(
            name, found, "see whether the service runs on that machine, with `jobmgr doctor` there"
        )
    pids = some([str(one.registered.identity.pid) for one in working])
    return ok(name, f"{len(working)} at work here{f' (process {pids})' if pids else ''}{_elsewhere(distant)}")


def _forsaken(forsaken: Sequence[Neighbour], working: Sequence[Neighbour], now: datetime) -> Check:
    name = "dispatchers"
    found = f"{_held(forsaken)} of dispatchers that are gone"
    if not working:
        return warning(name, found, _BY_NEXT_SERVICE)
    if all(now - one.registered.started_at < _STARTING for one in working):
        return ok(name, f"{found}; the service that was just started takes them up")
    return problem(name, f"{found}, and the service did not take them up", _BY_RESTART)


def _held(neighbours: Sequence[Neighbour]) -> str:
    return counted(sum(one.registered.live for one in neighbours), "live attempt")


def _hosts(neighbours: Sequence[Neighbour]) -> str:
    return some(sorted({one.registered.identity.host for one in neighbours}))


def _elsewhere(distant: Sequence[Neighbour]) -> str:
    if not distant:
        return ""
    watched = "" if distant[0].is_silent is not None else "; whether those live is seen with --full"
    return f", {len(distant)} where it cannot be seen ({_hosts(distant)}){watched}"

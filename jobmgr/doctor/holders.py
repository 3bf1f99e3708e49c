"""Judges wardens and keepers: the processes that hold running commands, and their sockets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jobmgr.doctor.amount import some
from jobmgr.doctor.facts import Trouble
from jobmgr.domain.checkup import Check, ok, problem, unchecked, warning
from jobmgr.domain.resources import counted
from jobmgr.executors.census import Crowd, Holder


def judge(crowd: Crowd | Trouble) -> Iterator[Check]:
    """The processes first, then what dead ones left."""
    if isinstance(crowd, Trouble):
        yield unchecked("keepers", crowd.reason)
        return
    yield _holders(crowd.holders)
    yield _sockets(crowd.deserted)


def _holders(holders: Sequence[Holder]) -> Check:
    name = "keepers"
    found = _described(holders)
    stopped = _pids(holder for holder in holders if holder.is_stopped)
    if stopped:
        return problem(
            name, f"{found}; stopped: {some(stopped)}", f"let them go on: `kill -CONT {' '.join(stopped)}`"
        )
    hidden = _pids(holder for holder in holders if holder.socket is not None and not holder.is_findable)
    if hidden:
        remedy = (
            "let their jobs end before the service is restarted: the next one could not cancel or pause them"
        )
        return warning(name, f"{found}; the sockets of {some(hidden)} were deleted", remedy)
    alone = _pids(holder for holder in holders if _is_without_warden(holder, holders))
    if alone:
        remedy = "nothing to do: they finish what they have, and a new warden is started for what comes next"
        return warning(name, f"{found}; the warden of {some(alone)} is dead", remedy)
    return ok(name, found)


def _described(holders: Sequence[Holder]) -> str:
    if not holders:
        return "none is running"
    wardens = [holder for holder in holders if holder.is_warden]
    connected = sum(holder.connections > 0 for holder in holders)
    by_whom = f"{connected} connected to a service" if connected else "connected to no service"
    pids = f" (pid {some(_pids(wardens))})" if wardens else ""
    return f"{counted(len(wardens), 'warden')}{pids}, {counted(len(holders) - len(wardens), 'keeper')}, {by_whom}"


def _is_without_warden(holder: Holder, holders: Sequence[Holder]) -> bool:
    return not holder.is_warden and all(holder.parent != one.pid for one in holders if one.is_warden)


def _pids(holders: Iterator[Holder] | Sequence[Holder]) -> list[str]:
    return [str(holder.pid) for holder in holders]


def _sockets(deserted: Sequence[str]) -> Check:
    if not deserted:
        return ok("sockets", "none was left over")
    found = f"{counted(len(deserted), 'socket')} of dead processes: {some(list(deserted), 2)}"
    return warning(
        "sockets", found, "nothing to do: they do no harm, and the next `jobmgr serve` removes them"
    )

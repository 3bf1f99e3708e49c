"""What attempts left on this machine, compared with what the database knows of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobmgr.doctor.facts import Neighbour, Orphan, Remains, Rows, Sighted, Trouble, asked, known
from jobmgr.executors import census, directories, evidence, process
from jobmgr.executors.census import Carrier
from jobmgr.executors.directories import Budget, Found
from jobmgr.executors.evidence import Finding
from jobmgr.store import census as registry
from jobmgr.store.census import Census, LiveAttempt, Registered
from jobmgr.store.observer import Observer

_SCAN_ENTRIES = 50_000
_SCAN_S = 3.0
_SECOND_LOOK_AFTER_S = 1.0
# Several times what a dispatcher needs for a heartbeat.
_HEARTBEATS_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Left:
    """What was seen before the database was asked."""

    work_dir: Path
    carriers: list[Carrier]
    controls: Found | Trouble
    runs: Found | Trouble

    @property
    def tokens(self) -> list[str]:
        """The attempts that processes were started for."""
        return sorted({carrier.token for carrier in self.carriers})

    @property
    def attempts(self) -> frozenset[tuple[str, int]]:
        """The attempts that have directories."""
        found = (one.attempts for one in (self.controls, self.runs) if isinstance(one, Found))
        return frozenset().union(*found)


def left_in(work_dir: Path, *, full: bool) -> Left:
    """Look for processes and directories; for a few seconds at most unless `full`."""
    return Left(
        work_dir,
        census.carriers(work_dir),
        known(directories.scan, work_dir / "control", _budget(full=full)),
        known(directories.scan, work_dir / "runs", _budget(full=full)),
    )


def _budget(*, full: bool) -> Budget:
    return Budget() if full else Budget(_SCAN_ENTRIES, _SCAN_S)


async def compare(observer: Observer, left: Left, taken: Census, *, full: bool) -> Rows:
    """Hold what was seen against what the database said, and look again at what seems wrong."""
    neighbours = [_neighbour(one) for one in taken.registered]
    if full:
        neighbours = await _watched(observer, neighbours)
    return Rows(
        newest_event=taken.newest_event,
        neighbours=neighbours,
        live=await _sightings(observer, left.work_dir, taken.live),
        orphans=_orphans(left.carriers, taken),
        controls=_remains(left.controls, taken),
        runs=await asyncio.to_thread(
            _measured, left.work_dir / "runs", _remains(left.runs, taken), full=full
        ),
    )


def _neighbour(registered: Registered) -> Neighbour:
    one = registered.identity
    is_here = (one.host, one.boot_id, one.pid_namespace) == (
        process.host(),
        process.boot_id(),
        process.pid_namespace(),
    )
    # A program that embeds a service goes on after it has stopped it.
    may_live = is_here and not registered.has_stopped
    stat = process.read_stat(one.pid) if may_live else None
    is_alive = may_live and process.is_alive(one.pid, one.start_ticks)
    return Neighbour(
        registered,
        is_here=is_here,
        is_other_boot=one.host == process.host() and one.boot_id != process.boot_id(),
        is_alive=is_alive,
        is_stopped=stat is not None and is_alive and stat.is_stopped,
    )


async def _watched(observer: Observer, neighbours: list[Neighbour]) -> list[Neighbour]:
    """Whether the dispatchers that cannot be seen from here raise their counters meanwhile."""
    if not any(one.is_elsewhere and not one.registered.has_stopped for one in neighbours):
        return neighbours
    await asyncio.sleep(_HEARTBEATS_WITHIN_S)
    later = await asked(observer, registry.heartbeats)
    if isinstance(later, Trouble):
        return neighbours
    return [
        replace(one, is_silent=later.get(one.registered.identity.id) == one.registered.heartbeat)
        for one in neighbours
    ]


async def _sightings(observer: Observer, work_dir: Path, live: Sequence[LiveAttempt]) -> list[Sighted]:
    own = [attempt for attempt in live if _is_below(attempt, work_dir)]
    found = await asyncio.to_thread(_look, work_dir, own)
    doubtful = [one for one in found if not one.is_in_order]
    if not doubtful:
        return found
    # An end or a start that is under way is written by then.
    await asyncio.sleep(_SECOND_LOOK_AFTER_S)
    tokens = [one.attempt.token for one in doubtful]
    ended = await asked(observer, registry.ended, tokens)
    if isinstance(ended, Trouble):
        return found
    again = [one.attempt for one in doubtful if ended.get(one.attempt.token) is False]
    return [one for one in found if one.is_in_order] + await asyncio.to_thread(_look, work_dir, again)


def _is_below(attempt: LiveAttempt, work_dir: Path) -> bool:
    # Another service of this database may have a work directory of its own.
    return attempt.work_dir is None or Path(attempt.work_dir).is_relative_to(work_dir)


def _look(work_dir: Path, live: Sequence[LiveAttempt]) -> list[Sighted]:
    return [_sight(work_dir / "control" / one.job_id / str(one.number), one) for one in live]


def _sight(control: Path, attempt: LiveAttempt) -> Sighted:
    sighting = evidence.look(str(control), attempt.token)
    found = Sighted(attempt, sighting.finding, detail=sighting.detail)
    if sighting.finding is not Finding.OPEN:
        return found
    assert sighting.gate is not None
    holder = sighting.gate["holder"]
    if any(process.is_alive(one["pid"], one["start_ticks"]) for one in (holder, holder["warden"])):
        return replace(found, has_holder=True)
    return replace(found, runs=bool(evidence.running_processes(str(control), sighting.gate)))


def _orphans(carriers: Sequence[Carrier], taken: Census) -> list[Orphan]:
    # An end is written after the last process of its attempt was seen gone, so who is alive now should not be.
    return [
        Orphan(carrier, is_known=carrier.token in taken.ended)
        for carrier in carriers
        if taken.ended.get(carrier.token, True) and carrier.is_alive
    ]


def _remains(found: Found | Trouble, taken: Census) -> Remains | Trouble:
    if isinstance(found, Trouble):
        return found
    return Remains(found, found.attempts - taken.known)


def _measured(runs: Path, remains: Remains | Trouble, *, full: bool) -> Remains | Trouble:
    if isinstance(remains, Trouble) or not remains.unknown:
        return remains
    return replace(remains, extent=directories.measure(runs, remains.unknown, _budget(full=full)))

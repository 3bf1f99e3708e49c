"""The other dispatchers: which of them are silent, and what that means for the attempts they hold. Pure rules.

A dispatcher shows that it lives by counting up in its row. Who sees the same count over several intervals of his
own, by his own monotonic clock, takes it for silent; no wall clock is compared with another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from jobmgr.executors import process
from jobmgr.store.dispatchers import Identity, Peer

# So many of its own intervals a dispatcher may miss, and so many looks of ours must have seen it.
SILENT_BEATS = 4


class Fate(StrEnum):
    """What to do with the attempts of another dispatcher."""

    LEAVE = "leave"  # it looks after them
    ADOPT = "adopt"  # it does not, and this one can
    UNATTENDED = "unattended"  # nobody does: they are on another machine


@dataclass(slots=True)
class _Sighting:
    heartbeat: int
    since: float
    looks: int = 0


class Watch:
    """Remembers the counters that were seen."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: dict[str, _Sighting] = {}

    def silent(self, peers: Sequence[Peer]) -> set[str]:
        """Look at all peers; answers the ids of those that have been silent for too long."""
        now = self._monotonic()
        self._seen = {peer.identity.id: self._look(peer, now) for peer in peers}
        return {peer.identity.id for peer in peers if self._is_silent(peer, now)}

    def _look(self, peer: Peer, now: float) -> _Sighting:
        seen = self._seen.get(peer.identity.id)
        if seen is None or seen.heartbeat != peer.heartbeat:
            return _Sighting(peer.heartbeat, now)
        seen.looks += 1
        return seen

    def _is_silent(self, peer: Peer, now: float) -> bool:
        seen = self._seen[peer.identity.id]
        # Many looks, not only much time: after a sleep of this machine the first look proves nothing.
        return seen.looks >= SILENT_BEATS and now - seen.since >= SILENT_BEATS * peer.identity.heartbeat_s


def fate(own: Identity, peer: Peer, *, is_silent: bool, is_only: bool) -> Fate:
    """What `own` is to do about the attempts of `peer`.

    `is_only` says that there can be no other dispatcher now (the lock of an SQLite file). Attempts are adopted by
    who can see their processes or at least reads their files: in the same boot and pid namespace, or on the same
    work directory. What the latter finds held by processes it cannot see stays unreachable.
    """
    if is_only:
        return Fate.ADOPT
    other = peer.identity
    if other.boot_id == own.boot_id and other.pid_namespace == own.pid_namespace:
        is_gone = peer.has_stopped or is_silent or not process.is_alive(other.pid, other.start_ticks)
        return Fate.ADOPT if is_gone else Fate.LEAVE
    if not (peer.has_stopped or is_silent):
        return Fate.LEAVE
    return Fate.ADOPT if other.work_id and other.work_id == own.work_id else Fate.UNATTENDED


def by_fate(
    own: Identity, peers: Iterable[Peer], silent: set[str], *, is_only: bool
) -> dict[Fate, list[str]]:
    """The ids of `peers` for each fate."""
    found: dict[Fate, list[str]] = {fate: [] for fate in Fate}
    for peer in peers:
        word = fate(own, peer, is_silent=peer.identity.id in silent, is_only=is_only)
        found[word].append(peer.identity.id)
    return found

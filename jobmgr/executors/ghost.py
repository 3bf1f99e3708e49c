"""Ghosts: runs that recorded their end, and that their scheduler goes on calling alive.

After its controller was killed SLURM may do so for ever, and keep their nodes and cpus taken. Only ends that this
service saw itself are known here: memory is enough for a kindness.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from jobmgr.dialects.dialect import Listing, Phase, Standing
from jobmgr.executors.live import Live
from jobmgr.executors.pace import Pace

_TAKES_ROOM = frozenset({Phase.RUNNING, Phase.SUSPENDED})
_STAYS = _TAKES_ROOM | {Phase.ENDING, Phase.UNKNOWN}
# An end that takes longer is the scheduler's own trouble.
_GIVEN_UP_AFTER = 2.0


@dataclass(frozen=True, slots=True)
class Ghost:
    """A run that has ended: as what its scheduler knows it, whose it was, and since when its record is known."""

    id: str
    name: str
    restarts: int
    job_id: str
    since: float

    def is_of(self, one: Standing) -> bool:
        """Whether this is what the scheduler says of it."""
        return one.id == self.id and one.name == self.name and one.restarts in (None, self.restarts)


def ghost_of(live: Live, now: float) -> Ghost | None:
    """The ghost that an attempt may become whose end is recorded; None if its scheduler knows of that end."""
    if live.files is None or live.files.record is None or live.files.gate is None:
        return None
    holder = live.files.gate["holder"]
    ghost = Ghost(holder["id"], live.name, holder["restarts"], live.launch.job_id, now)
    has_ended = any(ghost.is_of(one) and one.phase is Phase.ENDED for one in live.standings)
    return None if has_ended else ghost


def sort(
    ghosts: Sequence[Ghost], listing: Listing, now: float, pace: Pace
) -> tuple[Sequence[Ghost], Sequence[Ghost]]:
    """Which are to be looked at again, and which have been called alive for so long that they are laid to rest."""
    standings: dict[str, list[Standing]] = defaultdict(list)
    for one in listing.jobs:
        standings[one.id].append(one)
    again, to_rest = [], []
    for ghost in ghosts:
        phases = {one.phase for one in standings[ghost.id] if ghost.is_of(one)}
        age_s = now - ghost.since
        if listing.has_whole_queue and phases & _TAKES_ROOM and age_s >= pace.ghost_s:
            to_rest.append(ghost)
        elif (phases & _STAYS or not listing.has_whole_queue) and age_s < pace.ghost_s * _GIVEN_UP_AFTER:
            again.append(ghost)
    return again, to_rest

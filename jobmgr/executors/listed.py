"""What a listing says about each attempt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from jobmgr.dialects.dialect import Listing, Phase, Standing
from jobmgr.executors.live import Live
from jobmgr.executors.parcel import is_ours


class Listed:
    """A listing, by the names and indices under which attempts were handed in, and by the ids of runs that live.

    Under one name and index no two attempts are handed in, so what bears those of one of `lives`, all that are in hand,
    is a run of that one only. An id may be given to another job, as by a scheduler that was installed anew.
    """

    def __init__(self, listing: Listing, lives: Iterable[Live]) -> None:
        self._known = {(live.name, live.index) for live in lives}
        self._named: dict[tuple[str, int | None], list[Standing]] = defaultdict(list)
        self._alive: dict[str, list[Standing]] = defaultdict(list)
        for one in listing.jobs:
            self._named[one.name, one.index].append(one)
            if is_ours(one.name) and one.phase is not Phase.ENDED:
                self._alive[one.id].append(one)

    def of(self, live: Live) -> Sequence[Standing]:
        """The runs of an attempt. Who passed its gate holds it while it lives, under whatever name it was handed in.

        Not all such names are known: those of arrays that were parted before a restart are stored nowhere.
        """
        named = self._named.get((live.name, live.index), [])
        holders = self._alive.get(live.holder_id, [])
        return [*named, *(one for one in holders if not self._is_known(one))]

    def strange(self, live: Live) -> frozenset[str]:
        """Which of its ids are other attempts' by now."""
        own = live.name, live.index
        return frozenset(
            one.id
            for id_ in live.ids
            for one in self._alive.get(id_, [])
            if (one.name, one.index) != own and self._is_known(one)
        )

    def _is_known(self, one: Standing) -> bool:
        return (one.name, one.index) in self._known

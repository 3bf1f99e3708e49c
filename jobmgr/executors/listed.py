"""What a listing says about each attempt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from jobmgr.dialects.dialect import Listing, Phase, Standing
from jobmgr.executors.parcel import is_ours


class Listed:
    """A listing, by the names and indices under which attempts were handed in, and by the ids of runs that live."""

    def __init__(self, listing: Listing) -> None:
        self._named: dict[tuple[str, int | None], list[Standing]] = defaultdict(list)
        self._alive: dict[str, list[Standing]] = defaultdict(list)
        for one in listing.jobs:
            self._named[one.name, one.index].append(one)
            if is_ours(one.name) and one.phase is not Phase.ENDED:
                self._alive[one.id].append(one)

    def of(self, name: str, index: int | None, holder_id: str) -> Sequence[Standing]:
        """The runs of an attempt. Who passed its gate holds it while it lives, under whatever name it was handed in."""
        named = self._named.get((name, index), [])
        return [*named, *(one for one in self._alive.get(holder_id, []) if one not in named)]

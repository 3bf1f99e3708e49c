"""The attempts in this dispatcher's hands: a cache of rows it claimed, by token."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence

from jobmgr.domain.site import LOCAL
from jobmgr.store.claims import Claimed, Room
from jobmgr.store.fence import Key


class Roster:
    """Live attempts, and what they occupy. An attempt occupies until its end was seen, not until it was written."""

    def __init__(self) -> None:
        self._held: dict[str, Claimed] = {}
        self._occupying: set[str] = set()
        # What an executor said it cannot reach. What others say of our attempts while we are silent is another thing.
        self.unreachable: set[str] = set()
        # How many of either there are, by site.
        self._held_at: Counter[str] = Counter()
        self._occupying_at: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, token: str) -> bool:
        return token in self._held

    def __iter__(self) -> Iterator[Claimed]:
        return iter(list(self._held.values()))

    def add(self, claimed: Claimed) -> None:
        """Take an attempt up."""
        if claimed.token not in self._held:
            self._held_at[claimed.site] += 1
        if claimed.token not in self._occupying:
            self._occupying_at[claimed.site] += 1
        self._held[claimed.token] = claimed
        self._occupying.add(claimed.token)
        if claimed.site == LOCAL:
            self._empty.clear()

    @contextlib.contextmanager
    def handing_over(self, claimed: Sequence[Claimed]) -> Iterator[None]:
        """Take attempts up; if they cannot be handed over, let go of them.

        What is ours by its row and not in memory is taken up anew, so nothing is left in no hands.
        """
        for attempt in claimed:
            self.add(attempt)
        try:
            yield
        except BaseException:
            for attempt in claimed:
                self.drop(attempt.token)
            raise

    def get(self, token: str) -> Claimed | None:
        """The attempt with this token, if it is here."""
        return self._held.get(token)

    def free(self, token: str) -> None:
        """What the attempt occupied is free: it has ended, though that may not be written yet."""
        if token in self._occupying:
            self._occupying.discard(token)
            self._occupying_at[self._held[token].site] -= 1

    def drop(self, token: str) -> None:
        """Its end is written, or it belongs to somebody else now."""
        self.free(token)
        claimed = self._held.pop(token, None)
        if claimed is not None:
            self._held_at[claimed.site] -= 1
        self.unreachable.discard(token)
        if not self._held_at[LOCAL]:
            self._empty.set()

    async def wait_until_empty(self) -> None:
        """Wait until the end of every attempt on this machine is written; foreign queues keep theirs."""
        await self._empty.wait()

    @property
    def occupied(self) -> Room:
        """What is in use here now."""
        rows = [claimed for token in self._occupying if (claimed := self._held[token]).site == LOCAL]
        return Room(
            slots=len(rows),
            cpus=sum(row.cpus for row in rows),
            memory_bytes=sum(row.memory_bytes for row in rows),
            gpus=tuple(name for row in rows for name in row.gpus),
        )

    def count(self, site: str) -> int:
        """How many attempts occupy this site, of this machine (`local`) or in a foreign queue."""
        return self._occupying_at[site]


def key_of(claimed: Claimed) -> Key:
    """The right to write about this attempt."""
    return Key(claimed.job, claimed.number, claimed.token, claimed.lease)

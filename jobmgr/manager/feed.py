"""The event log as a stream: one reader of the database feeds everybody who follows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from itertools import chain

from jobmgr.domain.job import Event, EventPosition
from jobmgr.errors import EventsGone, StoreUnavailable
from jobmgr.store import events
from jobmgr.store.engine import Database
from jobmgr.store.transaction import Topic

logger = logging.getLogger(__name__)

_PAGE = 2000
_MOST_WAITING = 50_000
# Between two batches as long as handing one out takes about, so that events gather where many follow: a reader is
# woken once for all of them. One follower alone waits for next to nothing.
_PAUSE_PER_FOLLOWER_S = 0.0005
_LONGEST_PAUSE_S = 0.1


class _Follower:
    """One reader's unread events. One that lags too far is cut off instead of growing without bound."""

    def __init__(self) -> None:
        self.batches: list[list[Event]] = []
        self.waiting = 0
        self.is_cut_off = False
        self.wake = asyncio.Event()

    def push(self, batch: list[Event]) -> None:
        if self.waiting + len(batch) > _MOST_WAITING:
            self.is_cut_off = True
            self.batches.clear()
        elif not self.is_cut_off:
            self.batches.append(batch)
            self.waiting += len(batch)
        self.wake.set()

    def take(self) -> list[Event]:
        """All that is unread: whoever comes late reads it in one go."""
        batches, self.batches, self.waiting = self.batches, [], 0
        return batches[0] if len(batches) == 1 else list(chain.from_iterable(batches))


class Feed:
    """Follows the log only while somebody follows the feed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._followers: set[_Follower] = set()
        self._wake = asyncio.Event()
        self._seq = 0
        self._epoch = ""
        self._joining = asyncio.Lock()

    @property
    def followers(self) -> int:
        """How many readers follow now."""
        return len(self._followers)

    def notice(self, topics: frozenset[Topic]) -> None:
        """There may be new events."""
        if Topic.EVENT in topics and self._followers:
            self._wake.set()

    async def run(self) -> None:
        """Read and hand out, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                if await self._hand_out():
                    await asyncio.sleep(min(len(self._followers) * _PAUSE_PER_FOLLOWER_S, _LONGEST_PAUSE_S))
            except StoreUnavailable:
                await self._try_again()
            except Exception:  # boundary: whoever follows would wait for ever
                logger.exception("events could not be read")
                await self._try_again()

    async def _try_again(self) -> None:
        await self._database.pause()
        self._wake.set()

    async def _hand_out(self) -> bool:
        """Give all new events to all followers; whether there were any."""
        begun = self._seq
        while self._followers:
            batch = await self._database.read(events.tail, self._seq, _PAGE)
            if batch:
                self._seq = batch[-1].seq
                for follower in self._followers:
                    follower.push(batch)
            if len(batch) < _PAGE:
                break
        return self._seq != begun

    async def follow(self, after: EventPosition | None) -> AsyncIterator[list[Event]]:
        """All events after `after` (None: after now) in order, for ever, in batches.

        The first batch may be empty and says that the following has begun: what is read after it misses nothing.
        Raises EventsGone if `after` cannot be resumed, or when this reader lags too far behind.
        """
        follower = _Follower()
        joined = await self._join(follower, after)
        try:
            if after is None:
                # The feed may be behind: what it still hands out was before now.
                after = await self._database.read(events.position)
            seq = after.seq
            yield []
            while seq < joined.seq:
                missed = await self._database.read(events.tail, seq, _PAGE)
                # The rest is in the follower's own queue already.
                missed = [event for event in missed if event.seq <= joined.seq]
                if not missed:
                    break
                seq = missed[-1].seq
                yield missed
            while True:
                while follower.batches:
                    # The feed itself may still be behind a position that was read from the database.
                    yield [event for event in follower.take() if event.seq > seq]
                if follower.is_cut_off:
                    raise EventsGone("this reader is too slow", epoch=self._epoch, seq=self._seq)
                await follower.wake.wait()
                follower.wake.clear()
        finally:
            self._followers.discard(follower)

    async def _join(self, follower: _Follower, after: EventPosition | None) -> EventPosition:
        """Add a follower; answers the position from which on it is fed."""
        async with self._joining:
            if after is not None:
                await self._database.read(events.page, after, 1)
            if not self._followers:
                now = await self._database.read(events.position)
                self._epoch, self._seq = now.epoch, now.seq
            self._followers.add(follower)
            self._wake.set()
            return EventPosition(self._epoch, self._seq)

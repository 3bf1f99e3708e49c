"""The event log as a stream: one reader of the database feeds everybody who follows."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Self

from jobmgr.domain.job import Event, EventPosition
from jobmgr.errors import EventsGone, StoreUnavailable
from jobmgr.store import events
from jobmgr.store.engine import Database
from jobmgr.store.transaction import Topic

logger = logging.getLogger(__name__)

_PAGE = 2000
_MOST_WAITING = 50_000
# To hand one batch to one reader takes up to 0.1 ms of the processor, however few events are in it. So events gather
# the longer the more read, and handing out takes less than a tenth of one core. One reader alone waits for next to
# nothing, and nobody notices a quarter of a second.
_PAUSE_PER_READER_S = 0.00125
_LONGEST_PAUSE_S = 0.25


def pause_s(readers: int) -> float:
    """How long events gather, while so many read, before they are handed out again."""
    return min(readers * _PAUSE_PER_READER_S, _LONGEST_PAUSE_S)


def _one() -> int:
    return 1


class _Follower:
    """One follower's unread events. One that lags too far is cut off instead of growing without bound."""

    def __init__(self, readers: Callable[[], int]) -> None:
        self.readers = readers
        self.batches: deque[list[Event]] = deque()
        self.waiting = 0
        self.is_cut_off = False
        self.has_ended = False
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
        """The oldest batch that is unread: the very list that all followers get, so that it is worked on once."""
        batch = self.batches.popleft()
        self.waiting -= len(batch)
        return batch

    async def woken(self, within_s: float | None) -> bool:
        """Wait until there may be something to do; whether there is within this time."""
        try:
            async with asyncio.timeout(within_s):
                await self.wake.wait()
        except TimeoutError:
            return False
        self.wake.clear()
        return True


class Following:
    """Batches of events in order. Use it in `aclosing`, or to its end."""

    def __init__(self, follower: _Follower, batches: AsyncGenerator[list[Event], None]) -> None:
        self._follower = follower
        self._batches = batches

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Event]:
        return await anext(self._batches)

    def end(self) -> None:
        """Let there be no further batch."""
        self._follower.has_ended = True
        self._follower.wake.set()

    async def aclose(self) -> None:
        """Follow no longer."""
        await self._batches.aclose()


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
        """How many follow now."""
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
                    await asyncio.sleep(pause_s(sum(one.readers() for one in self._followers)))
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

    def follow(
        self,
        after: EventPosition | None,
        *,
        readers: Callable[[], int] = _one,
        beat_s: float | None = None,
        read: Callable[..., Awaitable[Any]] | None = None,
    ) -> Following:
        """All events after `after` (None: after now) in order, in batches, until the following is ended.

        The first batch is empty and says that the following has begun: what is read after it misses nothing. Another
        empty one comes after each `beat_s` without events. All who follow get the same lists: they must not be changed.
        `readers` tells for how many this one follows; by `read` the follower reads what was before.
        Raises EventsGone first if `after` cannot be resumed, later if this reader lags too far behind.
        """
        follower = _Follower(readers)
        return Following(follower, self._batches(follower, after, beat_s, read or self._database.read))

    async def _batches(
        self,
        follower: _Follower,
        after: EventPosition | None,
        beat_s: float | None,
        read: Callable[..., Awaitable[Any]],
    ) -> AsyncGenerator[list[Event], None]:
        joined = await self._join(follower, after)
        try:
            if after is None:
                # The feed may be behind: what it still hands out was before now.
                after = await self._database.read(events.position)
            seq = after.seq
            yield []
            while seq < joined.seq:
                missed: list[Event] = await read(events.tail, seq, _PAGE)
                # The rest is in the follower's own queue already.
                missed = [event for event in missed if event.seq <= joined.seq]
                if not missed:
                    break
                seq = missed[-1].seq
                yield missed
            while not follower.has_ended:
                if follower.batches:
                    if batch := _after(seq, follower.take()):
                        yield batch
                elif follower.is_cut_off:
                    raise EventsGone("this reader is too slow", epoch=self._epoch, seq=self._seq)
                elif not await follower.woken(beat_s):
                    yield []
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


def _after(seq: int, batch: list[Event]) -> list[Event]:
    # The feed itself may still be behind a position that was read from the database.
    return batch if batch[0].seq > seq else [event for event in batch if event.seq > seq]

"""The event log as it grows, until somebody says stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from jobmgr.domain.job import Event, EventPosition
from jobmgr.manager.manager import Manager


async def feed(
    manager: Manager, after: EventPosition, stop: asyncio.Event, beat_s: float
) -> AsyncGenerator[Sequence[Event], None]:
    """Batches of the events after `after` until `stop` is set; an empty one after each `beat_s` without any.

    The first one is empty and says that the following has begun. Use it in `aclosing`.
    Raises EventsGone first if `after` cannot be followed, later if the reader lagged too far behind.
    """
    batches = manager.follow(after)
    stopped = asyncio.create_task(stop.wait())
    upcoming: asyncio.Task[Sequence[Event] | None] | None = None
    seen = after.seq
    try:
        yield await anext(batches)
        while True:
            upcoming = upcoming or asyncio.create_task(_next(batches))
            await asyncio.wait({upcoming, stopped}, timeout=beat_s, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                return
            if not upcoming.done():
                yield []
                continue
            batch, upcoming = upcoming.result(), None
            if batch is None:
                return
            # A reader who came from a position ahead of the other readers gets some of its past again.
            fresh = [event for event in batch if event.seq > seen]
            if fresh:
                seen = fresh[-1].seq
                yield fresh
    finally:
        tasks = [stopped] if upcoming is None else [stopped, upcoming]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if isinstance(batches, AsyncGenerator):
            await batches.aclose()


async def _next(batches: AsyncIterator[Sequence[Event]]) -> Sequence[Event] | None:
    return await anext(batches, None)

"""The event log as it grows, until somebody says stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

from jobmgr.domain.job import Event, EventPosition
from jobmgr.manager.manager import Manager


async def feed(
    manager: Manager,
    after: EventPosition,
    stop: asyncio.Event,
    beat_s: float,
    readers: Callable[[], int] = lambda: 1,
) -> AsyncGenerator[Sequence[Event], None]:
    """Batches of the events after `after` until `stop` is set; an empty one after each `beat_s` without any.

    The first one is empty and says that the following has begun. Use it in `aclosing`. `readers` tells for how many
    it is followed.
    Raises EventsGone first if `after` cannot be followed, later if the reader lagged too far behind.
    """
    batches = manager.follow(after, readers)
    stopped = asyncio.create_task(stop.wait())
    upcoming: asyncio.Task[Sequence[Event] | None] | None = None
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
            yield batch
    finally:
        tasks = [stopped] if upcoming is None else [stopped, upcoming]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if isinstance(batches, AsyncGenerator):
            await batches.aclose()


async def _next(batches: AsyncIterator[Sequence[Event]]) -> Sequence[Event] | None:
    return await anext(batches, None)

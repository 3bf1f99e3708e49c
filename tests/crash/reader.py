"""A reader of the event log as any program is one: pages with `after=N`, over all lives of the service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

import aiohttp

from tests.crash.record import Row
from tests.crash.service import Service

_PAUSE_S = 0.1


class Reader:
    """What one reader was given, in the order in which it was."""

    def __init__(self, service: Service, page_size: int = 200) -> None:
        self.seen: list[tuple[int, str]] = []  # number and kind
        self._service = service
        self._page_size = page_size

    async def read_on(self) -> None:
        """Read pages until one is empty. Raises aiohttp.ClientError, and TimeoutError."""
        timeout = aiohttp.ClientTimeout(total=10.0)
        async with aiohttp.ClientSession(self._service.url, timeout=timeout) as session:
            while True:
                after = self.seen[-1][0] if self.seen else 0
                query = {"after": str(after), "limit": str(self._page_size)}
                async with session.get("/api/v1/events", params=query) as response:
                    response.raise_for_status()
                    events = (await response.json())["events"]
                if not events:
                    return
                self.seen += [(event["seq"], event["kind"]) for event in events]

    async def read_forever(self) -> None:
        """Read while others write and the service comes and goes."""
        while True:
            if self._service.url:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                    await self.read_on()
            await asyncio.sleep(_PAUSE_S)

    def compare(self, events: Sequence[Row]) -> Iterator[str]:
        """What it missed, or was given twice or in another order than that of the log."""
        stored = [(event.seq, event.kind) for event in events]
        if self.seen != stored:
            missed = [one for one in stored if one not in set(self.seen)]
            yield (
                f"a reader of the event log saw {len(self.seen)} of {len(stored)} events, missed {missed[:5]}, "
                f"in order: {self.seen == sorted(self.seen)}"
            )

"""A pause that somebody may end."""

from __future__ import annotations

import asyncio
import contextlib


async def until(event: asyncio.Event, timeout_s: float | None) -> None:
    """Wait for `event`, but no longer than that."""
    # Not asyncio.wait_for: on Python 3.11 it swallows a cancellation that comes together with the event.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()

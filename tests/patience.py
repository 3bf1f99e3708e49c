"""Waiting in tests: for what must become true, with a bound."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

TIMEOUT_S = 30.0


async def eventually(look: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
    """The first true answer of `look`, which may be a coroutine function; fails the test if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = look()
        found = await answer if inspect.isawaitable(answer) else answer
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s, last answer: {found!r}"
        await asyncio.sleep(0.01)


async def is_ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other side has ended this connection, after what it may have sent before."""
    try:
        async with asyncio.timeout(0.2):
            await reader.read()
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True

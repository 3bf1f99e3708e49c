"""Waiting in tests: for what must become true, with a bound."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

TIMEOUT_S = 30.0


async def eventually(look: Callable[[], T | Awaitable[T]], timeout_s: float = TIMEOUT_S) -> T:
    """The first true answer of `look`; fails the test if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = look()
        found = await answer if inspect.isawaitable(answer) else answer
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s, last answer: {found!r}"
        await asyncio.sleep(0.01)

"""What comes in quick succession, dealt with together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Gathering(Generic[T]):
    """Hands on what was added within `within_s` of the first of it, which is asked then."""

    def __init__(self, within_s: Callable[[], float], hand_on: Callable[[Sequence[T]], None]) -> None:
        self._within_s = within_s
        self._hand_on = hand_on
        self._items: list[T] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, items: Iterable[T]) -> None:
        """Let these go with the others."""
        self._items += items
        if self._items and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._within_s(), self._end)

    def drop(self) -> None:
        """Hand nothing on any more."""
        self._items.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        items, self._items, self._timer = self._items, [], None
        self._hand_on(items)

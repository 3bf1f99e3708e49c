"""Logs that are read while they are written: each piece once, however often somebody asks how far a run is."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

from jobmgr.errors import JobmgrError
from jobmgr.hfss.log import LogReader, job_named
from jobmgr.transports.directory import RunFile

# How old an answer from a site may be.
KEEP_S = 1.0
_WINDOW_BYTES = 1024**2
# More is read when somebody asks again: nobody waits for a log without end.
_WINDOWS = 64
_HEAD_BYTES = 4096
_MOST_READINGS = 256

# A job's id, and when it was made: an id alone may be that of one that was deleted, and somebody else's.
JobKey: TypeAlias = tuple[str, datetime]

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class Reading:
    """One log, and how far it was read."""

    def __init__(self) -> None:
        self.reader = LogReader()
        self.job: str | None = None
        self._head = b""
        self._offset = 0
        self._turn = asyncio.Lock()

    async def read_on(self, file: RunFile, windows: int = _WINDOWS) -> None:
        """Read what has been written since. Raises as `RunFile.read`."""
        async with self._turn:
            for _ in range(windows):
                window = await file.read(self._offset, _WINDOW_BYTES)
                if window.size_bytes < self._offset:
                    # Another file lies there now.
                    self.reader, self._head, self._offset = LogReader(), b"", 0
                    continue
                if not window.data:
                    return
                self._offset = window.end
                # A megabyte takes long enough to keep others waiting.
                await asyncio.to_thread(self._take, window.data)

    def _take(self, data: bytes) -> None:
        if len(self._head) < _HEAD_BYTES:
            self._head += data[: _HEAD_BYTES - len(self._head)]
            self.job = job_named(self._head)
        self.reader.feed(data)


@dataclass(slots=True)
class _Look:
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    seen: Any = None
    trouble: JobmgrError | None = None
    seen_at: float = float("-inf")


class Readings:
    """The logs that were asked for lately."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._readings: OrderedDict[tuple[JobKey, int, str], Reading] = OrderedDict()
        self._looks: OrderedDict[tuple[JobKey, int], _Look] = OrderedDict()

    def of(self, job: JobKey, attempt: int, path: str) -> Reading:
        """That of a log for an attempt; a new one if it was not asked for lately."""
        return _kept(self._readings, (job, attempt, path), Reading)

    async def lately(self, job: JobKey, v: int, look: Callable[[], Awaitable[T]]) -> T:
        """What `look` answers or raises, or did a moment ago: many who watch a site are one question.

        `v` is the version of the job: what was seen before its end is not what is seen after it.
        """
        entry = _kept(self._looks, (job, v), _Look)
        async with entry.turn:
            if self._monotonic() >= entry.seen_at + KEEP_S:
                entry.trouble = None
                try:
                    entry.seen = await look()
                except JobmgrError as error:
                    # Kept, too: else all who wait for a site that is gone would wait out its timeout one by one.
                    entry.trouble = error
                entry.seen_at = self._monotonic()
            if entry.trouble is not None:
                raise entry.trouble.with_traceback(None)
            seen: T = entry.seen
            return seen


def _kept(among: OrderedDict[K, V], key: K, make: Callable[[], V]) -> V:
    """The value of a key; that which was not asked for longest makes room."""
    found = among.get(key)
    if found is None:
        found = among[key] = make()
    among.move_to_end(key)
    if len(among) > _MOST_READINGS:
        among.popitem(last=False)
    return found

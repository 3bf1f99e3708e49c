"""The attempts that have left something in a work directory, and how much."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobmgr.executors import gate


@dataclass(frozen=True, slots=True)
class Found:
    """Directories of attempts, by job id and number; `is_cut` if time or room were up before all were seen."""

    attempts: frozenset[tuple[str, int]]
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Extent:
    """How many files, and bytes on disk; at least so many if `is_cut`."""

    files: int
    size_bytes: int
    is_cut: bool = False


class Budget:
    """How long and how far a look may go; without limits it is never used up."""

    def __init__(self, entries: int | None = None, limit_s: float | None = None) -> None:
        self._entries = entries
        self._deadline = None if limit_s is None else time.monotonic() + limit_s
        self.is_used_up = False

    def spend(self) -> bool:
        """Count one entry; False if there is no more to spend."""
        if self._entries is not None:
            self._entries -= 1
        late = self._deadline is not None and time.monotonic() > self._deadline
        self.is_used_up = self.is_used_up or late or (self._entries is not None and self._entries < 0)
        return not self.is_used_up


def scan(root: Path, budget: Budget) -> Found:
    """The attempts with a directory `root/<job id>/<number>`. Raises OSError if `root` may not be read."""
    found = set()
    for job in _directories(str(root)):
        if not budget.spend():
            break
        for attempt in _directories(job.path):
            if attempt.name.isdecimal():
                found.add((job.name, int(attempt.name)))
    return Found(frozenset(found), budget.is_used_up)


def measure(root: Path, attempts: frozenset[tuple[str, int]], budget: Budget) -> Extent:
    """What these attempts take up below `root`; what may not be read counts as nothing."""
    files = size_bytes = 0
    for job_id, number in sorted(attempts):
        for blocks in _blocks(str(root / job_id / str(number))):
            files, size_bytes = files + 1, size_bytes + blocks * 512
            if not budget.spend():
                return Extent(files, size_bytes, is_cut=True)
    return Extent(files, size_bytes)


def forget(control: str, token: str) -> None:
    """Remove the control directory of an attempt that is over and deleted, unless it is another's by now.

    Moved first, so that nobody ever sees half of it. What cannot be removed, or is not understood, is left.
    """
    with contextlib.suppress(OSError, gate.OtherToken, gate.ControlFileGarbled):
        gate.check_token(control, token)
        moved = f"{control}.{os.urandom(8).hex()}.deleted"
        os.rename(control, moved)
        shutil.rmtree(moved, ignore_errors=True)


def _directories(path: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            yield from (entry for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return  # Not made yet, or removed this moment.


def _blocks(root: str) -> Iterator[int]:
    for directory, _, names in os.walk(root):
        for name in names:
            try:
                yield os.lstat(os.path.join(directory, name)).st_blocks
            except OSError:
                continue

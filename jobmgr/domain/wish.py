"""What a foreign queue is to be told of an attempt that waits or runs there.

`v` is the version of the job that said so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hold:
    """Whether it is to be held there."""

    is_held: bool
    v: int


@dataclass(frozen=True, slots=True)
class Rank:
    """Its job's priority, by which it goes before or after others of the same user."""

    priority: int
    v: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Whether the processes of one that runs are to be stopped there. What came of it is seen, so it has no version."""

    is_paused: bool


# Those that are stored until they were taken.
Stored = Hold | Rank
Wished = Stored | Pause

"""What a foreign queue is to be told of an attempt that waits there. `v` is the version of the job that said so."""

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


Wished = Hold | Rank

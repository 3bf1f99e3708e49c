"""A queue: a named line of jobs with a limit, which can be paused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from jobmgr.domain.status import Status

# The one that there always is.
DEFAULT_QUEUE = "default"


class Tally(StrEnum):
    """What is counted per queue. All live statuses count as one, because limits are about them together."""

    PENDING = "pending"
    QUEUED = "queued"
    LIVE = "live"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @classmethod
    def of(cls, status: Status) -> Tally:
        """The tally that a job of this status counts in."""
        return cls.LIVE if status.is_live else cls(status.value)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue and how many of its jobs are where. `max_running` None: no limit of its own."""

    name: str
    paused: bool
    max_running: int | None
    counts: Mapping[Tally, int]


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many queued jobs there are of each priority, and how many run on this machine, of `slots`."""

    by_priority: Mapping[int, int]
    running: int
    slots: int

    @property
    def queued(self) -> int:
        """Of all priorities."""
        return sum(self.by_priority.values())

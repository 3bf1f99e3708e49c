"""The statuses of a job and the one table of legal transitions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum


class Status(StrEnum):
    """Where a job is. `pending` waits for something, `queued` only for a slot; see docs/architecture.md."""

    PENDING = "pending"
    QUEUED = "queued"
    CLAIMED = "claimed"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended (only a user's retry or a late proof changes it again)."""
        return self in TERMINAL

    @property
    def is_live(self) -> bool:
        """Whether an attempt of the job is in somebody's hands."""
        return self in LIVE


WAITING = frozenset({Status.PENDING, Status.QUEUED})
UNSTARTED = frozenset({Status.CLAIMED, Status.SCHEDULED})
STARTED = frozenset({Status.RUNNING, Status.PAUSED})
LIVE = UNSTARTED | STARTED
# Those whose priority still decides when they start.
RANKED = frozenset({Status.PENDING, Status.QUEUED, Status.SCHEDULED})
TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.QUEUED, *TERMINAL}),
    Status.QUEUED: frozenset({Status.PENDING, Status.CLAIMED, *TERMINAL}),
    # A fast job may end before its start was recorded, so every live status may end.
    Status.CLAIMED: frozenset({Status.SCHEDULED, Status.RUNNING, *WAITING, *TERMINAL}),
    Status.SCHEDULED: frozenset({Status.RUNNING, *WAITING, *TERMINAL}),
    Status.RUNNING: frozenset({Status.PAUSED, *WAITING, *TERMINAL}),
    # A paused command can be killed, and a resumed one may end before that was recorded: then it is tried again.
    Status.PAUSED: frozenset({Status.RUNNING, *WAITING, *TERMINAL}),
    # Terminal to waiting only by a user's retry; failed (lost) to its true end by a later exit record.
    Status.COMPLETED: WAITING,
    Status.FAILED: frozenset({*WAITING, *TERMINAL}),
    Status.CANCELLED: WAITING,
}


def may_follow(old: Status, new: Status) -> bool:
    """Whether a job may go from `old` to `new`."""
    return new in TRANSITIONS[old]


def waiting_status(
    *, draft: bool, held_at: datetime | None, due_at: datetime | None, deps_left: int, now: datetime
) -> Status:
    """The status of a job that nobody has claimed: `pending` while anything holds it back, else `queued`."""
    waits = draft or held_at is not None or deps_left > 0 or (due_at is not None and due_at > now)
    return Status.PENDING if waits else Status.QUEUED

"""The seven words that pyedb's job manager has for where a job is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from jobmgr.domain.status import Status


class JobStatus(StrEnum):
    """Where a job is; equal to its word. `pending` waits for a time, other jobs or a user, `queued` for its turn."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SCHEDULED = "scheduled"
    QUEUED = "queued"

    @classmethod
    def of(cls, status: Status) -> JobStatus:
        """The word for one of ours, of which there are more."""
        return WORDS[status]


# By our own word, which a status is equal to.
WORDS: Mapping[str, JobStatus] = {
    Status.PENDING: JobStatus.PENDING,
    Status.QUEUED: JobStatus.QUEUED,
    # Taken, but neither started nor in a scheduler's hands.
    Status.CLAIMED: JobStatus.QUEUED,
    Status.SCHEDULED: JobStatus.SCHEDULED,
    Status.RUNNING: JobStatus.RUNNING,
    # It has started and has not ended, and who asks knows no other word for that.
    Status.PAUSED: JobStatus.RUNNING,
    Status.COMPLETED: JobStatus.COMPLETED,
    Status.FAILED: JobStatus.FAILED,
    Status.CANCELLED: JobStatus.CANCELLED,
}

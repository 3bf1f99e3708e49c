"""Which Socket.IO messages an event of the log becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobmgr.api.frames import Message
from jobmgr.domain.job import Event, Job
from jobmgr.domain.status import Status
from jobmgr.wire.translation import moment_text

# Changes after which a job may stand in its queue anew; other events of a queued job only repeat its status.
_ENQUEUING = frozenset({"submitted", "queued", "released", "unheld", "retrying"})


def enqueues(event: Event) -> bool:
    """Whether the event put a job into its queue."""
    return event.kind in _ENQUEUING and event.data.get("status") == Status.QUEUED


def message(event: Event, jobs: Mapping[str, Job], queued: int) -> Message | None:
    """The message for `event`, None for an event that has none.

    `jobs` are those that the batch put into their queues, `queued` how many are queued now. The names are those
    of the reference, with what it sends and more.
    """
    data = event.data
    if event.kind == "limits_updated":
        return "limits_updated", {"old_limits": data.get("old_limits"), "new_limits": data.get("new_limits")}
    if event.job_id is None:
        return None
    if enqueues(event):
        return "job_queued", _queued(event, jobs.get(event.job_id), queued)
    about = {"job_id": event.job_id, "status": data.get("status")}
    if event.kind == "started":
        started_at = data.get("started_at") or moment_text(event.at)
        return "job_started", {**about, "start_time": started_at, "scheduler_job_id": data.get("handle")}
    if event.kind == "scheduled":
        return "job_scheduled", {**about, "scheduler_job_id": data.get("handle")}
    if event.kind in ("completed", "failed", "cancelled"):
        ended = {
            **about,
            "end_time": data.get("finished_at") or moment_text(event.at),
            "return_code": data.get("exit_code"),
            "error": data.get("error"),
        }
        return ("job_cancelled" if event.kind == "cancelled" else "job_completed"), ended
    return None


def _queued(event: Event, job: Job | None, queued: int) -> dict[str, Any]:
    shown = {
        "job_id": event.job_id,
        "status": "queued",
        "priority": job.priority if job else None,
        "name": job.name if job else None,
        "queue": job.queue if job else None,
        "queue_position": queued,
    }
    return shown | {name: event.data[name] for name in ("priority", "name", "queue") if name in event.data}

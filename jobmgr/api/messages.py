"""Which Socket.IO messages an event of the log becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobmgr.api.frames import Message
from jobmgr.domain.job import Event, Job
from jobmgr.domain.status import RANKED, Status
from jobmgr.wire.translation import moment_text

# Changes after which a job may stand in its queue anew; other events of a queued job only repeat its status.
_ENQUEUING = frozenset({"submitted", "queued", "released", "unheld", "retrying"})


def enqueues(event: Event) -> bool:
    """Whether the event put a job into its queue."""
    return event.kind in _ENQUEUING and event.data.get("status") == Status.QUEUED


def starts(event: Event) -> bool:
    """Whether the event is the start of a job."""
    return event.kind == "started"


def message(event: Event, jobs: Mapping[str, Job], queued: int, resources: object) -> Message | None:
    """The message for `event`, None for an event that has none.

    `jobs` are those that the batch put into their queues, `queued` how many are queued now, `resources` what the
    machine has. The names are those of the reference, with what it sends and more.
    """
    data = event.data
    if event.kind == "limits_updated":
        return "limits_updated", {"old_limits": data.get("old_limits"), "new_limits": data.get("new_limits")}
    if event.job_id is None:
        return None
    if enqueues(event):
        return "job_queued", _queued(event, jobs.get(event.job_id), queued)
    name = _NAMES.get(event.kind)
    if name is None:
        return None
    return name, {"job_id": event.job_id, "status": data.get("status"), **_details(event, resources)}


_NAMES = {
    "started": "job_started",
    "scheduled": "job_scheduled",
    "completed": "job_completed",
    "failed": "job_completed",
    "cancelled": "job_cancelled",
    "cancel_requested": "job_cancelling",
    "priority": "job_priority",
}


def _details(event: Event, resources: object) -> dict[str, Any]:
    data = event.data
    match event.kind:
        case "started":
            return {
                "start_time": _moment(data.get("started_at"), event),
                "scheduler_job_id": _scheduler_id(data.get("handle")),
                "resources": resources,
            }
        case "scheduled":
            return {"scheduler_job_id": data.get("handle")}
        case "completed" | "failed" | "cancelled":
            return {
                "scheduler_job_id": _scheduler_id(data.get("handle")),
                "end_time": _moment(data.get("finished_at"), event),
                "return_code": data.get("exit_code"),
                "error": data.get("error"),
            }
        case "priority":
            # Who has started is where it wanted to be.
            return {"priority": data.get("priority"), "effective": data.get("status") in RANKED}
        case _:
            return {}


def _moment(text: str | None, event: Event) -> str:
    # `Z` is not understood by `datetime.fromisoformat` of Python 3.10.
    return f"{(text or moment_text(event.at))[:-1]}+00:00"


def _scheduler_id(handle: str | None) -> str | None:
    """The id that a scheduler gave; none for a process of this machine (`pid@boot:start`)."""
    return None if handle is None or "@" in handle else handle


def _queued(event: Event, job: Job | None, queued: int) -> dict[str, Any]:
    shown = {
        "job_id": event.job_id,
        "status": "queued",
        "priority": job.priority if job else None,
        "name": job.name if job else None,
        "queue": job.queue if job else None,
        # With itself, also if it has left again by now.
        "queue_position": max(queued, 1),
    }
    return shown | {name: event.data[name] for name in ("priority", "name", "queue") if name in event.data}

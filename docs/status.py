#!/usr/bin/env python3
"""Prints docs/status.md from the tables in the code: `python docs/status.py > docs/status.md`."""

from __future__ import annotations

import sys

from jobmgr.domain.queue import Tally
from jobmgr.domain.status import TRANSITIONS, Status

_MEANING = {
    Status.PENDING: "waits for something: it is a draft, held, not due yet, or depends on other jobs",
    Status.QUEUED: "waits for a slot only",
    Status.CLAIMED: "a dispatcher has taken it; its command may run at any moment",
    Status.SCHEDULED: "stands in the queue of a batch scheduler; `held_at` says since when it is to be held there",
    Status.RUNNING: "its gate was seen passed: the command runs",
    Status.PAUSED: "its processes were seen stopped; it keeps its slot, and its walltime stands still",
    Status.COMPLETED: "ended with an exit code that counts as success, and left the files it has to",
    Status.FAILED: "ended otherwise, could not be started, or is lost; `error` says which",
    Status.CANCELLED: "ended on request, or can never run because of what it depends on",
}
_HEAD = """\
# Statuses

Printed by `docs/status.py` from `jobmgr/domain/status.py`. What each transition takes is in
[architecture.md](architecture.md).

| status | meaning | counted in its queue as | may be followed by |
| --- | --- | --- | --- |
"""
_TAIL = """
An end is followed by `pending` or `queued` only when somebody asks for a retry. `failed` may become another end when
an attempt was taken for lost and its exit record is found later; nothing looks for that yet.
"""


def text() -> str:
    """The page."""
    return _HEAD + "".join(f"{_row(status)}\n" for status in Status) + _TAIL


def _row(status: Status) -> str:
    followers = ", ".join(f"`{other}`" for other in Status if other in TRANSITIONS[status])
    return f"| `{status}` | {_MEANING[status]} | `{Tally.of(status)}` | {followers} |"


if __name__ == "__main__":
    sys.stdout.write(text())

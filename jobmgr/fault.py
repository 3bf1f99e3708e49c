"""Fault points: named steps, one between every two effects of the walk of a job, at which a test stops a process.

They are off unless JOBMGR_FAULTS names a directory when the process starts. Then the first process that reaches
a step for which that directory holds a file of this name takes the file (renames it to `<step>.<pid>`) and stops
itself (SIGSTOP). Whoever made the file sees the renamed one and does what he likes: kills that process or others,
lets it go on. Keepers and wardens get the variable from the service; commands never do.
"""

from __future__ import annotations

import os
import signal
from typing import Final

VARIABLE: Final = "JOBMGR_FAULTS"

# In the order of a job's walk; the first word says whose code it is. A step that is reached and not listed here is
# an error as soon as faults are on, so a test that goes through the list goes through all of them.
STEPS: Final = (
    # The service writes. `committing`: all statements are done, the COMMIT is not; `committed`: nobody was told yet.
    "submissions.insert:committing", "submissions.insert:committed",
    "claims.claim:committing", "claims.claim:committed",
    "attempts.start:committing", "attempts.start:committed",
    "attempts.finish:committing", "attempts.finish:committed",
    "jobs.cancel:committing", "jobs.cancel:committed",
    "jobs.retry:committing", "jobs.retry:committed",
    "jobs.pause:committing", "jobs.pause:committed",
    "attempts.turn:committing", "attempts.turn:committed",
    "waiting.promote_due:committing", "waiting.promote_due:committed",
    "ownership.adopt:committing", "ownership.adopt:committed",
    "dispatchers.register:committing", "dispatchers.register:committed",
    # The service hands an attempt over, ends it, finds it again.
    "control.made", "control.named", "launch.prepared", "launch.manned", "launch.handed_over",
    "cancel.voided", "recovery.looked", "pursuit.attached",
    # Whoever decides a gate: a keeper to run, the service to void.
    "gate.written", "gate.linked",
    # The keeper.
    "keeper.assigned", "keeper.reserved", "keeper.opened", "keeper.passed", "keeper.spawned", "keeper.noted",
    "keeper.told_start", "hold.stopping", "hold.continuing", "hold.pressed", "hold.left", "hold.reaped",
    "hold.emptying", "exit.written", "exit.linked", "keeper.told_end",
    # The warden.
    "warden.forked", "warden.bereaved", "warden.took_over",
)  # fmt: skip

_directory = os.environ.get(VARIABLE)
is_on: Final = bool(_directory)


def environment() -> dict[str, str]:
    """What a process that is started needs to have the same faults."""
    return {VARIABLE: _directory} if _directory else {}


def _reach(step: str) -> None:
    if step not in STEPS:
        raise AssertionError(f"the fault point {step!r} is not listed in {__name__}.STEPS")
    waiting = f"{_directory}/{step}"
    try:
        os.rename(waiting, f"{waiting}.{os.getpid()}")
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGSTOP)


def _pass(_step: str) -> None:
    pass


# One name, so that a fault point costs a call of an empty function when faults are off.
reach = _reach if _directory else _pass

"""Making a process give way to all others, as docs/scaling.md recommends for reports beside the load."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_LOWEST = 19


def give_way(pid: int) -> None:
    """Let process `pid` of this machine have only what all others leave. Raises OSError if it is not ours to change.

    It must lead a session of its own.
    """
    os.setpriority(os.PRIO_PROCESS, pid, _LOWEST)
    # Where Linux gives each session the same share, a process yields only to others of its own session: the session
    # itself has to yield too. Source: sched(7), "The autogroup feature". Kernels without it have no such file.
    with contextlib.suppress(FileNotFoundError):
        Path(f"/proc/{pid}/autogroup").write_text(str(_LOWEST))

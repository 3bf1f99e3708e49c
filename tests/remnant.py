"""What a service may leave behind and what it may not: the processes of one work directory."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from jobmgr.executors import process


def keepers(work: Path) -> list[int]:
    """The living keepers and wardens of a work directory; they end by themselves when nothing runs."""
    found = []
    for stat in process.living_processes():
        try:
            arguments = Path(f"/proc/{stat.pid}/cmdline").read_bytes()
            log = os.readlink(f"/proc/{stat.pid}/fd/2")
        except OSError:
            continue
        if b"jobmgr.executors" in arguments and Path(log).parent == work:
            found.append(stat.pid)
    return found


def commands(work: Path) -> list[process.ProcessStat]:
    """The living processes of jobs of a work directory."""
    mark = b"JOBMGR_RUN_DIR=" + os.fsencode(work) + b"/"
    return [stat for stat in process.living_processes() if mark in _environment(stat.pid)]


def arguments(pid: int) -> bytes:
    """The command line of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return b""


def kill(stats: list[process.ProcessStat]) -> None:
    """End these processes, each by its own id and start time."""
    process.send_signals(stats, signal.SIGCONT, signal.SIGKILL)


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""

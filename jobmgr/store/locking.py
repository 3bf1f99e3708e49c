"""Whether the locks that a database file needs hold on its file system, and who holds SQLite's."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# What SQLite locks with, and what `FileLock` does.
_KINDS: dict[str, Callable[[int, int], object]] = {"fcntl": fcntl.lockf, "flock": fcntl.flock}
_PROBE_TIMEOUT_S = 10.0
_OTHER = """
import fcntl, sys
with open(sys.argv[2], "r+b") as file:
    try:
        {"fcntl": fcntl.lockf, "flock": fcntl.flock}[sys.argv[1]](file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(0)
sys.exit(3)
"""

# Source: sqlite.org/walformat.html ("WAL locks") and os.h (PENDING_BYTE): who writes locks this byte of `-shm`, who
# uses the file at all these of the file itself.
_WRITER = (120, 1)
_USERS = (0x40000000, 512)
_LOCK_FORMAT = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, pid
_LOOK_EVERY_S = 0.05


def failures(directory: Path) -> tuple[str, ...]:
    """The kinds of locks that do not keep another process out, tried on a file of our own in `directory`.

    Takes some 50 ms. Raises OSError if no file can be made there or if it knows no locks at all, and
    subprocess.TimeoutExpired if a lock hangs, as on a network file system without its lock service.
    """
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".jobmgr-doctor-") as file:
        return tuple(
            kind for kind, lock in _KINDS.items() if not _excludes(kind, lock, file.fileno(), file.name)
        )


def _excludes(kind: str, lock: Callable[[int, int], object], descriptor: int, name: str) -> bool:
    lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        # Another process, because a process never shuts itself out with fcntl's.
        argv = [sys.executable, "-I", "-S", "-c", _OTHER, kind, name]
        done = subprocess.run(argv, timeout=_PROBE_TIMEOUT_S, capture_output=True, check=False)
    finally:
        lock(descriptor, fcntl.LOCK_UN)
    if done.returncode not in (0, 3):
        raise OSError(f"the second process failed: {done.stderr.decode(errors='replace').strip()}")
    return done.returncode == 0


def writer(database: Path, patience_s: float) -> int | None:
    """The process that kept SQLite's write lock for all of `patience_s`; None as soon as it is free.

    Not while this process has the database open: closing the second descriptor would drop its locks.
    """
    deadline = time.monotonic() + patience_s
    while (pid := _holder(database.with_name(database.name + "-shm"), _WRITER)) is not None:
        if time.monotonic() >= deadline:
            return pid
        time.sleep(_LOOK_EVERY_S)
    return None


def occupant(database: Path) -> int | None:
    """A process that keeps all others out of the file. The same condition as for `writer` holds."""
    return _holder(database, _USERS, fcntl.F_RDLCK)


def _holder(path: Path, span: tuple[int, int], kind: int = fcntl.F_WRLCK) -> int | None:
    question = struct.pack(_LOCK_FORMAT, kind, os.SEEK_SET, *span, 0)
    with contextlib.suppress(OSError), path.open("rb") as file:
        answer = struct.unpack(_LOCK_FORMAT, fcntl.fcntl(file.fileno(), fcntl.F_GETLK, question))
        return None if answer[0] == fcntl.F_UNLCK else int(answer[4])
    return None

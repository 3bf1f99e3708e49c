"""One dispatcher per SQLite file: an advisory lock beside it. Other programs may read and write all the same."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from jobmgr.errors import DatabaseInUse, StoreError


def make_file(database: Path) -> None:
    """Make the file of a database if there is none. Commands and environments are the owner's alone.

    SQLite gives its other files the same mode. A file that exists is never opened: closing it again would drop the
    POSIX locks that this process, in which another manager may run, has on it, and with them SQLite's protection.
    """
    with contextlib.suppress(FileExistsError):
        # Resolved, because with O_EXCL a link that leads nowhere yet would count as a file.
        flags = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(database.resolve(), flags, 0o600))


class FileLock:
    """Held from `acquire` until `release` or the end of this process, however it ends."""

    def __init__(self, database: Path) -> None:
        # Whatever links lead to it: SQLite keeps its log beside the file itself, and so do we the lock.
        self._database = database.resolve()
        self._path = self._database.with_name(self._database.name + ".lock")
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises DatabaseInUse naming the process that has it."""
        try:
            self._database.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "?"
            os.close(descriptor)
            raise DatabaseInUse(
                f"another jobmgr service (process {holder}) already serves {self._database}; "
                "stop it, or name another database: with --database, or in Python with database=..."
            ) from None
        try:
            make_file(self._database)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except OSError as error:
            os.close(descriptor)
            raise _unwritable(error) from error
        self._file = descriptor

    def release(self) -> None:
        """Give the lock back. The file stays: removing it would let two services lock two files."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _unwritable(error: OSError) -> StoreError:
    return StoreError(f"cannot write beside the database: {error}; make its directory writable")

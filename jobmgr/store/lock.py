"""One dispatcher per SQLite file: an advisory lock beside it. Other programs may read and write all the same."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from jobmgr.errors import DatabaseInUse, StoreError


def make_file(database: Path) -> None:
    """Make the file of a database if there is none. Commands and environments are the owner's alone.

    SQLite gives its other files the same mode.
    """
    os.close(os.open(database, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


class FileLock:
    """Held from `acquire` until `release` or the end of this process, however it ends."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = database.with_name(database.name + ".lock")
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises DatabaseInUse naming the process that has it."""
        try:
            self._database.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            make_file(self._database)
        except OSError as error:
            raise StoreError(
                f"cannot write beside the database: {error}; make its directory writable"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "?"
            os.close(descriptor)
            raise DatabaseInUse(
                f"another jobmgr service (process {holder}) already serves {self._database}; "
                "stop it, or name another database: with --database, or in Python with database=..."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._file = descriptor

    def release(self) -> None:
        """Give the lock back. The file stays: removing it would let two services lock two files."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

"""One dispatcher per SQLite file: an advisory lock beside it. Other programs may read and write all the same."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import weakref
from pathlib import Path

from jobmgr.errors import DatabaseInUse, StoreError

# A process and a URL, whose host name may have 253 characters.
_MOST_SAID = 512


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
        os.register_at_fork(after_in_child=functools.partial(_leave_to_parent, weakref.ref(self)))

    def acquire(self) -> None:
        """Take the lock. Raises DatabaseInUse naming the process that has it."""
        try:
            self._database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder, url = _said(descriptor)
            os.close(descriptor)
            raise DatabaseInUse(
                f"another jobmgr service (process {holder}) already serves {self._database}; "
                "stop it, or name another database where this one was named, or in JOBMGR_DATABASE",
                url,
            ) from None
        try:
            make_file(self._database)
            _say(descriptor, None)
        except OSError as error:
            os.close(descriptor)
            raise _unwritable(error) from error
        self._file = descriptor

    def tell(self, url: str | None) -> None:
        """Say to those who find the lock taken where its holder answers; None: nowhere any more."""
        if self._file is not None:
            _say(self._file, url)

    def release(self) -> None:
        """Give the lock back. The file stays: removing it would let two services lock two files."""
        if self._file is not None:
            # A program that is just being started has the descriptor, too, for a moment.
            fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)
            self._file = None

    def leave_to_parent(self) -> None:
        """In a fork: else the lock would be held until the last child of its holder has ended."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _leave_to_parent(this: weakref.ref[FileLock]) -> None:
    lock = this()
    if lock is not None:
        lock.leave_to_parent()


def _say(descriptor: int, url: str | None) -> None:
    # First what is new, then an end to what was: whoever reads in between takes the first line only.
    said = f"{os.getpid()} {url or ''}\n".encode()
    os.pwrite(descriptor, said, 0)
    os.ftruncate(descriptor, len(said))


def _said(descriptor: int) -> tuple[str, str | None]:
    """The process that has the lock, and its URL."""
    line, _, _ = os.pread(descriptor, _MOST_SAID, 0).decode(errors="replace").partition("\n")
    holder, _, url = line.partition(" ")
    return holder or "?", url or None


def _unwritable(error: OSError) -> StoreError:
    return StoreError(f"cannot write beside the database: {error}; make its directory writable")

"""Whether an open SQLite file is still the one at its path, and a copy of it if it is not.

Somebody may delete or replace the file, or the log beside it (`-wal`), while it is open. What is written then goes to
a file without a name and is gone with the last connection, so nothing may be written or read any more; but until then
it is all still there. What overwrites the file in place shows only when SQLite finds a page that makes no sense.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from pathlib import Path

from jobmgr.errors import DatabaseMoved, NotADatabase
from jobmgr.store.file import RESCUED

logger = logging.getLogger(__name__)


_PUT_BACK = "put it back, or ask again in a moment: a copy of all that was in it is being made"


class Place:
    """The path of a database file, and which file was opened there."""

    def __init__(self, file: Path) -> None:
        self._file = file.absolute()
        self._log = self._file.with_name(f"{self._file.name}-wal")
        self._opened: tuple[int, int] | None = None
        self._opened_log: tuple[int, int] | None = None
        self._connections = 0
        self._damage = ""
        self._remedy = _PUT_BACK
        self._is_saved = False

    def note(self) -> None:
        """A connection was just opened: the first one decides which file is meant. Raises DatabaseMoved."""
        self._connections += 1
        if self._opened is None:
            self._opened = _identity(self._file)
        self.check()

    def left(self) -> None:
        """A connection was closed. With the last one SQLite removes the log."""
        self._connections -= 1
        if self._connections == 0:
            self._opened_log = None

    def condemn(self, damage: str) -> None:
        """SQLite found the file damaged: from now on `check` refuses everything."""
        if not self._damage:
            self._damage = damage
            logger.error("%s is damaged: %s", self._file, damage)

    def check(self) -> None:
        """Raise DatabaseMoved if another file, or none, is at the path now; NotADatabase if it was found damaged."""
        if self._is_left():
            raise DatabaseMoved(
                f"{self._file} or its -wal was deleted or replaced while it is in use; nothing is stored or started "
                f"until that is undone: {self._remedy}"
            )
        if self._damage:
            raise NotADatabase(
                f"{self._file} is damaged ({self._damage}); nothing is stored or started any more: stop the service, "
                f"put a sound copy in its place without -wal and -shm, and start it again"
            )
        # It is there, or was put back: what was saved before is older than what is written from now on.
        self._is_saved, self._remedy = False, _PUT_BACK

    def save(self, connection: sqlite3.Connection) -> None:
        """If the file is gone from its path, copy what `connection` sees of it beside that path, once."""
        if self._is_saved or not self._is_left():
            return
        copy = self._file.with_name(f"{self._file.name}{RESCUED}{time.time_ns()}")
        try:
            # It holds commands and environments, and SQLite would let everybody read it.
            os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            connection.execute("VACUUM INTO ?", (str(copy),))
        except (OSError, sqlite3.Error) as error:
            with contextlib.suppress(OSError):
                copy.unlink()
            self._remedy = f"put it back, or make room for a copy, which failed: {error}"
            return
        self._is_saved = True
        self._remedy = (
            f"all that was in it is saved; stop the service, `rm -f {self._file}-wal {self._file}-shm` (SQLite would "
            f"mix what these hold into the copy), `mv {copy} {self._file}`, and start it again"
        )
        logger.error("%s was deleted or replaced: %s", self._file, self._remedy)

    def _is_left(self) -> bool:
        if self._opened is None:
            return False
        try:
            if _identity(self._file) != self._opened:
                return True
            log = _identity(self._log)
        except OSError:
            return False  # What cannot be looked at decides nothing.
        # It comes into being with the first transaction.
        self._opened_log = self._opened_log or log
        return log != self._opened_log


def _identity(file: Path) -> tuple[int, int] | None:
    """Which file this is; None if there is none. Raises OSError if that cannot be seen."""
    try:
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino

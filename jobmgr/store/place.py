"""Whether an open SQLite file is still the one at its path, and a copy of it if it is not.

Somebody may delete or replace the file while it is open. What is written then goes to a file without a name and is
gone with the last connection, so nothing may be written or read any more; but until then it is all still there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from pathlib import Path

from jobmgr.errors import DatabaseMoved

logger = logging.getLogger(__name__)


class Place:
    """The path of a database file, and which file was opened there."""

    def __init__(self, file: Path) -> None:
        self._file = file.absolute()
        self._opened: tuple[int, int] | None = None
        self._remedy = "put it back"
        self._is_saved = False

    def note(self) -> None:
        """A connection was just opened: the first one decides which file is meant. Raises DatabaseMoved."""
        if self._opened is None:
            status = self._file.stat()
            self._opened = status.st_dev, status.st_ino
        self.check()

    def check(self) -> None:
        """Raise DatabaseMoved if another file, or none, is at the path now."""
        if self._is_left():
            raise DatabaseMoved(
                f"{self._file} was deleted or replaced while it is in use; nothing is stored or started "
                f"until that is undone: {self._remedy}"
            )

    def save(self, connection: sqlite3.Connection) -> None:
        """If the file is gone from its path, copy what `connection` sees of it beside that path, once."""
        if self._is_saved or not self._is_left():
            return
        copy = self._file.with_name(f"{self._file.name}.rescued-{time.time_ns()}")
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
            f"all that was in it is saved; stop the service, `mv {copy} {self._file}`, and start it again"
        )
        logger.error("%s was deleted or replaced: %s", self._file, self._remedy)

    def _is_left(self) -> bool:
        try:
            status = self._file.stat()
        except (FileNotFoundError, NotADirectoryError):
            return self._opened is not None
        except OSError:
            return False  # What cannot be looked at decides nothing.
        return self._opened is not None and (status.st_dev, status.st_ino) != self._opened

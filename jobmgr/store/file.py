"""What an SQLite file shows from outside, without being opened as a database."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

RESCUED = ".rescued-"  # Behind the name of a database file: a copy of what it held, and when it was made.
_MAGIC = b"SQLite format 3\0"
_WRITE_VERSION_AT = 18  # Source: sqlite.org/fileformat2.html, "File format version numbers": 1 legacy, 2 WAL.
_WAL = 2


class Content(StrEnum):
    """What the first bytes say."""

    MISSING = "missing"
    EMPTY = "empty"
    WAL = "wal"
    ROLLBACK = "rollback"
    OTHER = "other"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class File:
    """A database file. `owner` is a user id; `may_write` means the file and, for its log, the directory.

    `rescued` is the latest copy of what it held that a service saved when the file was deleted under it; `log_bytes` is
    the size of the log beside it.
    """

    path: Path
    content: Content
    size_bytes: int = 0
    owner: int = 0
    mode: int = 0
    may_write: bool = False
    rescued: Path | None = None
    log_bytes: int = 0

    @property
    def is_lost(self) -> bool:
        """Whether there was a database here, which is gone, and a copy of it is there."""
        return not self.is_database and self.rescued is not None

    @property
    def is_database(self) -> bool:
        """Whether there is something to be read."""
        return self.content in (Content.WAL, Content.ROLLBACK)


def look(path: Path) -> File:
    """The file at `path`. Raises OSError if its directory does not even let us see it."""
    rescued = max(path.parent.glob(f"{path.name}{RESCUED}*[0-9]"), key=str, default=None)
    try:
        status = path.stat()
    except FileNotFoundError:
        return File(path, Content.MISSING, rescued=rescued)
    return File(
        path,
        _content(path),
        status.st_size,
        status.st_uid,
        status.st_mode & 0o777,
        all(os.access(one, os.W_OK, effective_ids=True) for one in (path, path.parent)),
        rescued,
        _size_bytes(path.with_name(f"{path.name}-wal")),
    )


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _content(path: Path) -> Content:
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC) + 4)
    except OSError:
        return Content.UNREADABLE
    if not start:
        return Content.EMPTY
    if not start.startswith(_MAGIC) or len(start) <= _WRITE_VERSION_AT:
        return Content.OTHER
    return Content.WAL if start[_WRITE_VERSION_AT] == _WAL else Content.ROLLBACK

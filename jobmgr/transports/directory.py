"""The contract between whoever wants to see what an attempt wrote, and the place where that lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from jobmgr.domain.job import FileEntry
from jobmgr.errors import FileMissing, InvalidRequest

MOST_LISTED = 10_000
MOST_WRITTEN = 50


@dataclass(frozen=True, slots=True)
class Window:
    """`data` are the bytes from `offset` on of a file that had `size_bytes` when they were read."""

    data: bytes
    offset: int
    size_bytes: int

    @property
    def end(self) -> int:
        """The offset of what follows."""
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True)
class Written:
    """A file beside an attempt's project: `folder` is absolute and without links. `is_later`: written after its end."""

    folder: str
    name: str
    modified_at: datetime
    is_later: bool


class RunFile(Protocol):
    """A regular file in a run directory. It may grow or shrink while it is read."""

    name: str

    async def read(self, offset: int, limit_bytes: int) -> Window:
        """Bytes from `offset` on; if that is negative, from so many bytes before the end, or from the beginning.

        At most `limit_bytes`; fewer may come, but not none, if there are more. All readings are of the same file,
        also if the job puts another one in its place.

        Raises SiteUnreachable, SiteSilent (both may pass), SiteRefused, and FileMissing, as `open` says.
        """
        ...

    async def aclose(self) -> None:
        """Let it go."""
        ...


class RunDirectory(Protocol):
    """The directory of one attempt, where its job may have put anything, and may change it at any moment."""

    async def listing(self) -> Sequence[FileEntry]:
        """The regular files by path, at most MOST_LISTED; none if there is no such directory. Links are not followed.

        Raises FileMissing if it is a link, and SiteUnreachable, SiteSilent, SiteRefused.
        """
        ...

    async def open(self, path: str) -> RunFile:
        """A regular file; links are followed as long as they stay in the directory.

        Raises InvalidRequest for a path that is none of a run directory. Here, or when it is read, FileMissing is
        raised for what is not there, is no regular file, may not be read, or leads out.
        """
        ...

    async def written(self, folder: str, beginning: str, ending: str) -> Sequence[Written]:
        """The regular files `folder/BEGINNING.../...ENDING` that were written since this attempt began, newest first.

        `folder` is any directory of that machine, absolute. Compared are times of files, those of the attempt's
        gate and exit record among them, and no clocks. At most MOST_WRITTEN; none without a folder, or a gate.
        Raises SiteUnreachable, SiteSilent, SiteRefused.
        """
        ...

    async def open_written(self, file: Written) -> RunFile:
        """One of these. Raises as `open` does."""
        ...


def checked(path: str) -> str:
    """`path`, if a file of a run directory can have it. Raises InvalidRequest."""
    if "\0" in path or not path or path.startswith("/") or ".." in path.split("/"):
        raise InvalidRequest("path", f"{path!r} is not a file of the run directory")
    return path


def missing(path: str) -> FileMissing:
    """There is no such file, or it is no regular one."""
    return FileMissing(f"there is no file {path!r} in the run directory (yet)")


def leads_out(path: str) -> FileMissing:
    """It, or something on the way to it, is a link to somewhere else."""
    return FileMissing(f"{path!r} leads out of the run directory")


def moment(timestamp: float) -> datetime:
    """When a file says that it was changed."""
    # A job may date its files as it likes, also beyond the calendar.
    try:
        return datetime.fromtimestamp(timestamp, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC) if timestamp > 0 else datetime.min.replace(tzinfo=UTC)

"""What jobs wrote: logs and files, confined to the run directory of one attempt."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from jobmgr.domain.job import FileEntry
from jobmgr.errors import FileMissing, InvalidRequest
from jobmgr.manager.core import Core
from jobmgr.store import listing

Stream = Literal["stdout", "stderr"]
_MOST_LISTED = 10_000


class Files(Core):
    """Logs and files of jobs."""

    async def log_file(self, job_id: str, stream: Stream, attempt: int | None = None) -> Path:
        """The file a stream of an attempt (None: the latest) is written to. Raises FileMissing."""
        return await self.file(job_id, stream, attempt)

    async def files(self, job_id: str, attempt: int | None = None) -> Sequence[FileEntry]:
        """The regular files of a run directory, by path; at most 10,000. Links are not followed."""
        directory = await self._run_directory(job_id, attempt)
        return await asyncio.to_thread(_listing, directory)

    async def file(self, job_id: str, path: str, attempt: int | None = None) -> Path:
        """The real path of a regular file in the run directory. Raises FileMissing, InvalidRequest."""
        directory = await self._run_directory(job_id, attempt)
        return await asyncio.to_thread(_confined, directory, path)

    async def _run_directory(self, job_id: str, attempt: int | None) -> Path:
        job = (await self.database.read(listing.get, [job_id]))[0]
        number = job.attempt if attempt is None else attempt
        if job.attempt == 0:
            raise FileMissing(
                f"job {job_id!r} ended without having started"
                if job.status.is_terminal
                else f"job {job_id!r} has not started yet; `jobmgr why {job_id}` says why"
            )
        if not 1 <= number <= job.attempt:
            raise FileMissing(f"job {job_id!r} has no attempt {number}; it has had {job.attempt}")
        return self.parts.runs / job.job_id / str(number)


def _listing(directory: Path) -> list[FileEntry]:
    found: list[FileEntry] = []
    for folder, _, names in os.walk(directory, followlinks=False):
        for name in names:
            path = Path(folder) / name
            try:
                status = path.lstat()
            except OSError:
                # Gone, or in a directory that may not be read.
                continue
            if stat.S_ISREG(status.st_mode):
                modified_at = _moment(status.st_mtime)
                shown = os.fsencode(path.relative_to(directory)).decode(errors="replace")
                found.append(FileEntry(shown, status.st_size, modified_at))
        if len(found) >= _MOST_LISTED:
            break
    return sorted(found, key=lambda entry: entry.path)[:_MOST_LISTED]


def _moment(timestamp: float) -> datetime:
    # A job may date its files as it likes, also beyond the calendar.
    try:
        return datetime.fromtimestamp(timestamp, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC) if timestamp > 0 else datetime.min.replace(tzinfo=UTC)


def _confined(directory: Path, path: str) -> Path:
    if "\0" in path or not path or path.startswith("/") or ".." in path.split("/"):
        raise InvalidRequest("path", f"{path!r} is not a file of the run directory")
    # Before 3.13 a loop of links is a RuntimeError, and is_file() passes on what it cannot look at.
    try:
        real = (directory / path).resolve()
        is_file = real.is_file()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "a loop of links"
        raise FileMissing(f"{path!r} cannot be read: {reason}") from error
    if not real.is_relative_to(directory.resolve()):
        raise FileMissing(f"{path!r} leads out of the run directory")
    if not is_file:
        raise FileMissing(f"there is no file {path!r} in the run directory (yet)")
    return real

"""Run directories on a file system that this machine sees. What blocks is done in threads."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from jobmgr.domain.job import FileEntry
from jobmgr.errors import FileMissing
from jobmgr.transports.directory import MOST_LISTED, Window, checked, leads_out, missing, moment


class LocalDirectory:
    """The run directory `path`, which is `<runs>/<job id>/<number>`."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    async def listing(self) -> Sequence[FileEntry]:
        """As the contract says."""
        return await asyncio.to_thread(self._list)

    async def open(self, path: str) -> LocalFile:
        """As the contract says; the file is open then."""
        file = await asyncio.to_thread(self._open, checked(path))
        return LocalFile(Path(path).name, file)

    def _list(self) -> list[FileEntry]:
        root = self._root()
        if root.is_symlink():
            raise leads_out(".")
        found: list[FileEntry] = []
        for folder, _, names in os.walk(root, followlinks=False):
            for name in names:
                path = Path(folder) / name
                try:
                    status = path.lstat()
                except OSError:
                    # Gone, or in a directory that may not be read.
                    continue
                if stat.S_ISREG(status.st_mode):
                    shown = os.fsencode(path.relative_to(root)).decode(errors="replace")
                    found.append(FileEntry(shown, status.st_size, moment(status.st_mtime)))
            if len(found) >= MOST_LISTED:
                break
        return sorted(found, key=lambda entry: entry.path)[:MOST_LISTED]

    def _open(self, path: str) -> BinaryIO:
        root = self._root()
        # Before 3.13 a loop of links is a RuntimeError, and is_file() passes on what it cannot look at.
        try:
            real = (root / path).resolve()
            is_file = real.is_file()
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "a loop of links"
            raise FileMissing(f"{path!r} cannot be read: {reason}") from error
        if not real.is_relative_to(root):
            raise leads_out(path)
        if not is_file:
            raise missing(path)
        return open_regular(real)

    def _root(self) -> Path:
        # The job can put a link in the place of its own directory, but not of that of all runs.
        return self._path.parents[1].resolve() / self._path.parent.name / self._path.name


class LocalFile:
    """An open file."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name = name
        self._file = file

    async def read(self, offset: int, limit_bytes: int) -> Window:
        """As the contract says."""
        return await asyncio.to_thread(self._read, offset, limit_bytes)

    async def aclose(self) -> None:
        """As the contract says."""
        self._file.close()

    def _read(self, offset: int, limit_bytes: int) -> Window:
        size_bytes = os.fstat(self._file.fileno()).st_size
        offset = max(size_bytes + offset, 0) if offset < 0 else offset
        # Not more is asked for than there is, because the buffer is made before it is filled. Beyond what a file
        # system can hold even seeking is an error.
        length = min(limit_bytes, size_bytes - offset)
        if length <= 0:
            return Window(b"", offset, size_bytes)
        self._file.seek(offset)
        return Window(self._file.read(length), offset, size_bytes)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. Raises FileMissing for what is not there or no regular file."""
    # A job may put a pipe, which would block us, or a link to somewhere else in its place.
    flags = (
        os.O_RDONLY
        | getattr(os, "O_NOFOLLOW", 0)
        | getattr(os, "O_NONBLOCK", 0)
        | getattr(os, "O_CLOEXEC", 0)
    )
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise FileMissing(f"{path.name}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileMissing(f"{path.name} is not a regular file")
    return os.fdopen(descriptor, "rb", buffering=0)

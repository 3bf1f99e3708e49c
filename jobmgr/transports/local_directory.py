"""Run directories on a file system that this machine sees. What blocks is done in threads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from jobmgr.domain.job import FileEntry
from jobmgr.errors import FileMissing
from jobmgr.transports.directory import (
    MOST_LISTED,
    MOST_WRITTEN,
    Window,
    Written,
    checked,
    leads_out,
    missing,
    moment,
)


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

    async def written(self, folder: str, beginning: str, ending: str) -> Sequence[Written]:
        """As the contract says."""
        return await asyncio.to_thread(self._written, folder, beginning, ending)

    async def open_written(self, file: Written) -> LocalFile:
        """As the contract says; the file is open then."""
        return await LocalDirectory(file.folder).open(file.name)

    def _written(self, folder: str, beginning: str, ending: str) -> list[Written]:
        control = self._path.parents[2] / "control" / self._path.parent.name / self._path.name
        began = _modified_ns(control / "gate")
        if began is None:
            return []
        ended = _modified_ns(control / "exit")
        root = os.path.realpath(folder)
        found = []
        for inner in _entries(root):
            if not inner.name.startswith(beginning) or not inner.is_dir(follow_symlinks=False):
                continue
            for file in _entries(inner.path):
                changed = _modified_ns(Path(file.path)) if file.name.endswith(ending) else None
                # A file system's clock ticks a few milliseconds at a time, in which a run may begin and write.
                if changed is not None and changed >= began:
                    is_later = ended is not None and changed > ended
                    found.append((changed, Written(inner.path, file.name, moment(changed / 1e9), is_later)))
        found.sort(key=lambda each: each[0], reverse=True)
        return [each for _, each in found[:MOST_WRITTEN]]

    def _list(self) -> list[FileEntry]:
        root = self._root()
        # Not resolve(), to which a loop of links is an error before 3.13; nothing is listed of one.
        if not _lies_in(Path(os.path.realpath(root)), root):
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
        if not _lies_in(real, root):
            raise leads_out(path)
        if not is_file:
            raise missing(path)
        file = open_regular(real)
        if not _lies_in(_opened(file, real), root):
            file.close()
            raise leads_out(path)
        return file

    def _root(self) -> Path:
        # The job can put a link in the place of its own directory, but not of that of all runs.
        return self._path.parent.parent.resolve() / self._path.parent.name / self._path.name


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


def _lies_in(path: Path, root: Path) -> bool:
    return path.is_relative_to(root)


def _opened(file: BinaryIO, path: Path) -> Path:
    """Where the kernel found what was opened: a job may have put a link in the place of a directory meanwhile."""
    try:
        return Path(os.readlink(f"/proc/self/fd/{file.fileno()}"))
    except OSError:
        return path


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    # Not there, or not to be read.
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        yield from entries


def _modified_ns(path: Path) -> int | None:
    """When a regular file was written last; None if there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_mtime_ns if stat.S_ISREG(status.st_mode) else None


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

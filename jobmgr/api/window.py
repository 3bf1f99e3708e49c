"""Pieces of files that may grow, shrink or be no files at all. Everything here blocks and belongs in a thread."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from jobmgr.errors import FileMissing

_BLOCK_BYTES = 64 * 1024
_RANGE = re.compile(r"bytes=(\d{1,18})?-(\d{1,18})?")


@dataclass(frozen=True, slots=True)
class Window:
    """`data` are the bytes from `offset` on of a file that had `size_bytes` when they were read."""

    data: bytes
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Range:
    """The one range that a request asks for: from `first` to `last`, or without `first` the last `last` bytes."""

    first: int | None
    last: int | None

    @classmethod
    def parse(cls, header: str | None) -> Range | None:
        """The range of the header; None for no or several ranges or other units, which RFC 9110 lets us ignore."""
        match = _RANGE.fullmatch((header or "").replace(" ", ""))
        if match is None or match[0] == "bytes=-":
            return None
        first, last = (None if text is None else int(text) for text in match.groups())
        return None if first is not None and last is not None and last < first else cls(first, last)

    def within(self, size_bytes: int) -> tuple[int, int]:
        """Offset and length of this range in a file of that size; the length is 0 if it lies outside."""
        if self.first is None:
            length = min(self.last or 0, size_bytes)
            return size_bytes - length, length
        last = size_bytes - 1 if self.last is None else min(self.last, size_bytes - 1)
        return self.first, max(0, last - self.first + 1)


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


def size_of(file: BinaryIO) -> int:
    """How many bytes an open file has now."""
    return os.fstat(file.fileno()).st_size


def read_from(path: Path, offset: int, limit_bytes: int) -> Window:
    """At most `limit_bytes` from `offset` on."""
    with open_regular(path) as file:
        size_bytes = size_of(file)
        return Window(_read(file, offset, limit_bytes), offset, size_bytes)


def read_range(path: Path, wanted: Range, limit_bytes: int) -> Window:
    """The wanted range, or its first `limit_bytes`; no data if it lies outside the file."""
    with open_regular(path) as file:
        size_bytes = size_of(file)
        offset, length = wanted.within(size_bytes)
        return Window(_read(file, offset, min(length, limit_bytes)), offset, size_bytes)


def read_tail(path: Path, lines: int, limit_bytes: int) -> Window:
    """The last `lines` lines, or the last `limit_bytes` if those are fewer."""
    with open_regular(path) as file:
        size_bytes = size_of(file)
        floor = max(0, size_bytes - limit_bytes)
        start = _start_of_tail(file, size_bytes, lines, floor)
        return Window(_read(file, start, size_bytes - start), start, size_bytes)


def _start_of_tail(file: BinaryIO, size_bytes: int, lines: int, floor: int) -> int:
    """Where the last `lines` lines begin; reads backwards, not before `floor`."""
    end = size_bytes
    # The newline that ends the last line begins none.
    wanted = lines + 1 if size_bytes and _read(file, size_bytes - 1, 1) == b"\n" else lines
    while end > floor:
        start = max(floor, end - _BLOCK_BYTES)
        block = _read(file, start, end - start)
        found = block.count(b"\n")
        if found >= wanted:
            position = len(block)
            for _ in range(wanted):
                position = block.rindex(b"\n", 0, position)
            return start + position + 1
        wanted -= found
        end = start
    return floor


def _read(file: BinaryIO, offset: int, length: int) -> bytes:
    if length <= 0:
        return b""
    # Not more is asked for than there is: the buffer is made before it is filled.
    there = size_of(file) - offset
    if there <= 0:
        # Beyond what a file system can hold even seeking is an error.
        return b""
    file.seek(offset)
    pieces = []
    left = min(length, there)
    while left and (piece := file.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)

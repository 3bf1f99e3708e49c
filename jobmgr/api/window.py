"""Pieces of files that may grow or shrink: from an offset, a range, the last lines."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from jobmgr.transports.directory import RunFile, Window

# So much of a file is held for one who reads it, however slowly.
CHUNK_BYTES = 1024 * 1024
_FIRST_BLOCK_BYTES = 64 * 1024
_RANGE = re.compile(r"bytes=(\d{1,18})?-(\d{1,18})?")


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

    @property
    def asked(self) -> tuple[int, int | None]:
        """From where on to read a file of unknown size (negative: before its end), and how much, if not all."""
        if self.first is None:
            return -(self.last or 0), self.last or 0
        return self.first, None if self.last is None else self.last - self.first + 1

    def within(self, size_bytes: int) -> tuple[int, int]:
        """Offset and length of this range in a file of that size; the length is 0 if it lies outside."""
        if self.first is None:
            length = min(self.last or 0, size_bytes)
            return size_bytes - length, length
        last = size_bytes - 1 if self.last is None else min(self.last, size_bytes - 1)
        return self.first, max(0, last - self.first + 1)


@dataclass(frozen=True, slots=True)
class Portion:
    """`length` bytes of a file, of which `first` are those that were read: the others are still to be read."""

    first: Window
    length: int


async def read_from(file: RunFile, offset: int, limit_bytes: int) -> Portion:
    """At most `limit_bytes` from `offset` on, or from so many before the end; fewer only if there are no more."""
    first = await _read(file, offset, min(limit_bytes, CHUNK_BYTES))
    if len(first.data) < CHUNK_BYTES:
        return Portion(first, len(first.data))
    return Portion(first, min(limit_bytes, first.size_bytes - first.offset))


async def read_range(file: RunFile, wanted: Range, limit_bytes: int) -> Portion:
    """The wanted range, or its first `limit_bytes`; no data if it lies outside the file."""
    offset, length = wanted.asked
    return await read_from(file, offset, limit_bytes if length is None else min(length, limit_bytes))


async def read_tail(file: RunFile, lines: int, limit_bytes: int) -> Portion:
    """The last `lines` lines, or the last `limit_bytes` if those are fewer."""
    block = min(_FIRST_BLOCK_BYTES, limit_bytes)
    window = await _read(file, -block, block)
    size_bytes = window.size_bytes
    floor, end = max(0, size_bytes - limit_bytes), window.end
    # The newline that ends the last line begins none.
    left = lines + window.data.endswith(b"\n")
    while (
        found := await asyncio.to_thread(_start_of_tail, window.data, left)
    ) is None and window.offset > floor:
        left -= window.data.count(b"\n")
        # Larger each time, because each is a round trip to a site, up to what may be held.
        block = min(2 * block, CHUNK_BYTES)
        before = max(floor, window.offset - block)
        piece = await _read(file, before, window.offset - before)
        if piece.end < window.offset:
            break  # The job cut its file short, so this is no part of it any more.
        window = piece
    first = Window(window.data[found or 0 :], window.offset + (found or 0), size_bytes)
    return Portion(first, end - first.offset)


async def _read(file: RunFile, offset: int, limit_bytes: int) -> Window:
    """The same in one piece, as far as it may be held."""
    first = await file.read(offset, limit_bytes)
    pieces = [first.data]
    end, left = first.end, min(limit_bytes, first.size_bytes - first.offset) - len(first.data)
    while left > 0 and (data := (await file.read(end, left)).data):
        pieces.append(data)
        end, left = end + len(data), left - len(data)
    return Window(b"".join(pieces), first.offset, first.size_bytes)


def _start_of_tail(data: bytes, newlines: int) -> int | None:
    """What follows the last but `newlines` - 1 newlines; None if there are not so many."""
    if data.count(b"\n") < newlines:
        return None
    position = len(data)
    for _ in range(newlines):
        position = data.rindex(b"\n", 0, position)
    return position + 1

"""Pieces of files that may grow or shrink: from an offset, a range, the last lines."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from jobmgr.transports.directory import RunFile, Window

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


async def read_from(file: RunFile, offset: int, limit_bytes: int) -> Window:
    """At most `limit_bytes` from `offset` on, or from so many before the end; fewer only if there are no more."""
    first = await file.read(offset, limit_bytes)
    pieces = [first.data]
    end, left = first.end, min(limit_bytes, first.size_bytes - first.offset) - len(first.data)
    while left > 0 and (data := (await file.read(end, left)).data):
        pieces.append(data)
        end, left = end + len(data), left - len(data)
    return Window(b"".join(pieces), first.offset, first.size_bytes)


async def read_range(file: RunFile, wanted: Range, limit_bytes: int) -> Window:
    """The wanted range, or its first `limit_bytes`; no data if it lies outside the file."""
    offset, length = wanted.asked
    return await read_from(file, offset, limit_bytes if length is None else min(length, limit_bytes))


async def read_tail(file: RunFile, lines: int, limit_bytes: int) -> Window:
    """The last `lines` lines, or the last `limit_bytes` if those are fewer."""
    block = min(_FIRST_BLOCK_BYTES, limit_bytes)
    window = await read_from(file, -block, block)
    data, start, size_bytes = window.data, window.offset, window.size_bytes
    floor = max(0, size_bytes - limit_bytes)
    while (found := await asyncio.to_thread(_start_of_tail, data, lines)) is None and start > floor:
        # Twice as much each time: all that was read is looked at again.
        before = max(floor, start - len(data))
        piece = (await read_from(file, before, start - before)).data
        if len(piece) < start - before:
            break  # The job cut its file short, so this is no part of it any more.
        data, start = piece + data, before
    return Window(data[found or 0 :], start + (found or 0), size_bytes)


def _start_of_tail(data: bytes, lines: int) -> int | None:
    """Where the last `lines` lines begin; None if that is not after the first byte."""
    # The newline that ends the last line begins none.
    position = len(data) - 1 if data.endswith(b"\n") else len(data)
    if data.count(b"\n", 0, position) < lines:
        return None
    for _ in range(lines):
        position = data.rindex(b"\n", 0, position)
    return position + 1

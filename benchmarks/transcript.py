"""What many readers of one stream are sent, kept once: each reader's bytes are compared with it and dropped.

So a reader costs next to nothing, and hundreds of them leave the processors to what is measured.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import Protocol


class Framing(Protocol):
    """How a stream is cut into frames."""

    def end(self, data: bytes, start: int) -> int | None:
        """Where the frame that begins at `start` ends; None if it is not whole yet."""
        ...

    def is_content(self, frame: bytes) -> bool:
        """Whether it is one that all readers get, not one that keeps a connection alive."""
        ...


class Sse:
    """Frames of server-sent events. Source: HTML Living Standard, 9.2.6."""

    def end(self, data: bytes, start: int) -> int | None:
        found = data.find(b"\n\n", start)
        return None if found < 0 else found + 2

    def is_content(self, frame: bytes) -> bool:
        return b"\ndata: " in frame


class WebSocket:
    """Unmasked frames of a WebSocket with Engine.IO packets in them. Sources: RFC 6455, 5.2; Engine.IO protocol 4."""

    def end(self, data: bytes, start: int) -> int | None:
        if len(data) < start + 2:
            return None
        header, size = 2, data[start + 1]
        if size >= 126:
            header = 4 if size == 126 else 10
            if len(data) < start + header:
                return None
            size = int.from_bytes(data[start + 2 : start + header], "big")
        end = start + header + size
        return end if end <= len(data) else None

    def is_content(self, frame: bytes) -> bool:
        # 4: a message of Engine.IO; 2: an event of Socket.IO.
        return payload(frame).startswith(b"42")


def payload(frame: bytes) -> bytes:
    """What a whole frame of a WebSocket holds."""
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


class Transcript:
    """All content of a stream, as the reader that was ahead got it."""

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.content = bytearray()
        self.ends: list[int] = []

    def append(self, frame: bytes) -> None:
        """Add one whole frame."""
        self.content += frame
        self.ends.append(len(self.content))

    def frames(self, first: int = 0) -> Iterator[bytes]:
        """The frames so far, from number `first` on."""
        for start, end in pairwise([0, *self.ends][first:]):
            yield bytes(self.content[start:end])


class Reader:
    """How far one reader came in the transcript, and when."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self._rest = b""
        self._position = 0
        self._arrivals: list[tuple[float, int]] = []
        self._differs = False

    @property
    def is_complete(self) -> bool:
        """Whether it got all that any reader got, each frame once and in the same order."""
        return not self._differs and self._position == len(self._transcript.content)

    def feed(self, data: bytes, at: float) -> list[bytes]:
        """Take what arrived; answers the frames that are no content."""
        data, others, start = self._skip_known(self._rest + data), [], 0
        framing = self._transcript.framing
        while (end := framing.end(data, start)) is not None:
            frame, start = data[start:end], end
            if framing.is_content(frame):
                self._take(frame)
            else:
                others.append(frame)
        self._rest = data[start:]
        self._arrivals.append((at, self._position))
        return others

    def _skip_known(self, data: bytes) -> bytes:
        """Step over the whole frames of `data` if another reader has had all of it; what is left of it."""
        start, ends = self._position, self._transcript.ends
        if not self._transcript.content.startswith(data, start):
            return data
        whole = bisect_right(ends, start + len(data))
        self._position = max(start, ends[whole - 1] if whole else 0)
        return data[self._position - start :]

    def _take(self, frame: bytes) -> None:
        known = self._transcript.content
        if self._differs:
            return
        if self._position == len(known):
            self._transcript.append(frame)
        self._differs = not known.startswith(frame, self._position)
        self._position += len(frame)

    def arrivals(self) -> Iterator[float]:
        """When each frame of the transcript had arrived, as far as this reader came."""
        steps = iter(self._arrivals)
        at, position = next(steps, (0.0, -1))
        for end in self._transcript.ends:
            while position < end:
                found = next(steps, None)
                if found is None:
                    return
                at, position = found
            yield at

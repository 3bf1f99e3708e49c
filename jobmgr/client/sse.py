"""Reading of server-sent events. Source: HTML Living Standard, 9.2.6 "Interpreting an event stream"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jobmgr.errors import AnswerNotUnderstood

# Many times what an event of the service takes; what is longer comes from somebody else.
LONGEST_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream; `id` is the last one that was set, also by an earlier message."""

    event: str
    data: str
    id: str


class Parser:
    """Takes the bytes of a stream in pieces of any size and gives its messages. Comments are skipped."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._id = ""
        self._event = ""
        self._data: list[str] = []
        self._size_bytes = 0

    def feed(self, piece: bytes) -> Iterator[Message]:
        """The messages that `piece` completes. Raises AnswerNotUnderstood for one that has no end."""
        for index, part in enumerate(piece.split(b"\n")):
            if index:
                yield from self._end_line()
            self._rest += part
            if self._size_bytes + len(self._rest) > LONGEST_BYTES:
                raise AnswerNotUnderstood(
                    f"in its stream of events, a message of more than {LONGEST_BYTES} bytes"
                )

    def _end_line(self) -> Iterator[Message]:
        text = self._rest.removesuffix(b"\r").decode("utf-8", "replace")
        self._rest.clear()
        if text:
            self._take(text)
        else:
            yield from self._dispatch()

    def _take(self, text: str) -> None:
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
            self._size_bytes += len(value)
        elif name == "id":
            self._id = value

    def _dispatch(self) -> Iterator[Message]:
        event, data = self._event or "message", self._data
        self._event, self._data, self._size_bytes = "", [], 0
        if data:
            yield Message(event, "\n".join(data), self._id)

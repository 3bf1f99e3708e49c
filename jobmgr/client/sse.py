"""Reading of server-sent events. Source: HTML Living Standard, 9.2.6 "Interpreting an event stream"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream; `id` is the last one that was set, also by an earlier message."""

    event: str
    data: str
    id: str


class Parser:
    """Takes the bytes of a stream in pieces of any size and gives its messages. Comments are skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self._id = ""
        self._event = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[Message]:
        """The messages that `piece` completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if text := line.removesuffix(b"\r").decode("utf-8", "replace"):
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
        elif name == "id":
            self._id = value

    def _dispatch(self) -> Iterator[Message]:
        event, data = self._event or "message", self._data
        self._event, self._data = "", []
        if data:
            yield Message(event, "\n".join(data), self._id)

"""Socket.IO messages as they travel, encoded once for all who are sent them.

Sources: RFC 6455, 5.2; Engine.IO protocol 4 (a message is `4`); Socket.IO protocol 5 (an event is `2["name",data]`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import engineio

from jobmgr.wire.translation import encode

Message = tuple[str, Any]


class Frames:
    """Messages in order, for both ways in which a client may be connected."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._events = [b"2" + encode(message) for message in messages]

    @cached_property
    def data(self) -> bytes:
        """All of them as they are written to a WebSocket. A server masks nothing, so all clients get the same."""
        return b"".join(_text_frame(b"4" + event) for event in self._events)

    @cached_property
    def packets(self) -> list[Any]:
        """One packet of Engine.IO for each, for the queue of a client."""
        return [engineio.packet.Packet(engineio.packet.MESSAGE, event.decode()) for event in self._events]


def _text_frame(payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 2**16:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload

"""The wire between service, warden and keepers: JSON objects with their length before them."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping
from typing import Any, TypeGuard

Message = dict[str, Any]

MESSAGE_MAX_BYTES = (
    64 * 1024 * 1024
)  # Arguments and environment together; the kernel's own limit is far below.
_LENGTH_BYTES = 4
# What each operation says; others may come from another version and are passed on.
_NUMBER = (int, float)
_SAID: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    # To the warden, and its answer.
    "fork": {"count": int},
    "forked": {"sockets": list},
    # To who holds attempts.
    "hello": {"env": dict, "walltime_grace_s": _NUMBER, "leftover_grace_s": _NUMBER},
    "start": {
        "token": str,
        "control": str,
        "run": str,
        "command": list,
        "env": dict,
        "cwd": str,
        "walltime_s": (*_NUMBER, type(None)),
    },
    "attach": {"token": str},
    "cancel": {"token": str, "grace_s": _NUMBER},
    "pause": {"token": str},
    "resume": {"token": str},
    # From them.
    "started": {"token": str, "pid": int, "start_ticks": int, "boot_id": str, "started_at": str},
    "paused": {"token": str},
    "resumed": {"token": str},
    "ended": {"token": str, "record": dict},
    "not_started": {"token": str, "errno": (int, type(None)), "message": str},
    "refused": {"token": str, "trouble": (str, type(None))},
    "elsewhere": {"token": str},
    "unknown": {"token": str},
}
_encode = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make such an object each time.


def pack(message: Message) -> bytes:
    """The message as it goes over the wire. Undecodable bytes in arguments (lone surrogates) survive.

    Raises ValueError if it is larger than the other end accepts.
    """
    body = _encode(message).encode("ascii")
    if len(body) + _LENGTH_BYTES > MESSAGE_MAX_BYTES:
        raise ValueError(f"{len(body)} bytes are more than the {MESSAGE_MAX_BYTES} that can be handed over")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class Inbox:
    """Puts received pieces together again."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete now. Raises ValueError if the peer does not speak this language."""
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        while len(buffer) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(buffer[:_LENGTH_BYTES], "big")
            if end > MESSAGE_MAX_BYTES:
                raise ValueError(f"a message of {end} bytes; at most {MESSAGE_MAX_BYTES} are understood")
            if len(buffer) < end:
                break
            messages.append(_read(buffer[_LENGTH_BYTES:end]))
            del buffer[:end]
        return messages


def _read(body: bytes | bytearray) -> Message:
    """Raises ValueError for what is no message: whoever gets one relies on what its operation has to say."""
    try:
        message = json.loads(body)
    except RecursionError as error:
        raise ValueError("a message that is nested too deep") from error
    if not _is_whole(message):
        raise ValueError(f"a message that does not say what it has to: {str(message)[:200]}")
    return message


def _is_whole(message: object) -> TypeGuard[Message]:
    if not isinstance(message, dict) or not isinstance(message.get("op"), str):
        return False
    said = _SAID.get(message["op"], {})
    return all(name in message and isinstance(message[name], kind) for name, kind in said.items())


class Peer:
    """The holder's end of a connection to a service; never waits, because it has time limits to keep."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        self._connection = connection
        self._inbox = Inbox()
        self.fileno = connection.fileno()

    def receive(self) -> list[Message] | None:
        """What has come in; None once the other end is gone or speaks nonsense."""
        try:
            data = self._connection.recv(65536)
            return self._inbox.feed(data) if data else None
        except BlockingIOError:
            return []
        except (OSError, ValueError):
            return None

    def send(self, *messages: Message) -> bool:
        """False if the other end is gone, or has not read for so long that it must be taken for gone."""
        data = b"".join(map(pack, messages))
        try:
            return self._connection.send(data) == len(data)
        except OSError:
            return False

    def close(self) -> None:
        """Let the other end see the end."""
        with contextlib.suppress(OSError):
            self._connection.close()

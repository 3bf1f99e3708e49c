"""Packets of Socket.IO: those that its clients send here, and what the log is told of all others."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable
from typing import Any

import engineio
import socketio
from aiohttp import web

from jobmgr.api.digest import SUMMARY_S, Digest
from jobmgr.api.guard import origin
from jobmgr.api.throttle import network

logger = logging.getLogger(__name__)

_PACKAGE = __name__.partition(".")[0]
# What leads from polling to a WebSocket is heard by Engine.IO before it hears any of these.
_OF_ENGINE = frozenset({engineio.packet.CLOSE, engineio.packet.PONG, engineio.packet.MESSAGE})
_OF_SOCKET = frozenset({socketio.packet.CONNECT, socketio.packet.DISCONNECT, socketio.packet.EVENT})
# The library would hand these to the handlers of what it tells itself.
_RESERVED = frozenset({"connect", "disconnect"})


def understand(packet: Any) -> None:
    """Raise ValueError unless this packet of Engine.IO is one that clients have a reason to send here.

    Nothing here takes binary data: of an event with attachments python-socketio 5.18 keeps all that follows until they
    are there, and takes up to 9,999,999,999 of them.
    """
    if packet.packet_type not in _OF_ENGINE:
        raise ValueError("no packet that clients send")
    if packet.packet_type == engineio.packet.MESSAGE:
        _understand_message(packet.data)


def _understand_message(message: object) -> None:
    if not isinstance(message, str) or not message:
        raise ValueError("a message that is no text")
    packet = socketio.packet.Packet(encoded_packet=message)
    if packet.packet_type not in _OF_SOCKET or packet.attachment_count:
        raise ValueError("a message that clients do not send here")
    if packet.packet_type == socketio.packet.EVENT and not _is_event(packet.data):
        raise ValueError("an event without a name of its own")


def _is_event(data: object) -> bool:
    return isinstance(data, list) and bool(data) and isinstance(data[0], str) and data[0] not in _RESERVED


def loads(text: str) -> Any:
    """JSON, with ValueError also for what is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


class Babble:
    """Tells the log of what clients sent that is not understood; of very much as a digest.

    `library` is the logger for Engine.IO and Socket.IO: without one they write to stderr, past the format of our log.
    What they log is said in one line, an error that comes out of our own code stays one. `asking` answers the request
    in which they do so, if it is one.
    """

    def __init__(
        self,
        asking: Callable[[], web.Request | None],
        summary_s: float = SUMMARY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._asking = asking
        self._digest = Digest(
            logger, "%d more times Socket.IO clients are not understood: %s", summary_s, clock
        )
        # Of its own, so that of several services in one process each counts what it is sent.
        self.library = logging.Logger(f"{__name__}.protocol", logging.WARNING)  # noqa: LOG001 -- ends with this
        self.library.parent = logger
        self.library.addFilter(self)

    def note(self, request: web.Request, error: BaseException) -> None:
        """Tell that the connection of this request ends for what came."""
        if self._digest.may_tell(network(origin(request))):
            logger.warning(
                "a Socket.IO client at %s is not understood, its connection ends: %s",
                origin(request),
                _told(error),
            )

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether what the library says is logged; it is put into other words before."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and _is_ours(error):
            return True
        told = "" if error is None else f": {_told(error)}"
        record.msg, record.args = (
            "a Socket.IO client is not understood: %s%s",
            (record.getMessage()[:200], told),
        )
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.exc_info = record.exc_text = None
        request = self._asking()
        return self._digest.may_tell("no address" if request is None else network(origin(request)))

    async def close(self, _app: web.Application) -> None:
        """Tell what was only counted until now."""
        self._digest.close()


def _told(error: BaseException) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:200]}"


def _is_ours(error: BaseException) -> bool:
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    # A handler of ours is called by the library; its own frames come first in any case.
    return any(str(name).partition(".")[0] == _PACKAGE for name in modules)

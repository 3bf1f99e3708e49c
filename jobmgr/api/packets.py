"""What the libraries of Socket.IO log: that a client sends what is no packet, which is no fault of the service."""

from __future__ import annotations

import logging
import traceback

_PACKAGE = __name__.partition(".")[0]


def packet_logger() -> logging.Logger:
    """The logger for them. Without one they write to stderr by themselves, past the format of our log."""
    found = logging.getLogger(f"{__name__}.protocol")
    found.setLevel(logging.WARNING)
    found.addFilter(_without_traceback)
    return found


def _without_traceback(record: logging.LogRecord) -> bool:
    """Say in one line what a client sent that is no packet. An error that comes out of our own code stays one."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and _is_ours(error):
        return True
    told = "" if error is None else f": {type(error).__name__} {' '.join(str(error).split())[:200]}"
    record.msg, record.args = "a Socket.IO client is not understood: %s%s", (record.getMessage()[:200], told)
    record.levelno, record.levelname = logging.WARNING, "WARNING"
    record.exc_info = record.exc_text = None
    return True


def _is_ours(error: BaseException) -> bool:
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    # A handler of ours is called by the library; its own frames come first in any case.
    return any(str(name).partition(".")[0] == _PACKAGE for name in modules)

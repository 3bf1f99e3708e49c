"""What came and was no HTTP, for the log: anybody can send it, and it is no fault of the service."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from aiohttp.http_exceptions import HttpProcessingError

from jobmgr.api.digest import SUMMARY_S, Digest
from jobmgr.api.protocol import unquoted
from jobmgr.api.throttle import network

logger = logging.getLogger(__name__)


class Nonsense:
    """A filter of what aiohttp logs: one line instead of a traceback, as the `digest` allows."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged, which may be put into other words before."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        # What aiohttp's own line has is the address; that of a Unix socket is empty.
        remote = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
        remote = remote or "unix"
        # The line that was not understood stands behind a colon or in the next line, and may hold a token.
        record.msg = "a connection from %s ends, what came is not HTTP: %s"
        record.args = remote, unquoted(error)
        record.exc_info = record.exc_text = None
        if record.levelno < logging.WARNING:
            return True
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return self._digest.may_tell(network(remote))


@contextlib.contextmanager
def told(
    summary_s: float = SUMMARY_S, clock: Callable[[], float] = time.monotonic
) -> Iterator[logging.Logger]:
    """The logger that a server of aiohttp gets."""
    digest = Digest(logger, "%d more connections ended, what came is not HTTP: %s", summary_s, clock)
    nonsense = Nonsense(digest)
    logger.addFilter(nonsense)
    try:
        yield logger
    finally:
        logger.removeFilter(nonsense)
        digest.close()

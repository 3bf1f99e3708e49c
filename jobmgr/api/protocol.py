"""One connection's HTTP as aiohttp speaks it, with an end for who reads nothing, and with our headers on errors."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import termios
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from jobmgr.api.headers import harden


def unquoted(error: HttpProcessingError) -> str:
    """What the parser says is wrong, without what it quotes: that is what was sent, an API token perhaps."""
    return str(error.message).strip().partition("\n")[0].partition(":")[0].strip()[:200]


class Protocol(web.RequestHandler):
    """A connection, which ends when nothing is read of a full buffer for `stall_s`; `options` are aiohttp's."""

    def __init__(self, server: web.Server, *, stall_s: float, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._stall_s = stall_s
        self._look_again: asyncio.TimerHandle | None = None
        self._unread = 0

    def pause_writing(self) -> None:
        """The buffer is full."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Most of the buffer was read."""
        self._calm()
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone."""
        self._calm()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP, which no application sees."""
        if isinstance(exc, HttpProcessingError):
            message = f"{status}, message: {unquoted(exc)}"
        response = super().handle_error(request, status, exc, message)
        harden(response)
        return response

    def _watch(self) -> None:
        self._unread = self._waiting()
        self._look_again = asyncio.get_running_loop().call_later(self._stall_s, self._look)

    def _look(self) -> None:
        if self.transport is None:
            return
        # A slow line is no reason: of a large piece it may take long until most of it was read.
        if self._waiting() < self._unread:
            self._watch()
        else:
            self.transport.abort()

    def _calm(self) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None

    def _waiting(self) -> int:
        """How many bytes wait to be read, here and in the kernel, which takes more of them in large portions only."""
        assert self.transport is not None
        kernel = array.array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, kernel)
        return self.transport.get_write_buffer_size() + kernel[0]

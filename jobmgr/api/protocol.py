"""One connection's HTTP as aiohttp speaks it, with an end for who reads nothing, and with our headers on errors."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from jobmgr.api.headers import harden


class Protocol(web.RequestHandler):
    """A connection, which ends when nothing is read of a full buffer for `stall_s`; `options` are aiohttp's."""

    def __init__(self, server: web.Server, *, stall_s: float, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._stall_s = stall_s
        self._stalled: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """The buffer is full."""
        super().pause_writing()
        self._stalled = asyncio.get_running_loop().call_later(self._stall_s, self._give_up)

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
        response = super().handle_error(request, status, exc, message)
        harden(response)
        return response

    def _calm(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _give_up(self) -> None:
        if self.transport is not None:
            self.transport.abort()

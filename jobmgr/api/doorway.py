"""How many connections there may be: strangers must not use up the service's file descriptors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from jobmgr.api.limits import Limits
from jobmgr.api.protocol import Protocol


class Doorway:
    """Makes the protocols of new connections with aiohttp's `options`, and keeps at most so many of them open.

    One more ends the oldest of which no request was let in yet; if all were, it ends itself.
    """

    def __init__(
        self,
        server: web.Server,
        is_admitted: Callable[[asyncio.BaseTransport], bool],
        limits: Limits,
        **options: Any,
    ) -> None:
        self._server = server
        self._is_admitted = is_admitted
        self._limits = limits
        self._options = options

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a connection that was accepted."""
        # In the order in which they came.
        there = [
            each
            for each in (one.transport for one in self._server.connections)
            if each and not each.is_closing()
        ]
        if len(there) < self._limits.most_connections:
            return self._protocol()
        for transport in there:
            if not self._is_admitted(transport):
                transport.abort()
                return self._protocol()
        return _Shut()

    def _protocol(self) -> Protocol:
        return Protocol(
            self._server,
            stall_s=self._limits.stall_s,
            keepalive_timeout=self._limits.idle_s,
            **self._options,
        )


class _Shut(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()

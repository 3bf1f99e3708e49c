"""How many connections there may be: strangers must not use up the service's file descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable

from aiohttp import web

_FALLBACK = 1000
_MOST = 10_000  # However many descriptors there may be, connections cost memory too.


class Doorway:
    """Makes the protocols of new connections, and keeps at most `most` of them open.

    One more ends the oldest of which no request was let in yet; if all were, it ends itself.
    """

    def __init__(
        self, server: web.Server, is_admitted: Callable[[asyncio.BaseTransport], bool], most: int
    ) -> None:
        self._server = server
        self._is_admitted = is_admitted
        self._most = most

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a connection that was accepted."""
        # In the order in which they came.
        there = [
            each
            for each in (one.transport for one in self._server.connections)
            if each and not each.is_closing()
        ]
        if len(there) < self._most:
            return self._server()
        for transport in there:
            if not self._is_admitted(transport):
                transport.abort()
                return self._server()
        return _Shut()


class _Shut(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def default_most() -> int:
    """Half of the file descriptors that this process may have; the other half is for its work. At most 10,000."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError, ValueError):
            import resource  # noqa: PLC0415 -- not everywhere

            most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return _FALLBACK if most == resource.RLIM_INFINITY else max(1, min(most // 2, _MOST))
    return _FALLBACK

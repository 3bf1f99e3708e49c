"""How many connections there may be: strangers must not use up the service's file descriptors."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any

from aiohttp import web

from jobmgr.api.limits import Limits
from jobmgr.api.protocol import Protocol
from jobmgr.domain.access import Principal


class Doorway:
    """Makes the protocols of new connections with aiohttp's `options`, and keeps at most so many of them open.

    One more ends the oldest of which no request was let in yet; if all were, the oldest of whoever has most of them, of
    which the service's own user is none; if all are that user's, it ends itself.
    """

    def __init__(
        self,
        server: web.Server,
        admitted: Callable[[asyncio.BaseTransport], Principal | None],
        limits: Limits,
        **options: Any,
    ) -> None:
        self._server = server
        self._admitted = admitted
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
        dispensable = self._dispensable(there)
        if dispensable is None:
            return _Shut()
        dispensable.abort()
        return self._protocol()

    def _dispensable(self, there: Sequence[asyncio.Transport]) -> asyncio.Transport | None:
        held: dict[str, list[asyncio.Transport]] = defaultdict(list)
        for transport in there:
            principal = self._admitted(transport)
            if principal is None:
                return transport
            if not principal.shows_nothing:
                # By name: several API tokens of a user make no several users.
                held[principal.name].append(transport)
        return _oldest_of_most(held.values())

    def _protocol(self) -> Protocol:
        return Protocol(
            self._server,
            stall_s=self._limits.stall_s,
            keepalive_timeout=self._limits.idle_s,
            **self._options,
        )


def _oldest_of_most(held: Collection[Sequence[asyncio.Transport]]) -> asyncio.Transport | None:
    return max(held, key=len)[0] if held else None


class _Shut(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()

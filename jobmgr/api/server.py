"""Serves the application on an address: binds, starts, and ends without waiting for slow clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import weakref
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from jobmgr.api import nonsense
from jobmgr.api.app import make_app
from jobmgr.api.browser import Browsers
from jobmgr.api.doorway import Doorway
from jobmgr.api.guard import Guard, is_loopback, own_hosts, own_uid
from jobmgr.api.limits import Limits
from jobmgr.api.socket_file import listening
from jobmgr.api.throttle import Throttle
from jobmgr.client.address import OVER_SOCKET
from jobmgr.domain.access import Principal
from jobmgr.errors import AddressUnavailable
from jobmgr.manager.manager import Manager
from jobmgr.settings import url_host

_SHUTDOWN_S = 2.0
_BACKLOG = 512
# An address may hold a thousand of our ids.
_MAX_ADDRESS_BYTES = 32 * 1024


class Server:
    """The HTTP server of a running manager. `port` 0 picks a free one; `url` tells which.

    `socket_path` is a Unix socket that leads to the same. `allowed_hosts`, `allowed_origins` and `require_token` are as
    in `Settings`.
    """

    def __init__(
        self,
        manager: Manager,
        *,
        host: str,
        port: int,
        token: str,
        socket_path: Path | None = None,
        allowed_hosts: Collection[str] = (),
        allowed_origins: Collection[str] = (),
        require_token: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self._manager = manager
        self._host = host
        self._port = port
        self._token = token
        self._socket_path = socket_path
        self._allowed_hosts = frozenset(allowed_hosts)
        self._allowed_origins = frozenset(allowed_origins)
        self._uid = None if require_token else own_uid()
        self._limits = limits or Limits()
        self._running = contextlib.AsyncExitStack()
        self._listener: socket.socket | None = None
        self._file: socket.socket | None = None
        self.url = ""

    def bind(self, until: contextlib.ExitStack | contextlib.AsyncExitStack) -> None:
        """Take the address and the socket's path, before anybody is answered there; they are given back with `until`.

        Raises AddressUnavailable, and what `socket_file.listening` raises.
        """
        self._listener = until.enter_context(_bind(self._host, self._port))
        self.url = f"http://{url_host(self._host)}:{self._listener.getsockname()[1]}"
        _leave_to_parent(self._listener)
        if self._socket_path is not None:
            self._file = until.enter_context(listening(self._socket_path))
            _leave_to_parent(self._file)

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as running:
            await self._start(running)
            self._running = running.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running.aclose()

    async def _start(self, running: contextlib.AsyncExitStack) -> None:
        # Bound first: the guard must know the port, and nobody is answered before it does.
        if self._listener is None:
            self.bind(running)
        assert self._listener is not None
        guard = self._guard(self._listener.getsockname()[1])
        # Compressed bodies are refused, so nobody has to be let in for what they would become.
        options: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "max_line_size": _MAX_ADDRESS_BYTES,
            "logger": running.enter_context(nonsense.told()),
        }
        runner = web.AppRunner(
            make_app(self._manager, guard, limits=self._limits), shutdown_timeout=_SHUTDOWN_S, **options
        )
        running.push_async_callback(runner.cleanup)
        await runner.setup()
        assert runner.server is not None
        doorway = Doorway(runner.server, guard.admitted, self._limits, **options)
        loop = asyncio.get_running_loop()
        served = await loop.create_server(doorway, sock=self._listener, backlog=_BACKLOG)
        running.callback(served.close)
        if self._file is not None:
            beside = await loop.create_unix_server(doorway, sock=self._file, backlog=_BACKLOG)
            running.callback(beside.close)

    def _guard(self, port: int) -> Guard:
        hosts = own_hosts(self._host, port, self._allowed_hosts)
        # No names stand for any name, also for that of the socket.
        if hosts and self._socket_path is not None:
            hosts |= {OVER_SOCKET}
        return Guard(
            self._token,
            self._uid,
            is_loopback(self._host),
            Browsers(hosts, self._allowed_origins),
            Principal.owner(self._manager.user),
            self._manager.principal,
            self._manager.is_known,
            throttle=Throttle(self._limits, self._manager.waiting),
        )


def _leave_to_parent(listener: socket.socket) -> None:
    """In a fork nobody answers: it would only keep the port, and connections to it hanging, until it ends."""
    this = weakref.ref(listener)

    def close() -> None:
        found = this()
        if found is not None:
            found.close()

    os.register_at_fork(after_in_child=close)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise AddressUnavailable(
            f"cannot listen on {host}:{port} ({error.strerror or error}); choose another host or port (0: any)"
        ) from error
    return listener

"""Serves the application on an address: binds, starts, and ends without waiting for slow clients."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import weakref
from types import TracebackType
from typing import Self

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from jobmgr.api.app import make_app
from jobmgr.api.doorway import Doorway, default_most
from jobmgr.api.guard import Guard, is_loopback, own_hosts, own_uid
from jobmgr.domain.access import Principal
from jobmgr.errors import AddressUnavailable
from jobmgr.manager.manager import Manager
from jobmgr.settings import url_host

_SHUTDOWN_S = 2.0


class Server:
    """The HTTP server of a running manager. `port` 0 picks a free one; `url` tells which.

    Of more than `most_connections` the oldest of strangers are ended.
    """

    def __init__(
        self, manager: Manager, *, host: str, port: int, token: str, most_connections: int | None = None
    ) -> None:
        self._manager = manager
        self._host = host
        self._port = port
        self._token = token
        self._most_connections = most_connections or default_most()
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        # Bound first: the guard must know the port, and nobody is answered before it does.
        listener = _bind(self._host, self._port)
        _leave_to_parent(listener)
        port = listener.getsockname()[1]
        self.url = f"http://{url_host(self._host)}:{port}"
        guard = Guard(
            self._token,
            own_uid(),
            is_loopback(self._host),
            own_hosts(self._host, port),
            Principal.owner(self._manager.user),
            self._manager.principal,
        )
        app = make_app(self._manager, guard)
        # Compressed bodies are refused, so nobody has to be let in for what they would become.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=_SHUTDOWN_S,
            auto_decompress=False,
            logger=_protocol_logger(),
        )
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        doorway = Doorway(server, guard.has_admitted, self._most_connections)
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(doorway, sock=listener, backlog=512)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listening is not None:
            self._listening.close()
        if self._runner is not None:
            await self._runner.cleanup()


def _leave_to_parent(listener: socket.socket) -> None:
    """In a fork nobody answers: it would only keep the port, and connections to it hanging, until it ends."""
    this = weakref.ref(listener)

    def close() -> None:
        found = this()
        if found is not None:
            found.close()

    os.register_at_fork(after_in_child=close)


def _protocol_logger() -> logging.Logger:
    found = logging.getLogger(f"{__name__}.protocol")
    found.addFilter(_without_traceback)
    return found


def _without_traceback(record: logging.LogRecord) -> bool:
    """Say in one line what was no HTTP: anybody can send it, and it is no fault of the service."""
    error = record.exc_info[1] if record.exc_info else None
    if record.levelno >= logging.ERROR and isinstance(error, HttpProcessingError):
        said = " ".join(str(error.message).split())[:200]
        record.msg, record.args = "a connection ends, what came is not HTTP: %s", (said,)
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.exc_info = record.exc_text = None
    return True


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
            f"cannot listen on {host}:{port} ({error.strerror or error}); choose another with --host and --port"
        ) from error
    return listener

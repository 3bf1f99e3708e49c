"""A network between a service and its PostgreSQL, of which a test decides when it breaks, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from tests.postgresql import SUPERUSER, Cluster

_CHUNK_BYTES = 65536
# How the driver begins and ends a transaction.
_BEGIN = b"BEGIN"
_READS_ONLY = b"READ ONLY"
_LONGEST_HEAD = 10  # a letter, a length, the first word
_COMMIT = b"COMMIT;\0"


class Cut(StrEnum):
    """At which side of a commit a connection is cut."""

    BEFORE = "before the server has it"
    AFTER = "after the server did it, and before the service knows"


class Proxy:
    """Forwards connections from a port of this machine to a server's socket."""

    def __init__(self, cluster: Cluster) -> None:
        self.cuts = 0
        self._socket = str(cluster.directory / ".s.PGSQL.5432")
        self._links: set[_Link] = set()
        self._is_silent = False
        self._silent_at: bytes | None = None
        self._cut: Cut | None = None
        self._each = 1
        self._commits = 0
        self._server: asyncio.Server | None = None

    def url(self, url: str) -> str:
        """The address of the database at `url`, by way of this network."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"postgresql://{SUPERUSER}@127.0.0.1:{port}/{sa.make_url(url).database}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        while self._links:
            links = list(self._links)
            for link in links:
                link.cut()
            await asyncio.gather(*(link.gone.wait() for link in links))

    @property
    def connections(self) -> int:
        """How many there are now, silent ones among them."""
        return len(self._links)

    def silence(self) -> None:
        """From now on nothing arrives and nothing ends, on old connections and on new ones."""
        self._is_silent = True
        for link in self._links:
            link.is_silent = True

    def silence_at(self, statement: bytes) -> None:
        """Fall silent when a statement with these words passes."""
        self._silent_at = statement

    def restore(self) -> None:
        """Let new connections through; those that fell silent stay so, as after a failover."""
        self._is_silent = False
        self._silent_at = None

    @contextmanager
    def cutting(self, side: Cut, each: int) -> Iterator[None]:
        """Meanwhile cut the connection of every `each`-th transaction that writes, at its commit."""
        self._cut, self._each = side, each
        try:
            yield
        finally:
            self._cut = None

    def passes(self, data: bytes) -> None:
        """Look at what a client asks."""
        if self._silent_at is not None and self._silent_at in data:
            self.silence()

    def cut_now(self) -> Cut | None:
        """Whether the commit that passes now is one to cut."""
        if self._cut is None:
            return None
        self._commits += 1
        if self._commits % self._each:
            return None
        self.cuts += 1
        return self._cut

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, writer)
        link.is_silent = self._is_silent
        self._links.add(link)
        try:
            await link.run(reader, self._socket)
        finally:
            self._links.discard(link)


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter) -> None:
        self.is_silent = False
        self.gone = asyncio.Event()
        self._proxy = proxy
        self._client = client
        self._server: asyncio.StreamWriter | None = None
        self._over = asyncio.Event()
        self._is_writing = False
        self._swallows = False

    def cut(self) -> None:
        """End it at both sides."""
        self._over.set()

    async def run(self, client: asyncio.StreamReader, socket: str) -> None:
        """Forward until one side ends it, or it is cut."""
        pumps: list[asyncio.Task[None]] = []
        try:
            server, self._server = await asyncio.open_unix_connection(socket)
            pumps = [
                asyncio.create_task(self._ask(client, self._server)),
                asyncio.create_task(self._answer(server)),
            ]
            await self._over.wait()
        except OSError:
            pass  # no server: the client sees its connection end
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for writer in (self._client, self._server):
                if writer is not None:
                    writer.transport.abort()
            self.gone.set()

    async def _ask(self, client: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        while data := await client.read(_CHUNK_BYTES):
            self._proxy.passes(data)
            if self.is_silent:
                continue
            # The driver waits for each of its answers, so a commit comes alone.
            if _BEGIN in data[:_LONGEST_HEAD]:
                self._is_writing = _READS_ONLY not in data
            elif data.endswith(_COMMIT) and self._is_writing:
                self._is_writing = False
                cut = self._proxy.cut_now()
                if cut is Cut.BEFORE:
                    break
                self._swallows = cut is Cut.AFTER
            server.write(data)
        await self._end()

    async def _answer(self, server: asyncio.StreamReader) -> None:
        while data := await server.read(_CHUNK_BYTES):
            if self.is_silent:
                continue
            if self._swallows:
                break
            self._client.write(data)
        await self._end()

    async def _end(self) -> None:
        # The end of one side is not seen at the other when nothing arrives any more.
        if not self.is_silent:
            self.cut()

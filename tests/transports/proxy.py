"""A network between a client and an SSH server, of which a test decides when it breaks, and how."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 65536


class Proxy:
    """Forwards connections from a port of this machine to another one."""

    def __init__(self, port: int) -> None:
        self.connections = 0
        self._target = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._passes: int | None = None
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where clients connect to."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def silence(self) -> None:
        """From now on nothing arrives and nothing ends, as behind a firewall that forgot the connection."""
        self._flows.clear()

    def restore(self) -> None:
        """Let all through, late as it is; a silence that has not come will not come."""
        self._passes = None
        self._flows.set()

    def silence_after(self, count: int) -> None:
        """Fall silent when this many more bytes came from clients."""
        self._passes = count

    def cut(self) -> None:
        """End all connections, and with them what is on its way."""
        for writer in self._writers:
            writer.transport.abort()
        self._flows.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        pair = {writer, back}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, back, is_client=True))
                pumps.create_task(self._pump(there, writer, is_client=False))
        except* OSError:
            pass  # Cut.
        finally:
            self._writers -= pair
            for end in pair:
                end.transport.abort()
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_client: bool
    ) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            if is_client and self._passes is not None:
                self._passes -= len(data)
                if self._passes < 0:
                    self._passes = None
                    self.silence()
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
        await self._flows.wait()
        writer.transport.abort()

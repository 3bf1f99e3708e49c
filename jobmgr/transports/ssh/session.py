"""One command over a connection."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Any

import asyncssh

from jobmgr.transports.output import Output
from jobmgr.transports.transport import OUTPUT_MAX_BYTES

_UNKNOWN_SIGNAL = 255


class Session(asyncssh.SSHClientSession[bytes]):
    """`has_begun`: the command may have been sent; `started`: its process is known (`pid`); `settled`: nothing more
    is waited for; `gone`: its channel is closed."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.has_begun = False
        self.pid: int | None = None
        self.started = asyncio.Event()
        self.settled = asyncio.Event()
        self.gone = asyncio.Event()
        self.exit_code: int | None = None
        self.has_end = False
        self.trouble = ""
        self._is_abandoned = False
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None

    def feed(self, data: bytes) -> None:
        """All that it reads."""
        assert self._channel is not None
        # It may have ended without reading.
        with contextlib.suppress(OSError):
            self._channel.write(data)
            self._channel.write_eof()

    @property
    def runs(self) -> bool:
        """Whether its program may still be at it."""
        return self.has_begun and self.exit_code is None and not self.gone.is_set()

    def abandon(self) -> None:
        """Have no more to do with it."""
        self._is_abandoned = True
        if self._channel is not None and not self.gone.is_set():
            self._channel.close()

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """The server gave us a channel; the command is sent next."""
        self._channel = chan
        if self._is_abandoned:
            chan.close()  # Over a closed channel no command is sent.
            return
        self.has_begun = True

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """It wrote."""
        self.output.add(data, is_stderr=datatype == asyncssh.EXTENDED_DATA_STDERR)
        if self.pid is None:
            self.pid = self.output.pid
            if self.pid is not None:
                self.started.set()
        if self.output.is_too_much:
            self.trouble = f"it wrote more than {OUTPUT_MAX_BYTES} bytes"
            self.settled.set()

    def eof_received(self) -> bool:
        """It closed its output, and so did all that it started."""
        self.has_end = True
        return True

    def exit_status_received(self, status: int) -> None:
        """It exited."""
        self.exit_code = status

    def exit_signal_received(self, name: str, *_details: object) -> None:
        """A signal ended it."""
        self.exit_code = _code_of(name)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The channel is closed: by the server, in order, or because the connection is gone."""
        for event in (self.gone, self.settled, self.started):
            event.set()


def _code_of(name: str) -> int:
    number: Any = getattr(signal, f"SIG{name}", None)
    return 128 + int(number) if isinstance(number, signal.Signals) else _UNKNOWN_SIGNAL

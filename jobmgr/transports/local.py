"""Commands of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import Mapping
from typing import cast

from jobmgr.dialects.dialect import Answer, Command
from jobmgr.errors import SiteUnreachable
from jobmgr.settings import clean_environment
from jobmgr.transports.output import Output
from jobmgr.transports.transport import OUTPUT_MAX_BYTES, encoded, encoded_stdin

_NOT_FOUND = 127
_NOT_STARTABLE = 126
_GONE_WITHIN_S = 5.0
# What says something of the program, and nothing of this machine's state.
_OF_THE_PROGRAM = {
    errno.ENOENT: _NOT_FOUND,
    errno.ENOTDIR: _NOT_FOUND,
    errno.EACCES: _NOT_STARTABLE,
    errno.EPERM: _NOT_STARTABLE,
    errno.ENOEXEC: _NOT_STARTABLE,
    errno.E2BIG: _NOT_STARTABLE,
    errno.ELOOP: _NOT_STARTABLE,
    errno.ENAMETOOLONG: _NOT_STARTABLE,
}


class LocalTransport:
    """Runs commands in sessions of their own, with `environ` less the service's own settings and secrets."""

    host = "this machine"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environment = {**clean_environment(environ), "LC_ALL": "C"}
        self._programs: set[_Program] = set()
        self._is_closed = False

    async def run(self, command: Command, timeout_s: float) -> Answer:
        """As the contract says."""
        arguments, stdin = encoded(command), encoded_stdin(command)
        if self._is_closed:
            raise SiteUnreachable(self.host, "it was closed")
        program = _Program()
        self._programs.add(program)
        try:
            await self._start(program, arguments, has_stdin=bool(stdin))
            await self._hear(program, stdin, timeout_s)
        except OSError as error:
            return self._not_started(command, error)
        finally:
            await self._end(program)
        return program.answer()

    async def close(self) -> None:
        """As the contract says."""
        self._is_closed = True
        for program in self._programs:
            program.trouble = "the service let this machine go"
            program.settled.set()
        while self._programs:
            await asyncio.gather(*(program.gone.wait() for program in self._programs))
            await asyncio.sleep(0)  # Whoever waits for it takes it off the list.

    async def _start(self, program: _Program, arguments: list[bytes], *, has_stdin: bool) -> None:
        loop = asyncio.get_running_loop()
        starting = asyncio.ensure_future(
            loop.subprocess_exec(
                lambda: program,
                *arguments,
                stdin=asyncio.subprocess.PIPE if has_stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd="/",
                env=self._environment,
                start_new_session=True,
                preexec_fn=None if isinstance(loop, asyncio.BaseEventLoop) else _keep_nothing_open,
            )
        )
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # Once it is started it is ended as any other program. If the start itself was cancelled, because the loop
            # is closed, asyncio (3.11) waits for the end of streams that are not connected yet and never will be: for
            # ever, unless it is cancelled again.
            is_cancelled_too = starting.cancelling() > 0
            try:
                await asyncio.wait([starting], timeout=0 if is_cancelled_too else _GONE_WITHIN_S)
            finally:
                starting.cancel()
            raise

    async def _hear(self, program: _Program, stdin: bytes, timeout_s: float) -> None:
        program.feed(stdin)
        try:
            async with asyncio.timeout(timeout_s):
                await program.settled.wait()
        except TimeoutError:
            program.trouble = f"no answer within {timeout_s:g} s" + program.remains()

    def _not_started(self, command: Command, error: OSError) -> Answer:
        exit_code = _OF_THE_PROGRAM.get(error.errno or 0)
        if exit_code is None:
            raise SiteUnreachable(self.host, f"no process can be started: {error.strerror}") from error
        return Answer(exit_code, stderr=f"{command.argv[0]}: {error.strerror}")

    async def _end(self, program: _Program) -> None:
        program.end()
        try:
            # A process in the middle of a broken file system may not even hear a KILL.
            async with asyncio.timeout(_GONE_WITHIN_S):
                await program.gone.wait()
        except TimeoutError:
            program.abandon()
        finally:
            self._programs.discard(program)


def _keep_nothing_open() -> None:
    """Let a program have its three streams only; runs in its process, before they are put in their places.

    uvloop leaves its own ends of streams open there, also those of other programs: what a program leaves running would
    keep them open, and who reads them would wait for it.
    """
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):
            os.set_inheritable(int(name), False)  # noqa: FBT003


class _Program(asyncio.SubprocessProtocol):
    """One run of a program. `settled`: nothing more is waited for; `gone`: it is reaped, its pipes are closed."""

    def __init__(self) -> None:
        self.settled = asyncio.Event()
        self.gone = asyncio.Event()
        self.trouble = ""
        self._output = Output()
        self._open = {1, 2}
        self._exit_code: int | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._is_unwanted = False

    def feed(self, data: bytes) -> None:
        """All that it reads, unless it does not read any more."""
        assert self._transport is not None
        pipe = cast("asyncio.WriteTransport | None", self._transport.get_pipe_transport(0))
        if pipe is not None and not pipe.is_closing():
            pipe.write(data)
            pipe.close()

    def remains(self) -> str:
        """What is still there though the program has ended, in words."""
        if self._exit_code is None:
            return ""
        return f": it ended with {self._exit_code}, but what it left running holds its output open"

    def answer(self) -> Answer:
        """What is known of it."""
        return self._output.answer(None if self.trouble else self._exit_code, self.trouble)

    def end(self) -> None:
        """Close the pipes; if it has not ended kill it with its process group, and close them when it is reaped.

        Not before: asyncio's transport asks for the end of its process, and takes it from who waits for it.
        """
        if self._transport is None:  # It was not started.
            self.gone.set()
            return
        self._is_unwanted = True
        # Only while it is not reaped: later its number may be that of a stranger's group.
        if self._exit_code is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._transport.get_pid(), signal.SIGKILL)
        else:
            self._transport.close()

    def abandon(self) -> None:
        """Close the pipes of what cannot be killed."""
        assert self._transport is not None
        self._transport.close()
        self.gone.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was started."""
        # Only cast: uvloop's does not say that it is one.
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It wrote."""
        self._output.add(data, is_stderr=fd == 2)
        if self._output.is_too_much:
            self.trouble = f"it wrote more than {OUTPUT_MAX_BYTES} bytes"
            self.settled.set()

    def pipe_connection_lost(self, fd: int, _exc: Exception | None) -> None:
        """It closed one of its streams, and so did all that it started."""
        self._open.discard(fd)
        self._settle()

    def process_exited(self) -> None:
        """It ended."""
        assert self._transport is not None
        code = self._transport.get_returncode()
        assert code is not None
        self._exit_code = code if code >= 0 else 128 - code
        if self._is_unwanted:
            self._transport.close()
        self._settle()

    def connection_lost(self, _exc: Exception | None) -> None:
        """It ended and its streams are closed."""
        self.gone.set()

    def _settle(self) -> None:
        if self._exit_code is not None and not self._open:
            self.settled.set()

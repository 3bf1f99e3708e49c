"""Commands of a host over SSH."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Coroutine
from typing import Any, cast

import asyncssh

from jobmgr.dialects import quoting
from jobmgr.dialects.dialect import Answer, Command
from jobmgr.errors import InvalidRequest, SiteUnreachable
from jobmgr.transports.output import Output
from jobmgr.transports.ssh.connection import Connection
from jobmgr.transports.ssh.lanes import QueueFull
from jobmgr.transports.ssh.login import Login
from jobmgr.transports.ssh.session import Session
from jobmgr.transports.transport import encoded, encoded_stdin

# A shell gets its script as one argument, for which Linux has 128 KiB (MAX_ARG_STRLEN, execve(2)).
_LINE_MAX_BYTES = 120 * 1024
_GONE_WITHIN_S = 2.0
_TIDIED_WITHIN_S = 0.1


class SshTransport:
    """Runs commands on `host` by the login shell of the user there, which has to be a POSIX shell.

    Others may run theirs over the same connection.
    """

    def __init__(self, connection: Connection) -> None:
        self.host = connection.host
        self._connection = connection
        self._connection.take()
        self._sessions: set[Session] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    async def run(self, command: Command, timeout_s: float) -> Answer:
        """As the contract says; waits for its turn and the connection at most `timeout_s`, too."""
        mark = secrets.token_hex(16)
        line, stdin = _line(command, mark), encoded_stdin(command)
        loop = asyncio.get_running_loop()
        starts_until = loop.time() + timeout_s
        while True:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    async with asyncio.timeout_at(starts_until):
                        await stack.enter_async_context(self._connection.lanes.lane())
                        login = await self._logged_in()
                    # A session counts until the server has tidied up, a moment after it was closed.
                    for pause_s in (_TIDIED_WITHIN_S, 0.0):
                        session = Session(Output(mark))
                        if await self._exchange(login, session, line, stdin, timeout_s):
                            return self._judged(login, session)
                        await asyncio.sleep(pause_s)
                    if not self._connection.lanes.narrow():
                        # None of ours is open, so its places are taken by what it does not know to be over.
                        await login.close()
                        raise SiteUnreachable(self.host, "it gives no session")
            except TimeoutError as error:
                what = "it was not its turn" if self._connection.is_open else "no connection"
                raise SiteUnreachable(self.host, f"{what} within {timeout_s:g} s") from error
            except QueueFull as error:
                raise SiteUnreachable(self.host, "too many commands wait for it; try again later") from error

    async def close(self) -> None:
        """As the contract says."""
        if self._is_closed:
            return
        self._is_closed = True
        for session in self._sessions:
            session.trouble = "the service let this host go"
            session.settled.set()
        await self._all_gone()
        await self._connection.let_go()
        if self._tasks:
            # Over a connection that others have, too, a host that is silent may keep them longer.
            await asyncio.wait(self._tasks, timeout=_GONE_WITHIN_S)

    async def _all_gone(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GONE_WITHIN_S):
                for session in list(self._sessions):
                    if session.has_begun:
                        await session.gone.wait()

    async def _logged_in(self) -> Login:
        self._insist_open()
        login = await self._connection.opened()
        self._insist_open()
        return login

    def _insist_open(self) -> None:
        if self._is_closed:
            raise SiteUnreachable(self.host, "it was closed")

    # One command

    async def _exchange(
        self, login: Login, session: Session, line: bytes, stdin: bytes, timeout_s: float
    ) -> bool:
        """Send the command and wait for its end. False: the server has no session for it now, so it may go again."""
        opening = self._task(_open(login, session, line))
        self._sessions.add(session)
        try:
            async with asyncio.timeout(timeout_s):
                # Not cancelled when time is up: what the server opens late has to be closed again.
                await asyncio.shield(opening)
                session.feed(stdin)
                await session.settled.wait()
        except TimeoutError as error:
            if not session.has_begun:
                raise SiteUnreachable(self.host, f"it gave no session within {timeout_s:g} s") from error
            session.trouble = f"no answer within {timeout_s:g} s"
        except (asyncssh.Error, OSError) as error:
            return self._not_opened(login, session, error)
        finally:
            burial = self._task(self._bury(login, session))
        # Only then its place at the server is free.
        await asyncio.wait([burial])
        return True

    async def _bury(self, login: Login, session: Session) -> None:
        """Kill what still runs, with its process group, and have no more to do with it.

        The protocol has signals, but servers before OpenSSH 7.9 do not pass them on, and later ones not for root; so
        it takes a session of its own, if the server has one to spare.
        """
        try:
            async with asyncio.timeout(_GONE_WITHIN_S):
                if session.runs:
                    await session.started.wait()
                if session.runs:
                    # sshd starts each command as the leader of a session.
                    line = f"kill -9 -{session.pid} 2>/dev/null || kill -9 {session.pid}"
                    await _open(login, Session(Output()), line.encode())
                    await session.gone.wait()
        finally:
            self._sessions.discard(session)
            session.abandon()

    def _task(self, opening: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Something that goes on when nobody waits for it any more; `close` does."""
        task = asyncio.create_task(opening)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Whoever still waits for it has it too.

    def _not_opened(self, login: Login, session: Session, error: Exception) -> bool:
        if session.has_begun and (session.gone.is_set() or not login.is_open):
            session.trouble = f"the connection broke: {error}"
            return True
        if session.has_begun:
            raise SiteUnreachable(self.host, f"it starts no commands: {error}") from error
        if login.is_open and isinstance(error, asyncssh.ChannelOpenError):
            return False
        raise SiteUnreachable(self.host, f"it gives no session: {error}") from error

    def _judged(self, login: Login, session: Session) -> Answer:
        output, code = session.output, session.exit_code
        if session.trouble:
            return output.answer(None, session.trouble)
        # A close in order says that all has come; one with the connection says nothing.
        if code is None or not (session.has_end or login.is_open):
            return output.answer(None, "the connection broke")
        if session.pid is None:
            noise = output.answer(None)
            words = " ".join((noise.stdout + " " + noise.stderr).split())[:300]
            raise SiteUnreachable(
                self.host,
                f"the login shell of the user ended with {code} before it came to the command ({words!r}); it has to "
                f"be a POSIX shell that runs what it is given",
            )
        return output.answer(code)


async def _open(login: Login, session: Session, line: bytes) -> None:
    # Typed as text, but sent as it is: file names need not be UTF-8.
    await login.connection.create_session(
        lambda: session, cast("str", line), env={}, send_env=[], request_pty=False, encoding=None
    )


def _line(command: Command, mark: str) -> bytes:
    """What the login shell runs. Raises InvalidRequest for what is too long for it.

    What the shell's own start-up files write comes before the mark. A shell that shows what it runs (`set -x`) shows
    it without the number behind it. csh does not know `$(( ))`, and stops before it runs anything.
    """
    encoded(command)
    show = f"printf '%s%s;' {mark} $(($$))"
    text = f"{show}; {show} >&2; export LC_ALL=C; exec {quoting.words(command.argv)}"
    line = text.encode("utf-8", "surrogateescape")
    if len(line) > _LINE_MAX_BYTES:
        raise InvalidRequest("command", f"it has {len(line)} bytes, more than a login shell takes")
    return line

"""A program of this machine, run to its end by a caller who waits, and with nothing of it left behind.

As `subprocess.run`, except for what a program starts: `subprocess.run` ends the program alone at a timeout or an
interrupt, and waits for all who hold its output open. A solver's engines would run on, or be waited for.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from jobmgr.errors import ExecutorUnavailable
from jobmgr.executors import process
from jobmgr.executors.process import ProcessStat

# Not that of an attempt: a simulation may be a part of one, by whose token it has to be found too.
_VARIABLE = "JOBMGR_PROGRAM_TOKEN"
_GRACE_S = 5.0
_KILLED_WITHIN_S = 10.0
_PAUSE_S = 0.05
_LONGEST_MS = 2**31 - 1


def run(
    argv: Sequence[str],
    *,
    timeout: float | None = None,
    check: bool = False,
    input: str | bytes | None = None,  # noqa: A002 - the names are those of subprocess.run
    capture_output: bool = True,
    text: bool | None = True,
    encoding: str | None = "utf-8",
    errors: str | None = "replace",
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run `argv` and answer as `subprocess.run` does, whose keywords these are; others go to `subprocess.Popen`.

    Output that is captured is kept in files until the end, decoded with replacements unless `text` is False. Raises
    subprocess.TimeoutExpired after `timeout` s, CalledProcessError if `check`, OSError if it cannot be started, and
    ExecutorUnavailable on systems that do not tell who started whom.
    """
    if not process.may_adopt_orphans:
        raise ExecutorUnavailable("what a program leaves behind can only be found and ended on Linux")
    token = secrets.token_hex(16)
    environment = {**(os.environ if env is None else env), _VARIABLE: token}
    is_text = bool(text or options.pop("universal_newlines", False))
    read = _Reader(encoding or "utf-8", errors or "strict") if is_text else _Reader(None, "")
    with contextlib.ExitStack() as files:
        streams: dict[str, IO[bytes]] = {}
        for name in ("stdout", "stderr"):
            if options.get(name, subprocess.PIPE if capture_output else None) == subprocess.PIPE:
                options[name] = streams[name] = files.enter_context(tempfile.TemporaryFile())
        options.setdefault("stdin", subprocess.DEVNULL)
        if input is not None:
            options["stdin"] = files.enter_context(_filled(input, read.encoding or "utf-8"))
        with subprocess.Popen(argv, env=environment, start_new_session=True, **options) as leader:
            exit_code, is_late = _await(leader, token, timeout)
        out, err = (read.all_of(streams.get(name)) for name in ("stdout", "stderr"))
    if is_late:
        assert timeout is not None
        raise subprocess.TimeoutExpired(argv, timeout, output=out, stderr=err)
    if check and exit_code:
        raise subprocess.CalledProcessError(exit_code, argv, out, err)
    return subprocess.CompletedProcess(argv, exit_code, out, err)


class _Reader:
    """Reads what was written, as bytes or text."""

    def __init__(self, encoding: str | None, errors: str) -> None:
        self.encoding = encoding
        self._errors = errors

    def all_of(self, stream: IO[bytes] | None) -> str | bytes | None:
        """From its beginning; None of what was not captured."""
        if stream is None:
            return None
        stream.seek(0)
        data = stream.read()
        if self.encoding is None:
            return data
        return data.decode(self.encoding, self._errors).replace("\r\n", "\n").replace("\r", "\n")


def _filled(data: str | bytes, encoding: str) -> IO[bytes]:
    stream: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    stream.write(data.encode(encoding) if isinstance(data, str) else data)
    stream.seek(0)
    return stream


def _await(leader: subprocess.Popen[Any], token: str, timeout: float | None) -> tuple[int, bool]:
    """How it ended, and whether it was late. However that is left, nothing of it runs any more."""
    try:
        is_late = not _has_ended(leader, timeout)
    finally:
        _Tree(leader.pid, token).end()
    return leader.wait(), is_late


def _has_ended(leader: subprocess.Popen[Any], timeout: float | None) -> bool:
    """Wait without reaping it: while it is there its number stays that of its session."""
    with open(os.pidfd_open(leader.pid), "rb", closefd=True) as handle:
        end = select.poll()
        end.register(handle, select.POLLIN)
        return bool(end.poll(None if timeout is None else min(timeout * 1000, _LONGEST_MS)))


class _Tree:
    """All that a program started, as far as it shows: by parents, session, or its environment."""

    def __init__(self, session: int, token: str) -> None:
        self._session = session
        self._token = token.encode()
        # Who was seen once is known, though its parent ends and its own children get another one.
        self._seen: dict[tuple[int, int], ProcessStat] = {}

    def end(self) -> None:
        """TERM and CONT, after a grace KILL, until nothing is left."""
        try:
            self._send_until_gone((signal.SIGTERM, signal.SIGCONT), _GRACE_S)
        finally:
            # Also if somebody is impatient and interrupts again.
            self._send_until_gone((signal.SIGKILL,), _KILLED_WITHIN_S)

    def _send_until_gone(self, signals: Iterable[signal.Signals], within_s: float) -> None:
        asked: set[tuple[int, int]] = set()
        deadline = time.monotonic() + within_s
        while members := self._members():
            process.send_signals((stat for stat in members if _key(stat) not in asked), *signals)
            asked.update(_key(stat) for stat in members)
            if time.monotonic() > deadline:
                return
            time.sleep(_PAUSE_S)

    def _members(self) -> list[ProcessStat]:
        living = process.living_processes()
        roots = {stat.pid for stat in living if self._is_known(stat)}
        members = process.below(roots, living)
        self._seen.update({_key(stat): stat for stat in members})
        return members

    def _is_known(self, stat: ProcessStat) -> bool:
        return (
            _key(stat) in self._seen
            or stat.session == self._session
            or process.variable_of(stat.pid, _VARIABLE) == self._token
        )


def _key(stat: ProcessStat) -> tuple[int, int]:
    return stat.pid, stat.start_ticks

"""The keepers at this service's disposal: its warden, the idle ones, and new ones on demand."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jobmgr
from jobmgr import fault
from jobmgr.errors import ExecutorUnavailable
from jobmgr.executors import sockets
from jobmgr.executors.command import open_output
from jobmgr.executors.links import Link, connect
from jobmgr.executors.messages import Message

logger = logging.getLogger(__name__)

# A Unix socket's path is limited to 107 bytes on Linux and 103 on macOS; the names in it take up to 15.
_SHORT = Path("/tmp")  # noqa: S108 -- not TMPDIR: that may be long too, and another one for who looks later
_SOCKET_DIRECTORY_MAX_BYTES = 85
_STALE_AFTER_S = 60.0
_FORKED_AT_ONCE = 50
_WARDEN_STARTS_WITHIN_S = 30.0
# The warden is started without site packages and without the service's environment: it needs the standard
# library only, starts in a few milliseconds, and holds none of the service's secrets.
_WARDEN_CODE = (
    "import sys; sys.path.append(sys.argv.pop(1)); from jobmgr.executors.warden import main; main()"
)


class Crew:
    """Keepers are reused; those that were idle for `idle_keeper_s` are let go."""

    def __init__(
        self,
        work_dir: Path,
        hello: Message,
        *,
        idle_keeper_s: float,
        descriptor_limit: int,
        on_message: Callable[[Link, Message], None],
        on_lost: Callable[[Link], None],
    ) -> None:
        self._work_dir = work_dir
        self._hello = hello
        self._idle_keeper_s = idle_keeper_s
        self._descriptor_limit = descriptor_limit
        self._on_message = on_message
        self._on_lost = on_lost
        self._warden: Link | None = None
        self._members: set[Link] = set()
        self._idle: list[Link] = []
        self._forking = asyncio.Lock()
        self.trouble = "no keeper could be started"  # Why the last ones were not.
        self._trim_timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Start the warden. Raises ExecutorUnavailable."""
        try:
            path = await asyncio.to_thread(_start_warden, self._work_dir, self._descriptor_limit)
            self._warden = await connect(path, _ignore, self._warden_lost)
        except (OSError, subprocess.SubprocessError) as error:
            raise ExecutorUnavailable(f"no warden could be started for {self._work_dir}: {error}") from error
        self._trim_later()

    async def stop(self) -> None:
        """Let all keepers and the warden go; those with a command run on."""
        if self._trim_timer is not None:
            self._trim_timer.cancel()
        for link in (*self._members, self._warden):
            if link is not None:
                link.close()
        self._members.clear()
        self._idle.clear()
        self._warden = None
        await asyncio.sleep(0)  # The transports close in the loop's next round.

    def take_idle(self) -> Link | None:
        """A keeper without a command, the one that worked last (its memory is warm)."""
        return self._idle.pop() if self._idle else None

    async def fork(self, count: int) -> list[Link]:
        """Up to `count` new keepers; fewer if the system refuses, `trouble` says why."""
        links: list[Link] = []
        async with self._forking:
            while len(links) < count:
                wanted = min(count - len(links), _FORKED_AT_ONCE)
                new = await self._fork_some(wanted)
                links += new
                if len(new) < wanted:
                    break
        return links

    async def _fork_some(self, count: int) -> list[Link]:
        # Few enough that the warden answers in time, and that each is greeted before it gives up.
        try:
            if self._warden is None:
                await self.start()
            assert self._warden is not None
            answer = await self._warden.ask({"op": "fork", "count": count})
            paths: list[str] = answer["sockets"]
        except (OSError, ExecutorUnavailable) as error:
            self.trouble = f"no keeper could be started by the warden: {error}"
            self._dismiss_warden()
            return []
        if len(paths) < count:
            log = self._work_dir / "keepers.log"
            self.trouble = f"the system lets the warden fork no more keepers, {log} says why"
        found = await asyncio.gather(*map(self._greet, paths), return_exceptions=True)
        links = [link for link in found if isinstance(link, Link)]
        for failure in found:
            if isinstance(failure, BaseException):
                self.trouble = f"a new keeper did not answer: {failure}"
                logger.warning(self.trouble)
        if len(paths) < count:
            self._dismiss_warden()
        return links

    def release(self, link: Link) -> None:
        """The attempt of this keeper is over; it may have the next one."""
        link.token = None
        if link not in self._members or link.is_closed:
            link.close()
            return
        link.idle_since = time.monotonic()
        self._idle.append(link)

    def dismiss(self, link: Link) -> None:
        """This keeper could not start its attempt; whatever ails it (a job may have put limits on it), it ends."""
        link.token = None
        self.forget(link)
        link.close()

    def forget(self, link: Link) -> None:
        """This keeper is gone."""
        self._members.discard(link)
        with contextlib.suppress(ValueError):
            self._idle.remove(link)

    async def _greet(self, path: str) -> Link:
        link = await connect(path, self._on_message, self._on_lost)
        link.send(self._hello)
        self._members.add(link)
        return link

    def _dismiss_warden(self) -> None:
        """It does not serve: stopped, or limited by a job (`prlimit`). The next keepers come from a new one.

        Like a warden that is gone it leaves commands and keepers at work as they are; a late answer goes nowhere.
        """
        if self._warden is not None:
            self._warden.close()
            self._warden_lost(self._warden)

    def _warden_lost(self, _link: Link) -> None:
        logger.warning(
            "the warden is gone or does not serve; its keepers finish what they have, and a new one is started"
        )
        self._warden = None
        # Nobody stands behind these keepers any more, so they get no further commands.
        for link in self._idle:
            link.close()
        self._idle.clear()
        self._members.clear()

    def _trim_later(self) -> None:
        if self._trim_timer is not None:
            self._trim_timer.cancel()
        self._trim_timer = asyncio.get_running_loop().call_later(
            max(self._idle_keeper_s / 2, 0.05), self._trim
        )

    def _trim(self) -> None:
        horizon = time.monotonic() - self._idle_keeper_s
        # The list is a stack, so those that were idle longest are at its bottom.
        while self._idle and self._idle[0].idle_since < horizon:
            link = self._idle.pop(0)
            self._members.discard(link)
            link.close()
        self._trim_later()


def _ignore(_link: Link, _message: Message) -> None:
    """The warden only answers."""


def _start_warden(work_dir: Path, descriptor_limit: int) -> str:
    """Start a warden in a session of its own; the path of its socket. Blocks some 20 ms."""
    directory = _make_socket_directory(work_dir)
    path = os.path.join(directory, f"w-{os.urandom(6).hex()}")
    log_path = work_dir / "keepers.log"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
        open(open_output(str(log_path), 0o600), "ab") as log,
    ):
        listener.bind(path)
        listener.listen(64)
        root = str(Path(jobmgr.__file__).resolve().parent.parent)
        argv = [sys.executable, "-I", "-S", "-c", _WARDEN_CODE, root]
        argv += [str(listener.fileno()), str(descriptor_limit), directory]
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={"PATH": os.defpath, **fault.environment()},
            pass_fds=(listener.fileno(),),
            start_new_session=True,
        ) as starter:
            if starter.wait(_WARDEN_STARTS_WITHIN_S) != 0:
                raise OSError(f"it ended with status {starter.returncode}, see {log_path}")
    return path


def socket_directory(work_dir: Path) -> Path:
    """`<work>/sockets`, or a private directory of our user if that path is too long for a socket."""
    directory = work_dir / "sockets"
    if len(os.fsencode(directory)) > _SOCKET_DIRECTORY_MAX_BYTES:
        digest = hashlib.sha256(os.fsencode(work_dir)).hexdigest()[:12]
        directory = _SHORT / f"jobmgr-{os.getuid()}-{digest}"
    return directory


def _make_socket_directory(work_dir: Path) -> str:
    directory = socket_directory(work_dir)
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(
            f"{directory} must be a directory that only its owner, our user, may enter; remove it"
        )
    _remove_stale(directory)
    return str(directory)


def _remove_stale(directory: Path) -> None:
    """Remove sockets that nobody listens on: a killed process leaves its own behind."""
    listening = sockets.listeners()
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if str(path) in listening:
                continue  # Not connected to: a keeper would hang up on its service for us.
            if time.time() - path.stat().st_mtime < _STALE_AFTER_S:
                continue  # Perhaps bound this moment and not listening yet.
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(0)
                try:
                    probe.connect(str(path))
                except ConnectionRefusedError:
                    path.unlink()
                except OSError:
                    continue

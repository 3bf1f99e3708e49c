"""The file of a Unix socket: made for its owner only, never in the place of another one's, gone at the end."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from jobmgr.errors import AddressUnavailable


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that listens at `path`, which it leaves at the end if it is still its own.

    A socket there that nobody listens at, of this user, is replaced. Raises AddressUnavailable for all else.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made = _bind(listener, path)
        try:
            yield listener
        finally:
            if _identity(path) == made:
                path.unlink()
    finally:
        listener.close()


def _bind(listener: socket.socket, path: Path) -> tuple[int, int] | None:
    # The file gets the socket's mode, so it is never open to others, not even for a moment (unix_bind in Linux).
    os.fchmod(listener.fileno(), 0o600)
    try:
        with _alone(path.parent):
            _remove_stale(path)
            listener.bind(str(path))
            # Without it the next one would find a socket that nobody listens at.
            listener.listen()
            return _identity(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _unavailable(path, reason) from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of two that find the same dead socket, the second must not take the first one's new socket for it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise OSError(errno.EBUSY, "another program makes a socket in that directory just now") from error
    finally:
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "what is there is no socket")
    if found.st_uid != os.getuid():
        raise OSError(errno.EEXIST, "the socket that is there is another user's")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        visitor.settimeout(0)  # Where the backlog is full, somebody listens.
        with contextlib.suppress(ConnectionRefusedError):
            visitor.connect(str(path))
            raise OSError(errno.EADDRINUSE, "a program listens there")
    path.unlink()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _unavailable(path: Path, reason: str) -> AddressUnavailable:
    return AddressUnavailable(
        f"cannot listen at the socket {path} ({reason}); choose another one with --socket"
    )

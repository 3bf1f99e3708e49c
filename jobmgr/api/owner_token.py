"""The token of the service's owner: in a file that only its user can read, made at the first start.

The key with which tokens of running jobs are made is kept alike.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from pathlib import Path

from jobmgr.domain.user import TOKEN_ID
from jobmgr.errors import InvalidRequest, StoreError, UnsafeFile
from jobmgr.manager.job_tokens import PREFIX

_RANDOM_BYTES = 32
_SHORTEST = 16
# What `jobmgr token make` printed, or a job was given; by their first letters alone some of our own would look alike.
_OTHERS = re.compile(rf"jm_{TOKEN_ID}_|{PREFIX}")


def read(path: Path) -> str:
    """The token in the file at `path`, which is made if it is missing.

    Raises UnsafeFile if others may know it or have put it there, or if it is none, and StoreError if it has no place. A
    link is not followed: whoever may make one could choose the token by it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        where = f"the state directory {path.parent} cannot be made: {error.strerror}"
        raise StoreError(f"{where}; choose another with JOBMGR_HOME") from error
    try:
        descriptor = _open(path)
    except FileNotFoundError:
        _make(path)
        descriptor = _open(path)
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        _check(path, os.fstat(descriptor))
        token = file.read(4096).strip()
    if not token or not (token.isascii() and token.isprintable()):
        raise UnsafeFile(str(path), "holds no token: one line of printable ASCII characters")
    return token


def check(token: str, origin: str) -> str:
    """`token`, if it can be the owner's; `origin` says where it is from. Raises InvalidRequest without repeating it."""
    if _OTHERS.match(token):
        raise InvalidRequest(
            "token",
            f"{origin} holds an API token, which would let its user in as the owner of this service; unset it where the"
            " service is started, and the owner has a token of its own in its state directory",
        )
    if len(token) < _SHORTEST:
        raise InvalidRequest(
            "token",
            f"{origin} holds fewer than {_SHORTEST} characters, which can be guessed; leave it out and one is made, or"
            " take a longer one: `openssl rand -hex 32`",
        )
    return token


def _open(path: Path) -> int:
    try:
        # A FIFO must not be waited for.
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnsafeFile(str(path), "is a link, which is not followed") from None
        if isinstance(error, FileNotFoundError):
            raise
        raise UnsafeFile(str(path), f"cannot be read: {error.strerror}") from error


def _check(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UnsafeFile(str(path), "is no regular file")
    if found.st_uid != os.geteuid():
        raise UnsafeFile(str(path), f"belongs to user {found.st_uid}, who knows it then")
    if found.st_mode & 0o077:
        raise UnsafeFile(
            str(path),
            f"may be read or written by others (mode {found.st_mode & 0o777:o});"
            f" `chmod 600 {path}` keeps it if nobody has",
        )


def _make(path: Path) -> None:
    # Under another name first: another service of this home would else read what is not written yet.
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(_RANDOM_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(unfinished, path)
    finally:
        unfinished.unlink()

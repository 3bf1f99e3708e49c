"""Which service to talk to, and the API token to show it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from jobmgr.client.announcement import last_announced
from jobmgr.client.listener import is_listening_alone
from jobmgr.errors import InvalidRequest, NoServiceRunning
from jobmgr.settings import load

# The name of a service for who comes over a Unix socket, where no name was looked up.
OVER_SOCKET = "localhost"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service is, without a slash at the end, and the API token to show; None: no token."""

    url: str
    token: str | None

    @property
    def socket(self) -> str | None:
        """The path of the Unix socket that this is; None for an address of a network."""
        return _socket_of(self.url)

    @property
    def is_here(self) -> bool:
        """Whether only a program of this machine can be there."""
        if self.socket is not None:
            return True
        host = urlsplit(self.url).hostname or ""
        with contextlib.suppress(ValueError):
            return ip_address(host).is_loopback
        return host == "localhost"


Locate = Callable[[], Address]


def find_service(url: str | None, token: str | None, environment: Mapping[str, str]) -> Locate:
    """How to locate the service that is given or set, else the running one of this home.

    To be asked before each request: a service that was started again may listen elsewhere. Raises InvalidRequest
    for a URL that is none, and when asked NoServiceRunning.
    """
    settings = load({"url": url, "token": token}, environment)
    secret = settings.fetched("token", environment)

    def locate() -> Address:
        chosen = settings.url or running_service(settings.home)
        if chosen is None:
            raise NoServiceRunning(str(settings.home))
        found = checked_url(chosen)
        if secret is None and _is_of_home(found, settings.home):
            # The owner's token file opens the service of this home only, so it is shown nowhere else.
            return Address(found, _owner_token(settings.token_file, found))
        return Address(found, secret)

    if settings.url is not None:
        checked_url(settings.url)
    return locate


def checked_url(url: str) -> str:
    """`url` without a slash at the end. Raises InvalidRequest when it cannot be that of a service."""
    if _socket_of(url) is not None:
        return url
    try:
        parts = urlsplit(url)
        # Blanks and control characters urlsplit() would leave out without a word.
        is_plain = url.isprintable() and " " not in url
        valid = is_plain and parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        valid = False
    if valid and "@" in parts.netloc:
        raise InvalidRequest(
            "url", "a service takes no name and password in its URL; set JOBMGR_TOKEN instead"
        )
    if not valid:
        raise InvalidRequest(
            "url",
            f"{url!r} is not the URL of a service; write it as http://127.0.0.1:8080, "
            "or unix:/run/jobs.sock for a socket",
        )
    return url.rstrip("/")


def _socket_of(url: str) -> str | None:
    """The path in `unix:/run/jobs.sock`, which some write as unix:///run/jobs.sock."""
    scheme, _, path = url.partition(":")
    path = path.removeprefix("//")
    return path if scheme.lower() == "unix" and path.startswith("/") and "\0" not in path else None


def running_service(home: Path) -> str | None:
    """The URL that the running service of `home` says it has, None when there is none."""
    left = last_announced(home)
    return left.url if left is not None and left.is_alive else None


def _is_of_home(url: str, home: Path) -> bool:
    """Whether the running service of `home` said that it is at `url`, a URL or its Unix socket."""
    left = last_announced(home)
    if left is None or not left.is_alive:
        return False
    socket = _socket_of(url)
    return url == left.url.rstrip("/") if socket is None else socket == left.socket


def _owner_token(path: Path, url: str) -> str | None:
    """The token in the file at `path`, if it may be shown at `url`."""
    try:
        with path.open(encoding="ascii") as file:
            if not _is_owners(os.fstat(file.fileno()).st_uid, url):
                return None
            return file.read().strip() or None
    except (OSError, ValueError):
        return None


def _is_owners(uid: int, url: str) -> bool:
    # A port that no service has, or has no more, is anybody's to listen at. Other systems cannot be asked.
    if sys.platform != "linux":
        return True
    if (socket := _socket_of(url)) is not None:
        return Path(socket).lstat().st_uid == uid
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return is_listening_alone(uid, parts.hostname or "", port)

"""Which service to talk to, and the API token to show it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jobmgr.errors import InvalidRequest
from jobmgr.settings import Settings, load, url_host

SERVICE_FILE = "service.json"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service is, without a slash at the end, and the API token to show; None: no token."""

    url: str
    token: str | None


def find_service(url: str | None, token: str | None, environment: Mapping[str, str]) -> Address:
    """The service meant by what was given, then by the settings, then by the running service of this home.

    Raises InvalidRequest for a URL that is none.
    """
    settings = load({"url": url, "token": token}, environment)
    running = None if is_chosen(settings, url, environment) else running_service(settings.home)
    found = checked_url(running or settings.url)
    if settings.token is None and (running or _is_loopback(found)):
        # The owner's token file opens the service of this home only, so it is not shown to other hosts.
        return Address(found, _owner_token(settings.token_file))
    return Address(found, settings.token)


def checked_url(url: str) -> str:
    """`url` without a slash at the end. Raises InvalidRequest when it cannot be that of a service."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        valid = False
    if not valid:
        raise InvalidRequest("url", f"{url!r} is not the URL of a service; write it as http://127.0.0.1:8080")
    return url.rstrip("/")


@dataclass(frozen=True, slots=True)
class Left:
    """What a service left for command lines of the same user: its URL and process, and whether that runs."""

    url: str
    pid: int
    is_alive: bool


def left_by_service(home: Path) -> Left | None:
    """What the file of the last service says; None without a file, after a service that stopped in order."""
    try:
        left: Any = json.loads((home / SERVICE_FILE).read_bytes())
        url, pid = str(left["url"]), int(left["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Left(url, pid, _is_alive(pid))


def running_service(home: Path) -> str | None:
    """The URL that the running service of `home` left there, None when there is none."""
    left = left_by_service(home)
    return left.url if left is not None and left.is_alive else None


def is_chosen(settings: Settings, url: str | None, environment: Mapping[str, str]) -> bool:
    """Whether somebody said which service is meant, so that the one of this home is not looked for."""
    default = f"http://{url_host(settings.host)}:{settings.port}"
    return bool(url or environment.get("JOBMGR_URL")) or settings.url != default


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def _owner_token(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None

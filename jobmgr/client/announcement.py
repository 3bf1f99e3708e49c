"""What a running service says of itself in its state directory, for command lines of the same user."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

FILE = "service.json"


@dataclass(frozen=True, slots=True)
class Announcement:
    """A service's URL, its process, whether that runs, its Unix socket.

    `doors` are those of its settings that say who gets in, by name, as text.
    """

    url: str
    pid: int
    is_alive: bool
    socket: str | None = None
    doors: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def announced(home: Path, url: str, socket: Path | None, doors: Mapping[str, str]) -> Iterator[None]:
    """Say it of this process, as long as the context lasts."""
    path = home / FILE
    unfinished = path.with_suffix(".new")
    path_of_socket = None if socket is None else os.fspath(socket)
    ours = msgspec.json.encode({"url": url, "pid": os.getpid(), "socket": path_of_socket, "doors": doors})
    unfinished.write_bytes(ours)
    unfinished.replace(path)
    try:
        yield
    finally:
        # Another service of this home, on another database, may have put its own there since.
        with contextlib.suppress(FileNotFoundError):
            if path.read_bytes() == ours:
                path.unlink()


def last_announced(home: Path) -> Announcement | None:
    """What the last service said; None without a file, after a service that stopped in order."""
    try:
        told: Any = json.loads((home / FILE).read_bytes())
        url, pid, socket = told["url"], told["pid"], told.get("socket")
        doors = {name: text for name, text in told.get("doors", {}).items() if isinstance(text, str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    # A pid of any system fits into 32 bits; what is larger no system call takes.
    if not isinstance(url, str) or type(pid) is not int or not 0 < pid < 2**31:
        return None
    return Announcement(url, pid, _is_alive(pid), socket if isinstance(socket, str) else None, doors)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # It is another user's.
    return True

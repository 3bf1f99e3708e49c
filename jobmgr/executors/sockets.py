"""Who listens on which Unix socket, seen from outside.

Nobody notices this look. A connection would be noticed: a keeper hangs up on its service for a newer one. Linux
only; elsewhere nothing is seen.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

_TABLE = Path("/proc/net/unix")
_SO_ACCEPTCON = 0x10000  # Source: linux/net.h, __SO_ACCEPTCON: the socket listens.


class Listener(NamedTuple):
    """A socket that a process listens on, and how many are connected to it."""

    inode: int
    connections: int


def listeners(table: Path = _TABLE) -> dict[str, Listener]:
    """The sockets with a path that processes of this network namespace listen on, by path.

    Anybody's socket may have line ends in its path, and with them lines of its own: they can say what is not so, and
    what cannot be understood is left out.
    """
    listening: dict[str, int] = {}
    connected: dict[str, int] = {}
    for line in _lines(table)[1:]:
        # Source: proc_pid_net(5): Num RefCount Protocol Flags Type St Inode Path.
        fields = line.split(maxsplit=7)
        try:
            path = os.fsdecode(fields[7])
            flags, inode = int(fields[3], 16), int(fields[6])
        except (IndexError, ValueError):
            continue
        if flags & _SO_ACCEPTCON:
            listening[path] = inode
        else:
            connected[path] = connected.get(path, 0) + 1
    return {path: Listener(inode, connected.get(path, 0)) for path, inode in listening.items()}


def opened_by(pid: int) -> set[int]:
    """The inodes of the sockets that a process has open; empty if it may not be looked at."""
    found = set()
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                kind, _, inode = os.readlink(entry.path).partition(":")
                if kind == "socket":
                    found.add(int(inode.strip("[]")))
    except OSError:
        return set()
    return found


def _lines(table: Path) -> list[bytes]:
    try:
        return table.read_bytes().splitlines()
    except OSError:
        return []

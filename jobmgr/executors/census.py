"""Which processes belong to a work directory: wardens and keepers, and whatever carries an attempt's token."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from jobmgr.executors import process, sockets
from jobmgr.executors.crew import socket_directory
from jobmgr.executors.process import ProcessStat

_PROGRAM = b"jobmgr.executors.warden"
_WARDENS_NAME = "w-"


@dataclass(frozen=True, slots=True)
class Holder:
    """A living warden or keeper. `socket` is where it listens; None if that cannot be seen.

    `is_findable` says whether the socket's name still leads to it, `connections` how many services it talks to.
    """

    pid: int
    parent: int
    is_warden: bool
    is_stopped: bool
    socket: str | None
    is_findable: bool
    connections: int


@dataclass(frozen=True, slots=True)
class Crowd:
    """The holders of a work directory, and sockets there on which nobody listens."""

    holders: tuple[Holder, ...]
    deserted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Carrier:
    """A living process that was started for an attempt, as its environment says."""

    stat: ProcessStat
    token: str
    run: str

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return process.is_alive(self.stat.pid, self.stat.start_ticks)


def crowd(work_dir: Path) -> Crowd:
    """Look for wardens, keepers and their sockets. Raises OSError if the sockets' directory may not be read."""
    directory = socket_directory(work_dir)
    listening = sockets.listeners()
    stats = [stat for stat in process.living_processes() if _serves(stat.pid, directory)]
    members = frozenset(stat.pid for stat in stats)
    holders = tuple(_holder(stat, directory, listening, members) for stat in stats)
    try:
        names = [str(path) for path in sorted(directory.iterdir()) if path.is_socket()]
    except FileNotFoundError:
        names = []
    return Crowd(holders, tuple(name for name in names if name not in listening))


def _serves(pid: int, directory: Path) -> bool:
    # A warden's command line ends with the directory of its sockets; keepers are forked and keep it.
    arguments = process.arguments_of(pid)
    return any(_PROGRAM in argument for argument in arguments) and arguments[-1] == os.fsencode(directory)


def _holder(
    stat: ProcessStat, directory: Path, listening: dict[str, sockets.Listener], members: Collection[int]
) -> Holder:
    opened = sockets.opened_by(stat.pid)
    found = [path for path, listener in listening.items() if listener.inode in opened]
    # A forked keeper closes its warden's socket, so each has one.
    path = next((path for path in found if Path(path).parent == directory), None)
    return Holder(
        pid=stat.pid,
        parent=stat.parent,
        is_warden=Path(path).name.startswith(_WARDENS_NAME) if path else stat.parent not in members,
        is_stopped=stat.is_stopped,
        socket=path,
        is_findable=path is not None and Path(path).exists(),
        connections=listening[path].connections if path else 0,
    )


def carriers(work_dir: Path) -> list[Carrier]:
    """The living processes of attempts that run below this work directory; only those we may look at."""
    runs = os.path.realpath(work_dir / "runs") + os.sep
    found = []
    for stat in process.living_processes():
        token = process.token_of(stat.pid)
        run = None if token is None else process.variable_of(stat.pid, process.RUN_VARIABLE)
        if token is not None and run is not None and os.path.realpath(os.fsdecode(run)).startswith(runs):
            found.append(Carrier(stat, token, os.fsdecode(run)))
    return found

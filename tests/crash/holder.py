"""The processes that hold running commands: which they are, whose they are, and which of them were killed here."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from jobmgr.executors import process
from jobmgr.executors.process import ProcessStat
from tests import remnant

Content = dict[str, Any]


class Role(StrEnum):
    """Which of our processes one is."""

    SERVICE = "service"
    KEEPER = "keeper"
    WARDEN = "warden"


def holders(work: Path) -> dict[Role, list[ProcessStat]]:
    """The living keepers and wardens of a work directory, the newest last."""
    paths = _socket_paths()
    found: dict[Role, list[ProcessStat]] = {Role.KEEPER: [], Role.WARDEN: []}
    for pid in remnant.keepers(work):
        stat, role = process.read_stat(pid), _role(pid, paths)
        if stat is not None and role is not None:
            found[role].append(stat)
    # What a keeper has just forked has its sockets until it becomes the command, and would be killed as that.
    keepers = {stat.pid for stat in found[Role.KEEPER]}
    found[Role.KEEPER] = [stat for stat in found[Role.KEEPER] if stat.parent not in keepers]
    for stats in found.values():
        stats.sort(key=lambda stat: stat.start_ticks)
    return found


def _role(pid: int, paths: dict[str, str]) -> Role | None:
    """By the names of its sockets; a warden that is just forking has one of each kind."""
    names = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            names.add(Path(paths.get(target, "")).name[:2])
    except OSError:
        return None
    return Role.WARDEN if "w-" in names else Role.KEEPER if "k-" in names else None


def _socket_paths() -> dict[str, str]:
    """The path of each bound Unix socket, by what `/proc/<pid>/fd` calls it. Source: proc(5), /proc/net/unix."""
    lines = Path("/proc/net/unix").read_text(errors="surrogateescape").splitlines()[1:]
    rows = (line.split(maxsplit=7) for line in lines)
    return {f"socket:[{row[6]}]": row[7] for row in rows if len(row) == 8}


@dataclass(frozen=True, slots=True)
class Holding:
    """Who held an attempt, by its gate: (pid, start ticks) of both."""

    keeper: tuple[int, int]
    warden: tuple[int, int]


def control_file(work: Path, job_id: str, number: int, name: str) -> Content | None:
    """The content of an attempt's gate or exit record; None if there is none."""
    try:
        content: Content = json.loads((work / "control" / job_id / str(number) / name).read_bytes())
    except FileNotFoundError:
        return None
    return content


def holding(gate: Content | None) -> Holding | None:
    """Who passed a gate; None if nobody did."""
    if gate is None or gate["decision"] != "run":
        return None
    keeper, warden = gate["holder"], gate["holder"]["warden"]
    return Holding((keeper["pid"], keeper["start_ticks"]), (warden["pid"], warden["start_ticks"]))


@dataclass(slots=True)
class Casualties:
    """The processes that were killed on purpose."""

    killed: set[tuple[int, int]] = field(default_factory=set)
    by_role: Counter[str] = field(default_factory=Counter)

    def kill(self, role: Role, stats: Iterable[ProcessStat]) -> None:
        """End these processes at once, and remember that it was done here."""
        for stat in stats:
            # Noted first: what dies of this must never look as if it had died by itself.
            self.killed.add((stat.pid, stat.start_ticks))
            self.by_role[role] += 1
            process.send_signals([stat], signal.SIGKILL)

    def is_among(self, who: tuple[int, int]) -> bool:
        """Whether this very process was killed here."""
        return who in self.killed

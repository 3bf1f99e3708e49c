"""What happens outside of services: orders on their way, keepers at the gate, commands, exit records, restarts.

The files are the real ones; processes are entries of a table, so that they can die at any point without cost.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobmgr.executors import gate, process
from jobmgr.executors.hold import exit_record
from jobmgr.executors.note import Status
from jobmgr.executors.protocol import Launch
from tests.model.stage import EARLIER_BOOT

End = Literal["success", "exit_code", "signal", "vanished", "noted"]
_STATUS = {"exit_code": Status(3, None), "signal": Status(None, 9)}


@dataclass(slots=True)
class Order:
    """An attempt on its way to a keeper, sent by the service of this name."""

    launch: Launch
    sender: str


@dataclass(slots=True)
class Command:
    """A command that was started. Its holder may die without it leaving a record."""

    launch: Launch
    space: gate.ExitSpace
    nonce: str
    started_at_ns: int
    is_running: bool = True
    is_cancelled: bool = False
    has_holder: bool = True
    is_noted: bool = False
    is_of_another_boot: bool = False

    @property
    def started(self) -> gate.Content:
        """What its holder says about it."""
        return {
            "v": gate.VERSION, "token": self.launch.token, "pid": 2**22 + 1, "start_ticks": 1,
            "boot_id": process.boot_id(), "started_at": gate.utc(self.started_at_ns),
        }  # fmt: skip


class World:
    """One machine. `starts` counts what must never exceed one, by token."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.work_id = gate.make_roots(str(work))
        self.post: list[Order] = []
        self.delivered: list[Order] = []
        self.commands: dict[str, Command] = {}
        self.starts: Counter[str] = Counter()
        self._nonces = 0

    def control(self, launch: Launch) -> str:
        """The control directory of an attempt."""
        return f"{self.work}/control/{launch.job_id}/{launch.number}"

    def run_directory(self, launch: Launch) -> str:
        """Its run directory."""
        return f"{self.runs}/{launch.job_id}/{launch.number}"

    @property
    def runs(self) -> Path:
        """Where the run directories are."""
        return self.work / "runs"

    def deliver(self, order: Order) -> bool:
        """A keeper gets an order: it starts the command, or is refused (False)."""
        self.delivered.append(order)
        launch = order.launch
        control = self.control(launch)
        self._nonces += 1
        nonce = f"nonce{self._nonces}"
        space = gate.ExitSpace(control, nonce)
        if not gate.pass_gate(control, launch.token, nonce, _holder()):
            space.drop()
            return False
        command = Command(launch, space, nonce, time.time_ns())
        self.starts[launch.token] += 1
        self.commands[launch.token] = command
        space.note(command.started)
        return True

    def end(self, token: str, end: End) -> None:
        """The command ends and its holder records that; it dies before (vanished), or half way (noted)."""
        command = self.commands[token]
        command.is_running = False
        status = _STATUS.get(end, Status(0, None))
        ended_by = "cancel" if command.is_cancelled else "self"
        record = exit_record(token, status, started=command.started, ended_by=ended_by)
        if end == "vanished":
            self._leave(command)
        elif end == "noted":
            command.space.note(record)
            command.is_noted = True
            self._leave(command)
        else:
            command.space.publish(record)

    def restart(self) -> None:
        """The machine is restarted: every process is gone, and all gates are of another boot."""
        self.post.clear()
        self.delivered.clear()
        for command in self.commands.values():
            if command.is_running:
                command.is_running = False
                self._leave(command)
            command.is_of_another_boot = True
            # The boot id of a kernel cannot be changed; that of its predecessor in the files can.
            path = Path(self.control(command.launch)) / "gate"
            content = json.loads(path.read_text())
            content["holder"]["boot_id"] = EARLIER_BOOT
            path.write_text(json.dumps(content))

    @contextmanager
    def unmounted(self) -> Iterator[None]:
        """For a moment the work directory is not there."""
        away = self.work.with_suffix(".away")
        self.work.rename(away)
        yield
        away.rename(self.work)

    def _leave(self, command: Command) -> None:
        command.has_holder = False
        # The dead close their files and leave them where they are.
        path = f"{self.control(command.launch)}/exit.{command.nonce}"
        os.link(path, path + ".kept")
        command.space.drop()
        os.rename(path + ".kept", path)


def _holder() -> gate.Content:
    return {
        "host": process.host(), "boot_id": process.boot_id(), "pid_ns": process.pid_namespace(),
        "pid": os.getpid(), "start_ticks": 1, "socket": "", "warden": {"pid": 1, "start_ticks": 1, "socket": ""},
    }  # fmt: skip

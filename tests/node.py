"""A service as a process of its own, which tests may stall, kill, and put on what looks like another machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from jobmgr.client import Client
from jobmgr.executors import process
from tests import remnant
from tests.patience import eventually

ROOT = Path(__file__).parent.parent


class Node:
    """One service with its own state and work directory. Start it again after it was killed."""

    def __init__(
        self,
        folder: Path,
        database: str,
        *,
        wrapper: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        slots: int = 2,
        port: int = 0,
    ) -> None:
        self.folder = folder
        self.work = folder / "work"
        self._database = database
        self._wrapper = wrapper
        self._env = dict(env or {})
        self._slots = slots
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def log(self) -> str:
        """What the service has written to its log."""
        return (self.folder / "log").read_text()

    @property
    def pid(self) -> int:
        """The process id of the service, beneath what wraps it."""
        return int(json.loads((self.folder / "service.json").read_bytes())["pid"])

    @property
    def url(self) -> str:
        """Where the service answers."""
        return str(json.loads((self.folder / "service.json").read_bytes())["url"])

    @property
    def client(self) -> Client:
        """A new client of this service."""
        return Client(url=self.url)

    async def start(self, *, boot_id: str | None = None, host: str = "") -> None:
        """Start the service and wait until it answers; with `boot_id` as if on another boot of machine `host`."""
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "JOBMGR_HOME": str(self.folder),
            "JOBMGR_HEARTBEAT_S": "0.2",
            **self._env,
        }
        command = [
            *self._wrapper, sys.executable, "-m", "jobmgr", "serve", "--port", str(self._port),
            "--database", self._database, "--max-concurrent-jobs", str(self._slots),
        ]  # fmt: skip
        if boot_id is not None:
            command = self._on_another_machine(boot_id, host, command)
        (self.folder / "service.json").unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 -- a start is milliseconds
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=self.folder
            )
        await eventually(self._is_up)

    def _on_another_machine(self, boot_id: str, host: str, command: Sequence[str]) -> list[str]:
        file = self.folder / "boot_id"
        file.write_text(f"{boot_id}\n")
        script = 'mount --bind "$1" /proc/sys/kernel/random/boot_id && hostname "$2" && shift 2 && exec "$@"'
        return ["unshare", "-m", "-u", "sh", "-c", script, "sh", str(file), host or "here", *command]

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        return (self.folder / "service.json").exists()

    def stall(self) -> None:
        """Stop the service where it is."""
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the service alone; what it started lives on."""
        assert self._process is not None
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait(30)

    async def vanish(self) -> None:
        """Kill everything of this machine: the service, the keepers, the commands."""
        self.kill()
        left = [stat for pid in remnant.keepers(self.work) if (stat := process.read_stat(pid)) is not None]
        process.send_signals(left, signal.SIGKILL)
        remnant.kill(remnant.commands(self.work))
        await eventually(lambda: not remnant.keepers(self.work) and not remnant.commands(self.work))

    async def close(self) -> None:
        """End what is left; fails if a job was left running."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self.pid, signal.SIGCONT)
            os.kill(self.pid, signal.SIGTERM)
            self._process.wait(30)
        left = remnant.commands(self.work)
        remnant.kill(left)
        await eventually(lambda: not remnant.keepers(self.work))
        assert left == [], "the test left jobs running"
        assert "Traceback" not in self.log, self.log


def needs_other_machines() -> None:
    """Skip a test where namespaces cannot be made."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare, to look like several machines")

"""A real service as a process of its own, to be killed and started again on the same files."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from jobmgr import fault
from jobmgr.executors import process
from jobmgr.executors.process import ProcessStat

ROOT = Path(__file__).resolve().parents[2]
_STARTS_WITHIN_S = 60.0
_STOPS_WITHIN_S = 60.0
_GREETING = "listening on "


class Service:
    """`jobmgr serve` with `home` as its state directory; one life after the other."""

    def __init__(self, home: Path, database: str, *, slots: int, faults: Path | None = None) -> None:
        self.log = home / "service.log"
        self._home = home
        self._out = home / "service.out"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBMGR_")}
        own = {
            "JOBMGR_HOME": str(home),
            "JOBMGR_DATABASE": database,
            "JOBMGR_CANCEL_GRACE_S": "1",
            "JOBMGR_POLL_S": "0.5",
            "PYTHONPATH": str(ROOT),
        }
        self._environment = kept | own | ({fault.VARIABLE: str(faults)} if faults else {})
        self._command = [sys.executable, "-m", "jobmgr", "serve", "--port", "0"]
        self._command += ["--max-concurrent-jobs", str(slots)]
        self._process: subprocess.Popen[bytes] | None = None
        self.who = (0, 0)  # pid and start ticks of this life
        self._former: list[tuple[tuple[int, int], int]] = []
        self.url = ""

    @property
    def pid(self) -> int:
        """The process of this life."""
        assert self._process is not None
        return self._process.pid

    @property
    def stat(self) -> ProcessStat:
        """This life's process, to be signalled without hitting another one of the same number."""
        found = process.read_stat(self.pid)
        assert found is not None
        return found

    @property
    def is_running(self) -> bool:
        """Whether it has a life and has not ended it."""
        return self._process is not None and self._process.poll() is None

    @property
    def ends(self) -> list[tuple[tuple[int, int], int]]:
        """The lives that have ended: who it was, and its exit status as Popen has it."""
        status = None if self._process is None else self._process.poll()
        return self._former if status is None else [*self._former, (self.who, status)]

    def spawn(self) -> None:
        """Begin a life; it does not answer yet."""
        assert not self.is_running
        self._former = self.ends
        self.url = ""
        with self._out.open("wb") as out, self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                cwd=self._home,
                env=self._environment,
            )
        self.who = (self.pid, self.stat.start_ticks)

    async def answers(self) -> None:
        """Wait until it listens; its URL is known then. Raises AssertionError with its log if it ended instead."""
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not (line := self._out.read_text()).endswith("\n"):
            if not self.is_running or time.monotonic() > deadline:
                raise AssertionError(f"the service did not start; its log ends with:\n{self.log_tail()}")
            await asyncio.sleep(0.01)
        assert line.startswith(_GREETING), line
        self.url = line.removeprefix(_GREETING).strip()

    async def start(self) -> None:
        """Begin a life and wait until it answers."""
        self.spawn()
        await self.answers()

    def wait(self) -> int:
        """Wait until it has ended; its exit status."""
        assert self._process is not None
        return self._process.wait(_STOPS_WITHIN_S)

    def stop(self) -> int:
        """Ask it to end, as an init system does; its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def log_tail(self, lines: int = 30) -> str:
        """The end of its log, of all lives."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

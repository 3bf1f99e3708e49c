"""The real command as a program, and a real service that it talks to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "jobmgr")
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended. Both outputs are text in which no byte is lost."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The output as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Commands:
    """Runs `jobmgr` with `home` as its state directory and nothing else of the caller's settings."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """What the command sees."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBMGR_")}
        return kept | {"JOBMGR_HOME": str(self.home), "PYTHONPATH": str(REPOSITORY), "PYTHONUTF8": "1"}

    def run(
        self, *arguments: str | bytes, stdin: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> Finished:
        """The command, to its end."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            cwd=self.home,
            env=self.environment | dict(environment or {}),
        )
        return Finished(
            done.returncode, *(text.decode(errors="surrogateescape") for text in (done.stdout, done.stderr))
        )

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """The command, running; both outputs are pipes."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.home,
            env=self.environment | dict(environment or {}),
        )

    def submit(self, *arguments: str) -> str:
        """`jobmgr submit`, which has to succeed; the job's id.

        With `--wait` it may be said why the job does not start yet: how long that takes is the machine's affair.
        """
        done = self.run("submit", *arguments)
        job_id = done.out.strip()
        said = [line for line in done.err.splitlines() if not line.startswith(f"{job_id} waits: ")]
        assert (done.code, said) == (0, []), done
        return job_id


def told_until(process: subprocess.Popen[bytes], words: str) -> list[str]:
    """What it writes to its standard error, up to the line with these words."""
    assert process.stderr is not None
    lines: list[str] = []
    impatience = threading.Timer(TIMEOUT_S, process.kill)
    impatience.start()
    while not lines or words not in lines[-1]:
        line = process.stderr.readline().decode()
        assert line, lines
        lines.append(line)
    impatience.cancel()
    return lines


@contextmanager
def serving(
    commands: Commands, *arguments: str, command: tuple[str, ...] = ("serve", "--port", "0")
) -> Iterator[str]:
    """A service of `commands.home`, stopped by SIGTERM at the end; its URL."""
    with (commands.home / "service.log").open("ab") as log:
        process = subprocess.Popen(
            [*COMMAND, *command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=commands.home,
            env=commands.environment,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline().decode()
        assert line.startswith("listening on http://"), (commands.home / "service.log").read_text()
        yield line.removeprefix("listening on ").strip()
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(TIMEOUT_S)
        process.stdout.close()
    assert code == 0


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """The command with a state directory of its own, where no service runs."""
    return Commands(tmp_path)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """The command beside a running service."""
    commands = Commands(tmp_path_factory.mktemp("home"))
    with serving(commands, "--max-concurrent-jobs", "4"):
        yield commands


@pytest.fixture
def restartable(commands: Commands) -> Callable[..., Any]:
    """Starts services one after the other on the same state directory."""

    def start(*arguments: str) -> Any:
        return serving(commands, *arguments)

    return start

"""A real service for one run: `jobmgr serve` on a free port, with a home of its own, ended by its pid."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import scratch

Engine = Literal["SQLite", "PostgreSQL"]

WIDTH = 8
ROOT = Path(__file__).resolve().parent.parent

_STARTS_WITHIN_S = 60.0
_STOPS_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Service:
    """Where the service answers, its process and when that was started, its home, and the URL of its database.

    `started_at` is in seconds of the wall clock. Without a `database` it is the SQLite file in `home`.
    """

    url: str
    pid: int
    started_at: float
    home: Path
    database: str | None

    @property
    def engine(self) -> Engine:
        """What keeps its jobs."""
        return engine_of(self.database)


def engine_of(database: str | None) -> Engine:
    """What this URL is of; None is an SQLite file."""
    return "SQLite" if database is None or database.startswith("sqlite") else "PostgreSQL"


@contextlib.contextmanager
def running(database: str | None) -> Iterator[Service]:
    """A service that runs up to WIDTH jobs at once, on `database` or on an SQLite file in a home of its own."""
    home = scratch.new_directory()
    with serving(home, database, WIDTH) as service:
        yield service
    _await_keepers(home)


@contextlib.contextmanager
def serving(home: Path, database: str | None, width: int) -> Iterator[Service]:
    """A service of `home` that runs up to `width` jobs at once; its keepers outlive it."""
    if database is not None and engine_of(database) == "PostgreSQL":
        _run(home, "db", "upgrade", "--database", database)
    arguments = ["--port", "0", "--max-concurrent-jobs", str(width)]
    arguments += [] if database is None else ["--database", database]
    (home / "service.json").unlink(missing_ok=True)
    started_at = time.time()
    with (home / "service.log").open("ab") as log:
        process = subprocess.Popen(
            _command("serve", *arguments), cwd=home, env=_environment(home), stdout=log, stderr=log
        )
    try:
        yield Service(_await_url(process, home), process.pid, started_at, home, database)
    finally:
        _stop(process)


def cpu_s(pid: int) -> float:
    """Processor time that all threads of the process have used, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # The fields after the name are numbered from 3 in proc(5): utime is 14, stime 15.
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Memory of the process that is not swapped out, in 10^6 bytes; what it shares with others counts in full."""
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Rss") * 1024 / 1e6


def peak_mb(pid: int) -> float:
    """The highest `resident_mb` since the process was started, or since `forget_peak`."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM") * 1024 / 1e6


def forget_peak(pid: int) -> None:
    """Let `peak_mb` begin anew."""
    # 5 resets the peak resident set size. Source: proc(5), /proc/pid/clear_refs, since Linux 4.0.
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _kilobytes(file: Path, name: str) -> int:
    line = next(line for line in file.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


def python(module: str, *arguments: str, interpreter: Path | str = sys.executable) -> list[str]:
    """The command that runs a module of this source tree, with this Python or another; needs `environment()`."""
    return [str(interpreter), "-m", module, *arguments]


def environment() -> dict[str, str]:
    """This process's environment without settings of another service, and with this source tree."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBMGR_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def _command(*arguments: str) -> list[str]:
    return python("jobmgr", *arguments)


def _environment(home: Path) -> dict[str, str]:
    return {**environment(), "JOBMGR_HOME": str(home)}


def _run(home: Path, *arguments: str) -> None:
    subprocess.run(_command(*arguments), cwd=home, env=_environment(home), stdout=sys.stderr, check=True)


def _await_url(process: subprocess.Popen[bytes], home: Path) -> str:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return str(json.loads((home / "service.json").read_bytes())["url"])
        time.sleep(0.05)
    raise SystemExit(f"the service did not start; its log:\n{(home / 'service.log').read_text()}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        print(f"the service (pid {process.pid}) did not stop on SIGTERM and is killed", file=sys.stderr)
        process.kill()
        process.wait()


def _await_keepers(home: Path) -> None:
    # Warden and keepers end by themselves after their service and remove their sockets; the home goes last.
    sockets = home / "work" / "sockets"
    deadline = time.monotonic() + _STOPS_WITHIN_S
    while sockets.is_dir() and any(sockets.iterdir()):
        if time.monotonic() > deadline:
            print(f"keepers still run in {home}", file=sys.stderr)
            return
        time.sleep(0.05)

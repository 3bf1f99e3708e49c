"""A peer's virtual environment, made once with pip and kept below the user's cache directory."""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from platformdirs import user_cache_path

from benchmarks.skip import Skipped, last_lines


def make(name: str, installs: Sequence[Sequence[str]]) -> Path:
    """The Python of the environment, which is installed unless it is there. Raises Skipped, with what pip said."""
    directory = user_cache_path("jobmgr-benchmarks") / name
    python, stamp = directory / "bin" / "python", directory / "stamp"
    wanted = json.dumps([sys.version, installs])
    with _alone(directory.with_name(f"{name}.lock")):
        if not stamp.is_file() or stamp.read_text() != wanted:
            print(f"installing {name} into {directory}", file=sys.stderr, flush=True)
            _run([sys.executable, "-m", "venv", "--clear", str(directory)])
            for arguments in installs:
                _run([str(python), "-m", "pip", "install", "--quiet", *arguments])
            stamp.write_text(wanted)
    return python


def version(python: Path, package: str) -> str:
    """The version of the package that is installed there."""
    ask = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    return _run([str(python), "-c", ask, package]).strip()


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Nobody else makes this environment meanwhile: tests that need it run beside each other."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Skipped(f"`{' '.join(command)}` failed: {last_lines(done.stderr)}")
    return done.stdout

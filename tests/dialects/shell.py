"""What real shells make of what a dialect writes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from jobmgr.dialects.dialect import Command

SHELLS = [name for name in ("bash", "dash") if shutil.which(name)]


def insist_on_syntax(script: str) -> None:
    """Let bash and dash, as far as they are installed, read a script without running it."""
    assert SHELLS
    for name in SHELLS:
        read = subprocess.run(
            [name, "-n"], input=script, capture_output=True, text=True, errors="surrogateescape", check=False
        )
        assert (read.returncode, read.stderr) == (0, ""), name


def run(
    command: Command, programs: Path, env: dict[str, str], *, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command where `programs` are found before those of the system."""
    path = f"{programs}:/usr/bin:/bin"
    return subprocess.run(
        command.argv,
        input=command.stdin,
        env=env | {"PATH": path},
        capture_output=True,
        text=True,
        check=check,
    )


def install(programs: Path, name: str, script: str) -> None:
    """Put a program there, or another in its place while somebody may start it: he gets the old or the new one."""
    programs.mkdir(exist_ok=True)
    draft = programs / f".{name}"
    draft.write_text(f"#!/bin/sh\n{script}\n")
    draft.chmod(0o755)
    draft.replace(programs / name)

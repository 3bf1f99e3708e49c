"""Stands before a program of SLURM and does to its answers what a network or a busy scheduler does.

Each call takes the next fault of a list, which a test writes; behind its end what is in force until it is released, or
the real program answers. Standard library only, so that it starts quickly.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

_PROGRAM = """\
#!/bin/sh
exec {python} -I -S -c 'import sys; sys.path.insert(0, sys.argv.pop(1))
from tests.executors.saboteur import main
main(*sys.argv[1:])' {here} {directory} {name} {real} "$@"
"""
_FOR_EVER_S = 600
_LATE_S = 1.0
_ERROR = "error: Unable to contact slurm controller (connect failure)"
_NAME = re.compile(rb"jm-[0-9a-f]{32}")
_NUMBER = re.compile(rb"[0-9]+")

# What may happen to a call. These do not reach the scheduler.
_UNREACHED = ("empty", "wordless", "garbage", "hung")
ANSWERS = (*_UNREACHED, "stranger", "doubled", "slow")
SUBMISSIONS = (
    "late", "hung", "mute", "garbled", "wordless", "silent", "contradictory", "twice", "doubled", "afterwards",
    "anothers", "slow",
)  # fmt: skip
WISHES = ("empty", "wordless", "hung", "late", "slow")
# An accounting that was not told yet, and a queue that forgets what has ended.
UNTOLD = "empty"
FORGETFUL = "forgetful"


def install(directory: Path, programs: Path, names: Sequence[str], slow_s: float = 1.0) -> None:
    """Put one before each of the real `programs`. One that is slow begins so late, whoever gave up meanwhile."""
    directory.mkdir(parents=True)
    (directory / "slow_s").write_text(str(slow_s))
    for name in names:
        text = _PROGRAM.format(
            python=sys.executable,
            here=Path(__file__).parents[2],
            directory=directory,
            name=name,
            real=programs / name,
        )
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)


def plan(directory: Path, faults: Mapping[str, Sequence[str]]) -> None:
    """What is to happen to the next calls of each program."""
    for name, names in faults.items():
        (directory / f"{name}.faults").write_text("".join(f"{fault}\n" for fault in names))


def enforce(directory: Path, faults: Mapping[str, str]) -> None:
    """What is to happen to all calls behind those that are planned, until it is released."""
    for name, fault in faults.items():
        (directory / f"{name}.force").write_text(fault)


def release(directory: Path, name: str) -> None:
    """Let the real program answer."""
    (directory / f"{name}.force").unlink()


def is_quiet(directory: Path) -> bool:
    """Whether nothing is on its way to the scheduler that nobody waits for."""
    return _count(directory / "sent") == _count(directory / "arrived")


def main(directory: str, name: str, real: str, *arguments: str) -> None:
    """Be one of the programs."""
    fault = _next(Path(directory), name)
    command = [real, *arguments]
    if fault == FORGETFUL:
        command = [word for word in command if word != "--states=all"]
    if fault in ("", FORGETFUL):
        os.execv(real, command)
    if fault in _UNREACHED:
        _stay_away(fault)
    if fault == "afterwards":
        _send_afterwards(Path(directory), command, _LATE_S)
        _fail(name)
    if fault == "slow":
        _be_slow(Path(directory), command)
    if fault == "twice":
        _run(command)
    done = _run(command)
    if fault == "late":
        time.sleep(_FOR_EVER_S)
    code = 1 if fault == "silent" else done.returncode
    sys.stdout.buffer.write(_spoilt(fault, done.stdout))
    sys.stdout.flush()
    if fault == "contradictory":
        _fail(name)
    sys.exit(code)


def _stay_away(fault: str) -> NoReturn:
    if fault == "hung":
        time.sleep(_FOR_EVER_S)
    if fault == "garbage":
        sys.stdout.buffer.write(os.urandom(2000))
        sys.stdout.flush()
    sys.exit(1 if fault == "wordless" else 0)


def _spoilt(fault: str, said: bytes) -> bytes:
    match fault:
        case "mute" | "silent":
            return b""
        case "garbled":
            return said.translate(bytes.maketrans(b"0123456789", b"abcdefghij"))
        case "stranger":
            return _NAME.sub(b"jm-" + b"0" * 32, said)
        case "doubled":
            return said + said
        case "anothers":
            return _NUMBER.sub(b"1", said)
        case _:
            return said


def _next(directory: Path, name: str) -> str:
    with (directory / f"{name}.faults").open("r+") as faults:
        fcntl.flock(faults, fcntl.LOCK_EX)
        first, *rest = faults.read().split() or [""]
        faults.seek(0)
        faults.truncate()
        faults.write("\n".join(rest))
    force = directory / f"{name}.force"
    return first or (force.read_text() if force.exists() else "")


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)


def _be_slow(directory: Path, command: Sequence[str]) -> NoReturn:
    """Begin late, and answer whoever still waits for it."""
    answer = directory / f"answer-{os.getpid()}"
    child = _send_afterwards(directory, command, float((directory / "slow_s").read_text()), answer)
    _, status = os.waitpid(child, 0)
    sys.stdout.write(answer.read_text())
    sys.stdout.flush()
    sys.exit(os.waitstatus_to_exitcode(status))


def _send_afterwards(
    directory: Path, command: Sequence[str], after_s: float, answer: Path | None = None
) -> int:
    """In a process that a kill of this one does not find; its pid. What it says goes to `answer`."""
    _add(directory / "sent")
    if (pid := os.fork()) != 0:
        return pid
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    time.sleep(after_s)
    done = _run(command)
    if answer is not None:
        answer.write_bytes(done.stdout)
    _add(directory / "arrived")
    os._exit(done.returncode)


def _add(file: Path) -> None:
    with file.open("a") as lines:
        lines.write("one\n")


def _count(file: Path) -> int:
    return len(file.read_text().split()) if file.exists() else 0


def _fail(name: str) -> NoReturn:
    sys.stderr.write(f"{name}: {_ERROR}\n")
    sys.exit(1)

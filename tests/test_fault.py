"""The fault points: off without the variable, and stopping exactly the process that takes the file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from jobmgr import fault

ROOT = Path(__file__).parent.parent
PROGRAM = "from jobmgr import fault; fault.reach('gate.linked'); print('went on')"


def run(program: str, folder: Path | None) -> subprocess.Popen[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    if folder is not None:
        env[fault.VARIABLE] = str(folder)
    return subprocess.Popen(
        [sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_nothing_happens_without_the_variable(tmp_path: Path) -> None:
    (tmp_path / "gate.linked").touch()

    out, _ = run(PROGRAM, None).communicate(timeout=30)

    assert out == "went on\n"
    assert fault.environment() == {}


def test_nothing_happens_at_a_step_that_is_not_armed(tmp_path: Path) -> None:
    (tmp_path / "gate.written").touch()

    out, _ = run(PROGRAM, tmp_path).communicate(timeout=30)

    assert out == "went on\n"


def test_the_process_that_takes_the_file_stops_and_says_who_it_is(tmp_path: Path) -> None:
    (tmp_path / "gate.linked").touch()
    process = run(PROGRAM, tmp_path)

    _, status = os.waitpid(process.pid, os.WUNTRACED)

    assert os.WIFSTOPPED(status)
    assert [path.name for path in tmp_path.iterdir()] == [f"gate.linked.{process.pid}"]
    os.kill(process.pid, signal.SIGCONT)
    out, _ = process.communicate(timeout=30)
    assert out == "went on\n"


def test_a_step_that_is_not_listed_is_an_error(tmp_path: Path) -> None:
    _, err = run("from jobmgr import fault; fault.reach('nowhere')", tmp_path).communicate(timeout=30)

    assert "'nowhere' is not listed" in err

"""A program is run as `subprocess.run` runs one, and nothing of it is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobmgr.compat import program
from jobmgr.executors import process

# A tree as a solver's: a child, one of its own session whose parent is gone, one that will not hear TERM.
TREE = r"""
echo $$
(setsid sh -c 'echo $$; exec sleep 1000' &)
sh -c 'trap "" TERM; echo $$; while :; do sleep 1000; done' &
env -i sh -c 'echo $$; exec sleep 1000' &
"""
# One that shows nothing of where it comes from but its parent, which therefore has to be there still.
HIDDEN = "env -i setsid sh -c 'echo $$; exec sleep 1000' &\n"


def tree(directory: Path, members: str, end: str) -> list[str]:
    """A command that starts a tree, each member of which writes its pid, and goes on with `end` when all have."""
    pids = directory / "pids"
    ready = f'until [ "$(wc -l <"{pids}")" -eq {members.count("echo $$")} ]; do sleep 0.05; done'
    return ["sh", "-c", f'exec 3>&1 >>"{pids}"\n{members}{ready}\n{end}']


def alive(directory: Path) -> list[int]:
    """Who of the tree lives still."""
    pids = [int(line) for line in (directory / "pids").read_text().split()]
    assert len(pids) >= 4
    stats = [process.read_stat(pid) for pid in pids]
    return [stat.pid for stat in stats if stat is not None and stat.state != "Z"]


def test_it_answers_as_subprocess_does() -> None:
    argv = ["sh", "-c", "echo out; echo err >&2; exit 3"]

    result = program.run(argv)

    expected = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (result.args, result.returncode, result.stdout, result.stderr) == (
        expected.args, expected.returncode, expected.stdout, expected.stderr,
    )  # fmt: skip
    assert program.run(["sh", "-c", "kill -9 $$"]).returncode == -9


def test_output_is_text_with_replacements_or_bytes() -> None:
    argv = ["printf", r"\377a\r\nb"]

    assert program.run(argv).stdout == "\ufffda\nb"
    assert program.run(argv, text=False).stdout == b"\xffa\r\nb"
    assert program.run(argv, text=False).stderr == b""


def test_keywords_of_subprocess_are_its_own(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        result = program.run(
            ["sh", "-c", "pwd; echo $A; cat"], stdout=out, cwd=tmp_path, env={"A": "b"}, input="c"
        )

    assert (result.stdout, result.stderr) == (None, "")
    assert (tmp_path / "out").read_text() == f"{tmp_path}\nb\nc"
    assert program.run(["true"], capture_output=False).stdout is None
    with pytest.raises(subprocess.CalledProcessError) as caught:
        program.run(["sh", "-c", "echo x; exit 3"], check=True)
    assert (caught.value.returncode, caught.value.output) == (3, "x\n")
    with pytest.raises(FileNotFoundError):
        program.run(["/nowhere/ansysedt"])


def test_it_reads_nothing_unless_it_is_given_something() -> None:
    assert program.run(["cat"]).stdout == ""


def test_what_it_leaves_running_is_neither_waited_for_nor_left(tmp_path: Path) -> None:
    result = program.run(tree(tmp_path, TREE, "echo done >&3; exit 7"))

    assert (result.returncode, result.stdout) == (7, "done\n")
    assert alive(tmp_path) == []


def test_at_a_timeout_the_whole_tree_is_ended(tmp_path: Path) -> None:
    # On a busy machine the tree may need longer than the first of them.
    for timeout in (3, 12, 48):
        directory = tmp_path / str(timeout)
        directory.mkdir()
        argv = tree(directory, TREE + HIDDEN, "echo started >&3; sleep 1000")
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            program.run(argv, timeout=timeout)
        if caught.value.output:
            break

    assert (caught.value.cmd, caught.value.timeout, caught.value.output) == (argv, timeout, "started\n")
    assert alive(directory) == []


def test_at_an_interrupt_the_whole_tree_is_ended(tmp_path: Path) -> None:
    argv = tree(tmp_path, TREE + HIDDEN, "echo started >&3; sleep 1000")
    code = f"from jobmgr.compat import program; program.run({argv!r}, stdout=1)"
    # An interrupt is for who has the terminal; the program has a session of its own, and would never hear of it.
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"started\n"
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=60)

    assert waiting.returncode == -signal.SIGINT, said
    assert alive(tmp_path) == []


def test_other_programs_of_the_same_caller_are_left_alone() -> None:
    with subprocess.Popen(["sleep", "1000"], env={**os.environ}) as other:
        program.run(["sh", "-c", "sleep 1000 & exit 0"])
        is_alive = other.poll() is None
        other.kill()

    assert is_alive

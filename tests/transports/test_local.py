"""What only commands of this machine do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobmgr.dialects.dialect import Answer, Command
from jobmgr.errors import SiteUnreachable
from jobmgr.executors import process
from jobmgr.transports.local import LocalTransport
from tests.patience import eventually

_TIMEOUT_S = 60.0


async def test_what_holds_the_output_open_keeps_the_answer_back_and_is_left_alone(tmp_path: Path) -> None:
    transport = LocalTransport(os.environ)
    script = '(read line <"$1"; echo late >"$1.said") & echo now; exit 3'
    os.mkfifo(tmp_path / "fifo")

    answer = await transport.run(Command(("sh", "-c", script, "sh", str(tmp_path / "fifo"))), 1.0)

    assert answer.exit_code is None
    assert answer.stdout == "now\n"
    assert "it ended with 3, but what it left running holds its output open" in answer.stderr
    await asyncio.to_thread((tmp_path / "fifo").write_text, "go\n")
    await eventually((tmp_path / "fifo.said").exists)
    await transport.close()


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process cannot open anything more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use, before[1]))
    held = []
    with contextlib.suppress(OSError):
        while True:
            held.append(os.dup(0))
    try:
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_shortage_of_descriptors_is_no_answer_of_the_program() -> None:
    transport = LocalTransport(os.environ)

    with no_descriptors(), pytest.raises(SiteUnreachable, match="no process can be started"):
        await transport.run(Command(("true",)), _TIMEOUT_S)


def test_commands_run_on_uvloop_too() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> tuple[Answer, ...]:
        transport = LocalTransport(os.environ)
        answers = await asyncio.gather(
            transport.run(Command(("cat",), "text"), _TIMEOUT_S),
            transport.run(Command(("sh", "-c", "kill -9 $$")), _TIMEOUT_S),
            transport.run(Command(("sh", "-c", "sleep 600 & sleep 600")), 0.5),
            transport.run(Command(("jobmgr-no-such-program",)), _TIMEOUT_S),
        )
        await transport.close()
        return answers

    answers = uvloop.run(main())

    assert [answer.exit_code for answer in answers] == [0, 137, None, 127]
    assert answers[0].stdout == "text"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="who has what open is read from /proc")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_programs_have_three_streams_and_nothing_of_others(loop: str) -> None:
    """What one leaves running would keep the streams of another open, and who waits for their end would wait for it."""
    module = pytest.importorskip(loop)

    async def main() -> list[Answer]:
        transport = LocalTransport(os.environ)
        command = Command(("sh", "-c", "ls /proc/$$/fd"), "text")
        answers = await asyncio.gather(*(transport.run(command, _TIMEOUT_S) for _ in range(3)))
        await transport.close()
        return answers

    assert [answer.stdout.split() for answer in module.run(main())] == [["0", "1", "2"]] * 3


async def test_program_that_is_killed_is_reaped_once(caplog: pytest.LogCaptureFixture) -> None:
    """asyncio's transport looks whether its process has ended when it is closed, and takes it from who waits for it."""
    transport = LocalTransport({})

    for number in range(600):
        await transport.run(Command(("true",)), 0.0003 + 0.000003 * number)

    await transport.close()
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


# The loop is closed as that of a test that fails, where nobody stops who runs programs.
_ABANDON = """
import asyncio, os, sys
from jobmgr.dialects.dialect import Command
from jobmgr.transports.local import LocalTransport

async def abandon(rounds):
    running = asyncio.ensure_future(LocalTransport(os.environ).run(Command(("sleep", sys.argv[1])), 60.0))
    for _ in range(rounds):
        await asyncio.sleep(0)
    return running

for rounds in range(12):
    assert asyncio.run(abandon(rounds)).cancelled()
"""


async def test_loop_is_closed_however_far_a_program_is_started() -> None:
    mark = f"600.{secrets.randbits(40)}"

    # A process of its own, because one that waits for ever for its loop to close can only be killed.
    await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _ABANDON, mark], check=True, timeout=_TIMEOUT_S
    )

    await eventually(lambda: not running_with(mark))


def running_with(argument: str) -> list[int]:
    """The living processes that were given this argument."""
    found = process.living_processes()
    return [stat.pid for stat in found if os.fsencode(argument) in process.arguments_of(stat.pid)]

"""What the operating system says about processes, read from the real one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobmgr.executors import command, process
from jobmgr.executors.note import Assignment, Leader, Note, Status, Step

PID_MAX = int(Path("/proc/sys/kernel/pid_max").read_text())


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child
        child.kill()


def test_stat_of_a_process_with_an_awkward_name(tmp_path: Path) -> None:
    program = tmp_path / "a ) R 1 (b"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"], start_new_session=True) as child:
        stat = process.read_stat(child.pid)
        child.kill()

    assert stat is not None
    assert (stat.pid, stat.parent, stat.session) == (child.pid, os.getpid(), child.pid)
    assert stat.has_executed


def test_start_ticks_tell_when_a_process_started(sleeper: subprocess.Popen[bytes]) -> None:
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - process.start_ticks(sleeper.pid) / os.sysconf(
        "SC_CLK_TCK"
    )

    assert 0 <= age_s < 5


def test_process_that_is_gone_is_not_alive(sleeper: subprocess.Popen[bytes]) -> None:
    ticks = process.start_ticks(sleeper.pid)
    assert process.is_alive(sleeper.pid, ticks)
    assert not process.is_alive(sleeper.pid, ticks + 1)

    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)

    assert not process.is_alive(sleeper.pid, ticks)  # though it is a zombie still
    sleeper.wait()
    assert process.read_stat(sleeper.pid) is None


def test_recycled_pid_is_not_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    stat = process.read_stat(sleeper.pid)
    assert stat is not None

    process.send_signals([stat._replace(start_ticks=stat.start_ticks - 1)], signal.SIGKILL)
    assert sleeper.poll() is None
    process.send_signals([stat], signal.SIGKILL)

    assert sleeper.wait(10) == -signal.SIGKILL


def test_descendants_are_found_through_any_depth() -> None:
    with subprocess.Popen(["sh", "-c", "sh -c 'echo; sleep 60; :' & wait"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        below = process.below([child.pid], process.living_processes())
        process.send_signals(below, signal.SIGKILL)

    assert len(below) >= 2
    assert below[0].pid == child.pid


def test_carriers_of_a_token_are_found() -> None:
    env = {**os.environ, "PADDING": "x" * 100_000, process.ATTEMPT_VARIABLE: "t-1"}
    with subprocess.Popen(["sleep", "60"], env=env) as child:
        found = process.carriers("t-1")
        child.kill()

    assert [stat.pid for stat in found] == [child.pid]
    assert process.carriers("t-2") == []


def test_error_message_fits_into_the_record() -> None:
    assert len(command.SpawnFailed("code", "x" * 10_000).message) < 2000


def test_note_is_read_after_the_death_of_its_writer() -> None:
    note = Note()
    assignment = Assignment("/control", "token", "nonce", None, 1.0, 2.0)

    writer = os.fork()
    if writer == 0:
        note.assign(assignment)
        note.passed()
        note.running(Leader(7, 8, 9, 10.5))
        note.pressed("walltime", 11.5)
        note.left(Status(None, 9))
        note.reaped(0.25, 4096)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(writer, 0)

    assert note.step is Step.REAPED
    assert note.assignment == assignment
    assert note.leader == Leader(7, 8, 9, 10.5)
    assert note.press == ("walltime", 11.5)
    assert note.status == Status(None, 9)
    assert note.usage == (0.25, 4096)
    note.close()


def test_note_of_a_new_attempt_forgets_the_one_before() -> None:
    note = Note()
    note.assign(Assignment("/control", "first", "nonce", None, 1.0, 2.0))
    note.pressed("cancel", 3.0)
    note.left(Status(3, None))

    note.clear()
    note.assign(Assignment("/control", "second", "nonce", None, 1.0, 2.0))

    assert note.step is Step.PREPARING
    assert note.assignment.token == "second"
    assert note.press[0] == "self"
    assert note.status is None
    note.close()


_LOOKING_WITHOUT_DESCRIPTORS = """
import os, resource
from jobmgr.executors import process
ticks = process.start_ticks(os.getpid())
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
for look in (lambda: process.is_alive(os.getpid(), ticks), lambda: process.token_of(os.getpid())):
    try:
        print(look())
    except OSError as error:
        print(error.strerror)
"""


def test_process_that_cannot_be_looked_at_is_not_taken_for_dead() -> None:
    argv = [sys.executable, "-c", _LOOKING_WITHOUT_DESCRIPTORS]

    done = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert done.stdout.splitlines() == ["Too many open files", "Too many open files"]


def test_log_that_cannot_be_written_ends_nobody() -> None:
    script = "from jobmgr.executors.hold import log; log('a line'); print('alive')"

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=full, check=False
        )

    assert done.stdout == b"alive\n"


_BEARING = """
import os, sys, time
from jobmgr.executors import process
process.bear(int(sys.argv[1]))
silent = os.open(os.devnull, os.O_WRONLY)
pid, _ = process.spawn("/bin/sh", ["sh", "-c", "(setsid env -i sleep 60 &) ; exit 3"], {}, silent, silent)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
print(process.read_stat(pid).state, process.mark_of(pid))
daemons = []
while not daemons:
    alive = [stat for stat in process.living_processes() if stat.pid != os.getpid() and stat.session == stat.pid]
    daemons = [stat for stat in alive if process.mark_of(stat.pid) == int(sys.argv[1])]
print(len(daemons))
os.kill(daemons[0].pid, 9)
"""


def test_mark_is_borne_by_a_zombie_and_by_a_daemon_with_an_environment_of_its_own() -> None:
    mark = process.new_mark()
    argv = [sys.executable, "-c", _BEARING, str(mark)]

    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False, timeout=30)

    assert done.stdout.splitlines() == [f"Z {mark}", "1"]


def _born(pid: int, start_ticks: int) -> process.ProcessStat:
    return process.ProcessStat(pid, "S", 1, pid, has_executed=True, start_ticks=start_ticks)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(_born(900, 7), _born(400, 8), id="by the tick"),
        pytest.param(_born(400, 7), _born(900, 7), id="by the id within a tick"),
        pytest.param(_born(PID_MAX - 2, 7), _born(301, 7), id="ids that start again from below"),
    ],
)
def test_eldest_was_born_first(first: process.ProcessStat, second: process.ProcessStat) -> None:
    assert process.eldest([first, second]) == first
    assert process.eldest([second, first]) == first

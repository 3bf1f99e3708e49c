"""Keepers that die at a chosen instruction, and what their warden makes of it.

The keepers are real ones in a real warden; only the crash is put in, by a program that starts the warden.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

import jobmgr
from jobmgr.executors import gate, process
from jobmgr.executors.links import Link, connect
from jobmgr.executors.messages import Message

from .conftest import arguments_of, eventually

WARDEN_WITH_DYING_KEEPERS = """
import os, signal, sys
sys.path.append(sys.argv.pop(1))
from jobmgr.executors import gate, keeper, note, process, warden

where = sys.argv.pop(1)
in_keeper = False

def dying(function, *, after):
    def wrapped(*arguments):
        if not in_keeper:
            return function(*arguments)
        if after:
            function(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    return wrapped

def run(self, run=keeper.Keeper.run):
    global in_keeper
    in_keeper = True
    run(self)

keeper.Keeper.run = run
owner, name, after = {
    "before the gate": (gate, "pass_gate", False),
    "after the gate": (gate, "pass_gate", True),
    "before the spawn": (process, "spawn", False),
    "after the spawn": (process, "spawn", True),
    "after the note of the leader": (note.Note, "running", True),
    "before the leader is reaped": (note.Note, "left", True),
    "after the leader was reaped": (note.Note, "reaped", True),
    "before the record is linked": (gate.ExitSpace, "publish", False),
    "after the record was linked": (gate.ExitSpace, "publish", True),
}[where]
setattr(owner, name, dying(getattr(owner, name), after=after))
warden.main()
"""


class Crash:
    """One attempt under a keeper that dies at a given point."""

    def __init__(self, work: Path, warden: Link, warden_pid: int, job_id: str = "job") -> None:
        self._work = work
        self.control = str(work / "control" / job_id / "1")
        self.run_dir = work / "run" / job_id
        self._warden = warden
        self.warden_pid = warden_pid
        self._keeper: Link | None = None
        self._lost = asyncio.Event()

    def another(self, job_id: str) -> Crash:
        """An attempt of another job, below the same warden."""
        return Crash(self._work, self._warden, self.warden_pid, job_id)

    async def run(self, script: str, token: str = "token", walltime_s: float | None = None) -> None:
        """Start the script under a new keeper, and wait for that keeper's death."""
        await self.prepare(token)
        await self.start(script, token, walltime_s)

    async def prepare(self, token: str) -> None:
        """Make the directories, and have a keeper forked."""
        gate.make_roots(str(self._work))
        self.run_dir.parent.mkdir(exist_ok=True)
        gate.make_with_run(self.control, str(self.run_dir), token)
        path = (await self._warden.ask({"op": "fork", "count": 1}))["sockets"][0]
        self._keeper = await connect(path, _ignore, lambda _link: self._lost.set())
        self._keeper.send(
            {"op": "hello", "env": {"PATH": os.defpath}, "walltime_grace_s": 1.0, "leftover_grace_s": 1.0}
        )

    async def start(self, script: str, token: str, walltime_s: float | None = None) -> None:
        """Start the script under the keeper that was forked, and wait for that keeper's death."""
        assert self._keeper is not None
        self._keeper.send(
            {
                "op": "start",
                "token": token,
                "control": self.control,
                "run": str(self.run_dir),
                "command": ["/bin/sh", "-c", script],
                "env": {process.ATTEMPT_VARIABLE: token},
                "cwd": str(self.run_dir),
                "walltime_s": walltime_s,
            }
        )
        async with asyncio.timeout(10):
            await self._lost.wait()

    async def ask_warden(self, token: str) -> str:
        """What the warden says about an attempt."""
        answer: str = (await self._warden.ask({"op": "attach", "token": token}))["op"]
        return answer

    async def record(self) -> Message:
        record: Message = await eventually(lambda: gate.read_exit(self.control))
        return record


@pytest_asyncio.fixture
async def crash(tmp_path: Path) -> AsyncIterator[Callable[[str], Awaitable[Crash]]]:
    links: list[Link] = []
    pids: list[int] = []

    async def start(where: str) -> Crash:
        (tmp_path / "s").mkdir()
        path = str(tmp_path / "s" / "w")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            descriptor = listener.fileno()
            root = str(Path(jobmgr.__file__).parent.parent)
            argv = [sys.executable, "-I", "-c", WARDEN_WITH_DYING_KEEPERS, root, where, str(descriptor)]
            starter = await asyncio.create_subprocess_exec(
                *argv,
                str(process.descriptor_limit()),
                str(tmp_path / "s"),
                pass_fds=(descriptor,),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
            )
            assert await starter.wait() == 0
        warden = await connect(path, _ignore, lambda _link: None)
        links.append(warden)
        pids.append(_listening(path))
        return Crash(tmp_path, warden, pids[-1])

    yield start
    for link in links:
        link.close()
    await asyncio.sleep(0)
    await eventually(lambda: not any(process.is_alive(pid, process.start_ticks(pid)) for pid in pids))


def _listening(path: str) -> int:
    """The process with this socket path's directory among its arguments that is not this one."""
    directory = os.fsencode(Path(path).parent)
    return next(
        stat.pid
        for stat in process.living_processes()
        if stat.pid != os.getpid() and directory in arguments_of(stat.pid)
    )


def _ignore(_link: Link, _message: Message) -> None:
    pass


async def test_death_right_after_the_start_keeps_the_time_limit(
    crash: Callable[[str], Awaitable[Crash]],
) -> None:
    attempt = await crash("after the spawn")

    await attempt.run("exec sleep 60", walltime_s=0.5)

    record = await attempt.record()
    assert (record["ended_by"], record["signal"]) == ("walltime", signal.SIGTERM)


async def test_death_before_the_gate_voids_it(crash: Callable[[str], Awaitable[Crash]]) -> None:
    attempt = await crash("before the gate")

    await attempt.run("echo ran")

    decision = await eventually(lambda: gate.read(attempt.control))
    assert decision["decision"] == "void"
    assert gate.read_exit(attempt.control) is None
    assert (attempt.run_dir / "stdout").read_bytes() == b""


@pytest.mark.parametrize("where", ["after the gate", "before the spawn"])
async def test_death_between_gate_and_start_is_a_record_of_never_started(
    crash: Callable[[str], Awaitable[Crash]], where: str
) -> None:
    attempt = await crash(where)

    await attempt.run("echo ran")

    record = await attempt.record()
    assert record["error"]["code"] == "keeper_died_before_start"
    assert (record["exit_code"], record["signal"], record["started_at"]) == (None, None, None)
    assert (attempt.run_dir / "stdout").read_bytes() == b""


@pytest.mark.parametrize("script", ["echo ran; exit 3", "echo ran; sleep 0.2; exit 3"])
@pytest.mark.parametrize(
    "where",
    [
        "after the spawn",
        "after the note of the leader",
        "before the leader is reaped",
        "after the leader was reaped",
        "before the record is linked",
        "after the record was linked",
    ],
)
async def test_death_after_the_start_loses_no_status(
    crash: Callable[[str], Awaitable[Crash]], where: str, script: str
) -> None:
    attempt = await crash(where)

    await attempt.run(script)

    record = await attempt.record()
    assert (record["exit_code"], record["signal"], record["error"]) == (3, None, None)
    assert (attempt.run_dir / "stdout").read_bytes() == b"ran\n"
    await eventually(lambda: sorted(os.listdir(attempt.control)) == ["exit", "gate", "token"])


async def test_death_after_the_start_does_not_leave_a_daemon(
    crash: Callable[[str], Awaitable[Crash]],
) -> None:
    attempt = await crash("after the spawn")

    await attempt.run("(setsid env -i sleep 60 &) ; sleep 0.1; exit 3")

    record = await attempt.record()
    assert (record["exit_code"], record["leftovers"]) == (3, 1)


async def _die_at_one_instant(attempts: dict[str, Crash], scripts: dict[str, str], left: int) -> None:
    """Let all keepers die before their warden sees the first death, and `left` commands or daemons be its children."""
    for token, attempt in attempts.items():
        await attempt.prepare(token)
    warden = next(iter(attempts.values())).warden_pid
    os.kill(warden, signal.SIGSTOP)
    try:
        for token, attempt in attempts.items():
            await attempt.start(scripts[token], token)
        await eventually(lambda: _orphans_at_rest(warden) == left)
    finally:
        os.kill(warden, signal.SIGCONT)


def _orphans_at_rest(warden: int) -> int:
    """How many children it has that ended or sleep, its keepers aside."""
    children = [stat for stat in process.all_processes() if stat.parent == warden and stat.session != warden]
    return sum(stat.session == stat.pid and stat.state in "ZS" for stat in children)


async def test_keepers_that_die_at_one_instant_lose_no_status(
    crash: Callable[[str], Awaitable[Crash]],
) -> None:
    first = await crash("after the spawn")
    scripts = {f"token-{code}": f"echo ran; exit {code}" for code in range(3, 8)}
    attempts = {token: first.another(f"job-{token}") for token in scripts}

    await _die_at_one_instant(attempts, scripts, left=len(scripts))

    ends = {token: (await attempt.record())["exit_code"] for token, attempt in attempts.items()}
    assert ends == {f"token-{code}": code for code in range(3, 8)}


async def test_daemon_is_not_taken_for_the_command_that_left_it(
    crash: Callable[[str], Awaitable[Crash]],
) -> None:
    first = await crash("after the spawn")
    daemon = "setsid -f sleep 60; "
    scripts = {f"token-{code}": f"{daemon} exit {code}" for code in range(3, 6)}
    attempts = {token: first.another(f"job-{token}") for token in scripts}

    await _die_at_one_instant(attempts, scripts, left=2 * len(scripts))

    records = {token: await attempt.record() for token, attempt in attempts.items()}
    ends = {token: (record["exit_code"], record["leftovers"]) for token, record in records.items()}
    assert ends == {f"token-{code}": (code, 1) for code in range(3, 6)}


async def test_death_that_a_warden_without_descriptors_sees_loses_no_status(
    crash: Callable[[str], Awaitable[Crash]],
) -> None:
    attempt = await crash("after the spawn")
    await attempt.prepare("token")
    limits = resource.prlimit(attempt.warden_pid, resource.RLIMIT_NOFILE)
    resource.prlimit(attempt.warden_pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    await attempt.start("exit 3", "token")

    assert await attempt.ask_warden("token") == "elsewhere"

    resource.prlimit(attempt.warden_pid, resource.RLIMIT_NOFILE, limits)
    assert (await attempt.record())["exit_code"] == 3


async def test_command_that_put_its_mark_away_is_not_taken_for_never_started(
    crash: Callable[[str], Awaitable[Crash]],
) -> None:
    attempt = await crash("after the spawn")
    await attempt.prepare("token")
    os.kill(attempt.warden_pid, signal.SIGSTOP)
    try:
        away = "prlimit --pid $$ --locks=5; touch away; while [ ! -e go ]; do sleep 0.01; done"
        await attempt.start(away, "token")
        await eventually((attempt.run_dir / "away").exists)
    finally:
        os.kill(attempt.warden_pid, signal.SIGCONT)

    answer = await attempt.ask_warden("token")

    (attempt.run_dir / "go").touch()
    assert answer == "unknown"
    assert gate.read_exit(attempt.control) is None

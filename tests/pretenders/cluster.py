"""The jobs of a pretended scheduler: a file with all of them, and a process beside each that runs."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

WAITING, RUNNING, ENDED = "waiting", "running", "ended"
_POLL_S = 0.02
# After a warning, and between the last one and KILL; `kill_delay` of PBS and JOB_TERMINATE_INTERVAL of LSF are 10 s at
# first. Who ends by a warning has to have time for it on a machine that does much else.
_WARNED_S = 0.5
_GRACE_S = 5.0
_LONG_S = 3600.0
_HEARD = frozenset({signal.SIGTERM, signal.SIGCHLD})


@dataclass
class Job:
    """A job, or an element of an array: those have the same number.

    `status` is that of its top process, as `waitpid` has it; `why` is what ended it, if somebody did.
    """

    number: int
    name: str
    queue: str
    script: str
    stdout: str
    stderr: str
    submitted_at: float
    index: int | None = None
    argv: Sequence[str] = ()
    stdin: str = ""
    cwd: str = "/"
    env: Mapping[str, str] = field(default_factory=dict)
    asked: Mapping[str, str] = field(default_factory=dict)
    limit_s: float | None = None
    state: str = WAITING
    is_held: bool = False
    is_suspended: bool = False
    why: str = ""
    runner: int | None = None
    session: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    status: int | None = None

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return f"{self.number}" if self.index is None else f"{self.number}[{self.index}]"


Jobs = dict[str, Job]


def named(jobs: Jobs, key: str) -> Sequence[Job]:
    """The jobs that a user means by `12`, `12[3]` or `12[]`; none if there are none."""
    if key in jobs:
        return [jobs[key]]
    number = key.removesuffix("[]")
    return [job for job in jobs.values() if str(job.number) == number]


class Cluster:
    """All jobs. `warnings` come before KILL when one is ended; at its time limit they follow `at_limit`.

    `is_anew`: whether a further wish puts off what a former one began; if not, both go their way.
    """

    def __init__(
        self,
        directory: Path,
        warnings: Sequence[int],
        *,
        at_limit: Sequence[int] = (),
        is_anew: bool,
        closed_queue: str,
    ) -> None:
        self.directory = directory
        self._warnings = warnings
        self._at_limit = at_limit
        self._is_anew = is_anew
        self._closed_queue = closed_queue

    @property
    def is_down(self) -> bool:
        """Whether the daemons are to be away; what runs runs on."""
        return (self.directory / "down").exists()

    @property
    def stutters(self) -> bool:
        """Whether what is submitted is to be taken twice, and nobody to hear of it."""
        return (self.directory / "stutter").exists()

    def swallow(self) -> None:
        """Die, if this is the submission that is to be lost."""
        with suppress(FileNotFoundError):
            (self.directory / "swallow").unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def jobs(self) -> Iterator[Jobs]:
        """All jobs by number; what is changed in them is stored."""
        with (self.directory / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            jobs = self._load()
            yield jobs
            fresh = self.directory / "jobs.new"
            fresh.write_text(json.dumps([asdict(job) for job in jobs.values()]))
            fresh.replace(self.directory / "jobs")

    def submit(self, jobs: Jobs, text: str, indices: Sequence[int] | None, **fields: Any) -> Sequence[Job]:
        """A new job, or the elements of an array; the script is copied."""
        number = max((job.number for job in jobs.values()), default=0) + 1
        script = self.directory / f"{number}.SC"
        script.write_text(text, errors="surrogateescape")
        script.chmod(0o700)
        each: Sequence[int | None] = (None,) if indices is None else indices
        new = [
            Job(number=number, index=index, script=str(script), submitted_at=time.time(), **fields)
            for index in each
        ]
        jobs.update({job.key: job for job in new})
        return new

    def schedule(self, jobs: Jobs) -> None:
        """Start what waits and may run."""
        for job in jobs.values():
            if job.state == WAITING and not job.is_held and job.queue != self._closed_queue:
                self._start(job)

    def end(self, job: Job, why: str) -> None:
        """As its owner wishes: at once, or with the first signal of several."""
        job.why = why
        if job.state == WAITING:
            job.state, job.ended_at = ENDED, time.time()
        elif job.runner is not None:
            os.kill(job.runner, signal.SIGTERM)

    def suspend(self, job: Job, number: int) -> None:
        """Stop or continue what runs."""
        job.is_suspended = number != signal.SIGCONT
        if job.session is not None:
            _signal_group(job.session, number)

    def _load(self) -> Jobs:
        with suppress(FileNotFoundError):
            stored = json.loads((self.directory / "jobs").read_text())
            return {job.key: job for job in (Job(**fields) for fields in stored)}
        return {}

    def _start(self, job: Job) -> None:
        job.state, job.started_at = RUNNING, time.time()
        reading, writing = os.pipe()
        runner = os.fork()
        if runner == 0:
            os.close(reading)
            self._hold(job, writing)
        os.close(writing)
        with os.fdopen(reading) as told:
            job.runner, job.session = runner, int(told.read())

    def _hold(self, job: Job, writing: int) -> None:
        """The process beside a job, which TERM tells to end it. It lets go of all that the submitter has open."""
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        os.closerange(3, writing)
        os.closerange(writing + 1, 256)
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        session = os.fork()
        if session == 0:
            self._become(job)
        os.write(writing, str(session).encode())
        os.close(writing)
        limit_at = None if job.limit_s is None else time.monotonic() + job.limit_s
        ending = _Ending(self._warnings, self._at_limit, limit_at, is_anew=self._is_anew)
        status: int | None = None
        while status is None or _has_members(session):
            for number in ending.due(time.monotonic()):
                _signal_group(session, number)
                _signal_group(session, signal.SIGCONT)
            pause_s = ending.pause_s(time.monotonic())
            # Of the ends of those whom the top process leaves behind nobody is told.
            heard = signal.sigtimedwait(_HEARD, pause_s if status is None else min(pause_s, _POLL_S))
            if heard is not None and heard.si_signo == signal.SIGTERM:
                ending.wish(time.monotonic())
            if status is None:
                status = _status_of(session)
        with self.jobs() as jobs:
            ended = jobs[job.key]
            ended.state, ended.status, ended.ended_at = ENDED, status, time.time()
            ended.is_suspended, ended.why = False, "limit" if ending.is_limit else ended.why
            self.schedule(jobs)
        os._exit(0)

    def _become(self, job: Job) -> None:
        """The top process of a job, in a session of its own."""
        try:
            os.setsid()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
            for descriptor, path in ((1, job.stdout), (2, job.stderr)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), descriptor)
            reading, writing = os.pipe()
            os.write(writing, job.stdin.encode())
            os.close(writing)
            os.dup2(reading, 0)
            os.chdir(job.cwd)
            os.closerange(3, 256)
            os.execve("/bin/sh", list(job.argv), dict(job.env))
        finally:
            os._exit(254)


class _Ending:
    """The end of a job that somebody wishes, or its time limit: which signals are sent when."""

    def __init__(
        self, warnings: Sequence[int], at_limit: Sequence[int], limit_at: float | None, *, is_anew: bool
    ) -> None:
        self.is_limit = False
        self._warnings = warnings
        self._at_limit = at_limit
        self._limit_at = limit_at
        self._is_anew = is_anew
        self._due: list[tuple[float, int]] = []

    def wish(self, now: float) -> None:
        """Somebody wishes it."""
        if self._is_anew:
            self._due.clear()
        self._begin(self._warnings, now)

    def due(self, now: float) -> Sequence[int]:
        """Which signals are to be sent now."""
        if self._limit_at is not None and self._limit_at <= now:
            self.is_limit, self._limit_at = not self._due, None
            self._begin((*self._at_limit, *self._warnings), now)
        found = [number for at, number in sorted(self._due) if at <= now]
        self._due = [(at, number) for at, number in self._due if at > now]
        return found

    def pause_s(self, now: float) -> float:
        """How long none is."""
        times = [at for at, _ in self._due]
        if self._limit_at is not None:
            times.append(self._limit_at)
        return max(min(times, default=now + _LONG_S) - now, 0.0)

    def _begin(self, warnings: Sequence[int], now: float) -> None:
        steps = [_WARNED_S * nth for nth in range(len(warnings))]
        kill = (now + steps[-1] + _GRACE_S, signal.SIGKILL)
        self._due += [*((now + step, number) for step, number in zip(steps, warnings, strict=True)), kill]


def _status_of(pid: int) -> int | None:
    """How a child ended; None if it has not."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return status if ended else None


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def answer(code: int, stdout: str = "", stderr: str = "") -> None:
    """End this program."""
    sys.stdout.write(stdout)
    sys.stderr.write(stderr)
    sys.stdout.flush()
    sys.exit(code)

"""The contract between the dispatcher and whatever runs attempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from jobmgr.domain.environment import Environment
from jobmgr.domain.job import JobError, Origin
from jobmgr.domain.resources import Resources
from jobmgr.domain.site import Step
from jobmgr.domain.wish import Stored, Wished
from jobmgr.executors.cluster import Cluster


@dataclass(frozen=True, slots=True)
class Launch:
    """A claimed attempt, with all that is needed to run it. Paths are absolute.

    `cwd` None means the run directory. `env` is what the job asked for; the executor fetches the secrets in it, and
    adds the base environment and the JOBMGR_* variables. If there are `gpus` their names are CUDA_VISIBLE_DEVICES,
    whatever `env` says about it; if not, it is neither set nor removed. `origin` is that of an attempt which an earlier
    service claimed. `handle` is what is known of it already in a foreign queue, `resources` what it asks of one,
    `priority` that of its job. `heeds_memory`: it matters whether it fails for want of memory or otherwise.
    """

    job_id: str
    number: int
    token: str
    command: tuple[str, ...]
    env: Environment = field(default_factory=dict)
    cwd: str | None = None
    walltime_s: float | None = None
    origin: Origin | None = None
    gpus: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    handle: str | None = None
    priority: int = 0
    heeds_memory: bool = False

    @property
    def place(self) -> str:
        """Where its directories lie, below those of all attempts."""
        return f"{self.job_id}/{self.number}"


# The token with which an attempt may speak for its job; None: nobody would ask for it.
JobToken = Callable[[Launch], str | None]


def no_token(_launch: Launch) -> str | None:
    """Where no service answers."""
    return None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Files that an attempt has to leave, by their names below its run directory."""

    launch: Launch
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How the command of an attempt ended, written once by the process that held it.

    Exactly one of `exit_code`, `signal` and `error` is set: it exited, it was killed, or it never started
    although the gate was passed (no such program, not executable, no such cwd). `ended_by` is `self`,
    `cancel` or `walltime`. `leftovers` counts processes that outlived the leader and were ended.
    """

    token: str
    exit_code: int | None
    signal: int | None
    error: JobError | None
    ended_by: str
    started_at: datetime | None
    ended_at: datetime
    cpu_s: float | None
    peak_memory_bytes: int | None
    leftovers: int


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A foreign queue has the attempt; `handle` is what it calls it there, all its names with blanks between."""

    token: str
    handle: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a foreign queue lets the attempt wait, or suspended it, in that one's words; another reason than before."""

    token: str
    reason: str


@dataclass(frozen=True, slots=True)
class Told:
    """The foreign queue where the attempt waits took what it was told of it."""

    token: str
    wished: Stored


@dataclass(frozen=True, slots=True)
class Started:
    """The gate was passed and the command runs; `handle` names it (`pid@boot_id:start_ticks`)."""

    token: str
    handle: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Paused:
    """Every process of the attempt was seen stopped; by a foreign queue perhaps without anybody's wish."""

    token: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The processes of the attempt go on."""

    token: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Nothing can be said about the attempt now, and why; it is looked for until something can."""

    token: str
    why: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The exit record is there."""

    token: str
    record: ExitRecord


@dataclass(frozen=True, slots=True)
class NeverRan:
    """The gate is void, or there is no gate and never can be one: this attempt did not run and never will.

    `error` None: released on request or for want of an executor, so the job may be claimed again.
    Otherwise the reason it could not be started (disk full, directory not writable). `shortage` says what
    the executor itself is short of, if that is why it was released: what is claimed next would fare no better.
    """

    token: str
    error: JobError | None
    shortage: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Lost:
    """The holder is proven dead and left no record; `evidence` says how that is known."""

    token: str
    evidence: str


RAN_BEFORE = (
    "ran_before_restore: an attempt of this id and number ran there already, for a database of which an older copy was "
    "restored since, or for a job that was deleted; look at what it left, then `jobmgr retry` runs this one"
)

Turn = Paused | Resumed
Final = Ended | NeverRan | Lost
Report = Scheduled | Waiting | Told | Started | Turn | Unreachable | Final


class Executor(Protocol):
    """Runs attempts and reports about them.

    Each launched or recovered attempt gets exactly one final report (Ended, NeverRan, Lost), after at most one
    Started, unless this process ends first: then the same attempt, recovered by the next service, gets it.
    Before that it is told when the attempt was Paused or Resumed, or is Unreachable.
    Reports go to the callable given at construction, in the event loop's thread.
    """

    async def start(self) -> None:
        """Make ready to launch. Raises ExecutorUnavailable."""
        ...

    async def launch(self, launches: Sequence[Launch]) -> None:
        """Hand over claimed attempts. Returns when all are handed over; never raises for a single one."""
        ...

    async def cancel(self, token: str, grace_s: float) -> None:
        """End the attempt: void its gate, or TERM its whole tree, and KILL what is left after `grace_s`.

        Its final report follows. An attempt this executor does not hold is ignored.
        """
        ...

    async def pause(self, token: str) -> None:
        """Stop the attempt's whole tree where it is. Paused follows, unless it ends first."""
        ...

    async def resume(self, token: str) -> None:
        """Let a paused attempt go on. Resumed follows, also if it was not paused; unless it ends first."""
        ...

    def run_directory(self, launch: Launch) -> str:
        """Where the attempt's own files lie."""
        ...

    async def missing(self, wanted: Sequence[Wanted]) -> Sequence[tuple[str, ...] | None]:
        """Of each of these attempts the files that are not there; None where nobody can look now.

        Raises SiteUnreachable if that is so of all of them.
        """
        ...

    async def recover(self, launches: Sequence[Launch]) -> None:
        """Re-enter attempts of an earlier service where they really are.

        Gate absent: void it, NeverRan; but Lost if it was claimed in another boot or seen running; at a foreign
        queue it is looked for there, and handed in if it was not. Exit record there: Ended. Running: Started, and
        watched from now on. Holder proven dead without a record: Lost. Its files or its machine out of reach:
        Unreachable, until they are reached.
        """
        ...

    async def forget(self, token: str) -> None:
        """The attempt is somebody else's now: say no more about it, and leave it alone."""
        ...

    async def stop(self) -> None:
        """Let go: running commands run on under their keepers."""
        ...


class ForeignExecutor(Executor, Protocol):
    """One that hands attempts to a foreign queue."""

    @property
    def cluster(self) -> Cluster:
        """What is behind that queue."""
        ...

    @property
    def trouble(self) -> str:
        """Why the work directory there is not known to be its site's own, in a sentence; empty if it is.

        Nothing is handed in, looked at or decided in another one. An executor that has not looked yet says so.
        """
        ...

    async def recognise(self, work_id: str) -> str:
        """Look whether it is the one of this name, and insist on that from now on; answers its name.

        Empty: its name is not stored yet, so unless one was insisted on before any is answered. Raises
        SiteUnreachable.
        """
        ...

    def expected_start(self, token: str) -> datetime | None:
        """When that queue expects the attempt to start; None if it does not say."""
        ...

    async def trial(self) -> Sequence[Step]:
        """Try whatever attempts need there, until something is wrong."""
        ...

    def reason(self, token: str) -> str:
        """Why the attempt waits or is suspended there, in that queue's words; empty if that is not known, or not so.

        Of an attempt in any state it begins with since when the queue was not heard, if it is not.
        """
        ...

    async def tell(self, token: str, wished: Wished) -> None:
        """Tell that queue of an attempt that waits there, or once it does. Told follows, if that queue took it.

        It is told again while the answer is doubtful, or another job of the attempt appears there, and not any more
        once it was refused (`remark`), the attempt was seen to run, or something else of the same kind is wished. Told
        twice it does no more. An attempt that is to be held, and was not sent there yet, is given back: NeverRan.
        """
        ...

    def remark(self, token: str, kind: type[Wished]) -> str | None:
        """What that queue said to the last wish of this kind, if it did not take it; empty if it is still to be told.

        None: it took it, or no such wish is known.
        """
        ...

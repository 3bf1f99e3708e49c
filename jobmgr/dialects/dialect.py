"""What a dialect says to a scheduler and understands of its answers: text in, text out.

No process, no file, no clock: an executor runs the commands over a transport and hands the answers back. An answer
proves what it says and nothing else: what is not a plain success or a plain refusal is doubtful, and what a scheduler
does not list is not therefore gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from jobmgr.domain.resources import Resources


@dataclass(frozen=True, slots=True)
class Command:
    """A program at the site, with its arguments, and what it reads."""

    argv: tuple[str, ...]
    stdin: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command answered. `exit_code` None: it did not in time, or the way to it broke; it may have worked.

    Bytes that are not UTF-8 are in the texts as `surrogateescape` has them.
    """

    exit_code: int | None
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """One submission: a script that runs once, or once per element. Paths are absolute, of the site.

    `name` is the token of the submission, by which it is found again. `body` is the script itself, without
    directives. `elements` is how many there are of an array, with indices from 0. `directives` are options in the
    scheduler's own words, each one line without its prefix (`--nice=100`). `priority` is said as far as the scheduler
    lets everybody say it; directives may say something else.
    """

    name: str
    body: str
    stdout: str
    stderr: str
    cwd: str
    resources: Resources = field(default_factory=Resources)
    directives: tuple[str, ...] = ()
    is_held: bool = False
    elements: int | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Submitted:
    """The scheduler has the job, under this id."""

    id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """It will not have the job, for a reason that does not pass by itself; in its own words."""

    words: str


@dataclass(frozen=True, slots=True)
class Busy:
    """It did not take the job now, for certain, and may later; in its own words.

    `is_full`: the number of jobs that it has is the reason, so it may take a smaller array. It `is_general` if others
    would not be taken either, whatever they ask for.
    """

    words: str
    is_full: bool = False
    is_general: bool = True


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Whether it took the job is not known: it has to be looked up by name."""

    words: str


Submission = Submitted | Refused | Busy | Doubtful


class Phase(StrEnum):
    """Where a job is in its scheduler's hands."""

    PENDING = "pending"
    HELD = "held"
    RUNNING = "running"
    SUSPENDED = "suspended"
    ENDING = "ending"
    ENDED = "ended"
    UNKNOWN = "unknown"
    MISSING = "missing"  # accounting takes it for alive, and the queue does not know it


class Cause(StrEnum):
    """What ended a run, as its scheduler tells it."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    NODE_FAIL = "node_fail"
    PREEMPTED = "preempted"
    OUT_OF_MEMORY = "out_of_memory"
    BOOT_FAIL = "boot_fail"
    DEADLINE = "deadline"
    REVOKED = "revoked"
    REQUEUED = "requeued"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a scheduler says about one of its jobs, or one run of it: a hint. Gate and exit record decide.

    `word` is its own word for the state, `reason` why the job waits. `restarts` counts earlier runs under the same
    id. `has_run` is False only where the scheduler says that nothing of it ever ran. Times are UTC. `index` is that
    of an element in its array, from 0. Whose job it is, in which partition, and how much it has in all or, while it
    waits, asks for, is told where all are listed.
    """

    id: str
    name: str
    phase: Phase
    word: str
    cause: Cause | None = None
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    restarts: int | None = None
    has_run: bool | None = None
    expected_start: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    nodes: str = ""
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    index: int | None = None
    user: str = ""
    partition: str = ""
    node_count: int | None = None
    cpus: int | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a scheduler listed. Who is missing in it is absent only if it is `complete`; else `why` it is not.

    `has_queue`: all that waits or runs is listed, though perhaps not what has ended.
    """

    jobs: tuple[Standing, ...]
    complete: bool
    why: str = ""
    has_queue: bool = False

    @property
    def has_whole_queue(self) -> bool:
        """Whether who is missing neither waits nor runs."""
        return self.complete or self.has_queue


class Wish(StrEnum):
    """What a scheduler is asked to do with a job that it has."""

    CANCEL = "cancel"
    HOLD = "hold"
    RELEASE = "release"
    SUSPEND = "suspend"
    RESUME = "resume"


class Compliance(StrEnum):
    """How it answered a wish. DONE means that it was taken, not that it is over."""

    DONE = "done"
    GONE = "gone"
    REFUSED = "refused"
    DOUBTFUL = "doubtful"


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition (a scheduler's queue) of a site. None: not limited, or not told."""

    name: str
    is_default: bool
    is_up: bool
    max_walltime_s: float | None
    nodes: int | None
    cpus: int | None
    jobs_running: int | None = None
    jobs_pending: int | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of a site. `state` is the scheduler's own word."""

    name: str
    state: str
    is_up: bool
    cpus: int | None
    cpus_used: int | None
    memory_bytes: int | None
    gpus: int | None
    partitions: tuple[str, ...]


class Dialect(Protocol):
    """One scheduler's language."""

    name: str
    # Shell words that a running script knows itself by: id as it is listed, earlier runs under this id (empty where a
    # script is not told), index in its array from 0.
    id_word: str
    restarts_word: str
    index_word: str
    # The variable in which a job finds the directory that it was handed in from; empty if there is none.
    directory_variable: str

    @property
    def array_cap(self) -> int | None:
        """How many elements an array may have, two at least; None where elements cannot be told apart."""
        ...

    def probe(self) -> tuple[Command, ...]:
        """Ask what this installation is and allows; none where nothing depends on it."""
        ...

    def fitted(self, answers: Sequence[Answer]) -> Dialect:
        """This language as it is spoken there, after `probe`, in the order of its commands. Raises NotUnderstood."""
        ...

    def element(self, id_: str, index: int) -> str:
        """The id under which an element is listed, of the id that `submit` of its array answered."""
        ...

    def array(self, id_: str) -> str:
        """The id of the array that an element is of; of any other job its own."""
        ...

    def installation(self) -> str:
        """What it was fitted to besides the length of arrays, for people."""
        ...

    def check_options(self, options: Sequence[str]) -> None:
        """Raise InvalidRequest, naming `resources.directives`, for an option that no installation takes from users."""
        ...

    def script(self, order: Order) -> str:
        """The whole batch script. Raises InvalidRequest, naming the field, for what it cannot say."""
        ...

    def handed_in(self, path: str, order: Order) -> str:
        """What the scheduler itself reads of the job whose script lies at `path`: this script, or a file that names it.

        Raises InvalidRequest as `script` does, and, naming `work_dir`, for a path that it cannot say.
        """
        ...

    def submit(self, path: str, order: Order) -> Command:
        """Hand in the script that lies at `path`."""
        ...

    def submitted(self, answer: Answer) -> Submission:
        """What came of `submit`."""
        ...

    def find(self, names: Sequence[str]) -> tuple[Command, ...]:
        """Look for all jobs of these names, ended ones too; each command is needed. There is at least one name."""
        ...

    def found(self, names: Sequence[str], answers: Sequence[Answer]) -> Listing:
        """What came of `find`, in the order of its commands; only jobs of exactly these names."""
        ...

    def look(self, ids: Sequence[str]) -> tuple[Command, ...]:
        """Look at these jobs, all with the same few commands; elements are looked at by the id of their array."""
        ...

    def seen(self, answers: Sequence[Answer]) -> Listing:
        """What came of `look`, in the order of its commands; also others' jobs where it cannot be narrowed."""
        ...

    def ask(self, wish: Wish, ids: Sequence[str]) -> Command | None:
        """Pass a wish on; None where the scheduler cannot do that."""
        ...

    def prioritise(self, priority: int, ids: Sequence[str]) -> Command | None:
        """Let jobs go before or after others of the same user; None where that cannot be said."""
        ...

    def complied(self, answer: Answer) -> Compliance:
        """What came of `ask` or `prioritise`. Schedulers do not tell of several jobs which one was meant: look."""
        ...

    def partitions(self) -> Command:
        """List the partitions."""
        ...

    def read_partitions(self, answer: Answer) -> tuple[Partition, ...]:
        """What came of `partitions`. Raises NotUnderstood."""
        ...

    def nodes(self) -> Command:
        """List the machines."""
        ...

    def read_nodes(self, answer: Answer) -> tuple[Node, ...]:
        """What came of `nodes`. Raises NotUnderstood."""
        ...

    def everything(self) -> Command:
        """List all jobs of all users that have not ended."""
        ...

    def read_everything(self, answer: Answer) -> Listing:
        """What came of `everything`."""
        ...

    def version(self) -> Command:
        """Ask which scheduler this is."""
        ...

    def read_version(self, answer: Answer) -> str | None:
        """Its name and version for people; None if it is not this scheduler, or does not answer."""
        ...


class NotUnderstood(ValueError):
    """An answer is not what the dialect expects; the message has its beginning."""

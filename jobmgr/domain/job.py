"""The values a job is made of: what was asked (`NewJob`, `JobSpec`), what is shown (`Job`, `Attempt`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from jobmgr.domain.environment import Environment
from jobmgr.domain.queue import DEFAULT_QUEUE
from jobmgr.domain.resources import Resources
from jobmgr.domain.retry import Retry
from jobmgr.domain.site import LOCAL
from jobmgr.domain.status import Status
from jobmgr.errors import InvalidRequest

# How many ids a listing takes: they travel in one URL and fit into one statement of each database.
MAX_LISTED_IDS = 1000
# How much of an id has to be given where its beginning may stand for it.
MIN_ID_PREFIX = 4


class When(StrEnum):
    """How a dependency is met: the parent completed, ended otherwise, or ended at all."""

    SUCCESS = "success"
    FAILURE = "failure"
    ANY = "any"

    def is_met_by(self, status: Status) -> bool:
        """Whether a parent that ended as `status` satisfies this."""
        return self is When.ANY or (self is When.SUCCESS) == (status is Status.COMPLETED)


class OnLost(StrEnum):
    """What happens to a job whose attempt is proven dead without an exit record."""

    FAIL = "fail"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Dependency:
    """`job_id` must have ended as `when` says before the job that carries this may run.

    `met` says whether it did; None: it has not ended, or ended and runs again. `job_id` is empty if whoever asks may
    not see that job.
    """

    job_id: str
    when: When = When.SUCCESS
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Success:
    """What counts as success: one of these exit codes, and these files (relative to the run directory) exist."""

    exit_codes: tuple[int, ...] = (0,)
    required_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What is to run, and after which jobs; frozen once the job leaves draft.

    `grown` is what the next attempt asks for instead of that in `resources`, because one before had too little.
    `payload` is what the job was made of, if it was not made of a command.
    """

    command: tuple[str, ...]
    env: Environment = field(default_factory=dict)
    cwd: str | None = None
    resources: Resources = field(default_factory=Resources)
    retry: Retry = field(default_factory=Retry)
    on_lost: OnLost = OnLost.FAIL
    success: Success = field(default_factory=Success)
    depends_on: tuple[Dependency, ...] = ()
    grown: Resources = field(default_factory=Resources)
    payload: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """One job as it is handed to the store: checked, normalised, defaults filled in.

    Without a `site`, `executor` says of which kind its site is; the store knows the sites. Of one `key` its user has
    one job; `fingerprint` tells the same job again from another one. `kind` says what `payload` is, as JSON has it:
    what the job was made of. `at` is where the job stood in its request (`jobs[3].`), for errors to name the field by.
    """

    job_id: str
    spec: JobSpec
    name: str = ""
    description: str = ""
    user: str = ""
    queue: str = DEFAULT_QUEUE
    site: str | None = LOCAL
    executor: str | None = None
    priority: int = 0
    draft: bool = False
    due_at: datetime | None = None
    tags: tuple[str, ...] = ()
    extended_properties: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    fingerprint: str | None = None
    kind: str | None = None
    payload: Mapping[str, Any] | None = None
    at: str = ""


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job did not complete: a stable code and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job as everybody sees it: one row, at version `v`. Times are aware UTC.

    `kind` is that of what it was made of; None: of a command.
    """

    job_id: str
    name: str
    description: str
    status: Status
    priority: int
    queue: str
    site: str
    executor: str
    user: str
    draft: bool
    attempt: int
    exit_code: int | None
    error: JobError | None
    created_at: datetime
    due_at: datetime | None
    held_at: datetime | None
    deps_left: int
    cancel_requested_at: datetime | None
    pause_requested_at: datetime | None
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    handle: str | None
    work_dir: str | None
    tags: tuple[str, ...]
    extended_properties: Mapping[str, Any]
    key: str | None
    v: int
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at running a job. `outcome` is empty while it is live, else completed, failed, cancelled,
    lost or released (its gate is void: it never ran and never will). `gpus` are the names of those it was given,
    `grown` is what it asked for instead of what its job says."""

    job_id: str
    number: int
    token: str
    lease: int
    dispatcher: str
    counted: bool
    outcome: str | None
    handle: str | None
    work_dir: str | None
    claimed_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    unreachable_at: datetime | None
    exit_code: int | None
    signal: int | None
    ended_by: str | None
    error: JobError | None
    cpu_s: float | None
    peak_memory_bytes: int | None
    leftovers: int
    gpus: tuple[str, ...]
    grown: Resources


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an attempt was claimed by an earlier service, and whether its start was seen.

    `work_id` is what the file `id` in `work_dir` said then; empty if that is not known.
    """

    work_dir: str
    work_id: str
    host: str
    boot_id: str
    has_started: bool


@dataclass(frozen=True, slots=True)
class Event:
    """One committed fact. `data` holds the fields of the job that changed; `seq` orders all facts."""

    seq: int
    at: datetime
    kind: str
    job_id: str | None
    user: str
    v: int
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EventPosition:
    """A place in the event log: the database's epoch and the last number seen."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"

    @classmethod
    def parse(cls, text: str, field_name: str = "after", epoch: str = "") -> EventPosition:
        """The position written as `epoch:seq`, or as `seq` if it is of `epoch`. Raises InvalidRequest."""
        said, _, seq = text.rpartition(":")
        epoch = said or epoch
        if not epoch or not seq.isascii() or not seq.isdigit() or len(seq) > 18:
            raise InvalidRequest(field_name, f"{text!r} is not an event position; use the one of an answer")
        return cls(epoch, int(seq))


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; what is None does not restrict, what is empty selects nothing.

    `name` may hold `*` as a wildcard; of `ids` there are at most MAX_LISTED_IDS. `users` are those whose jobs may be
    seen at all.
    """

    status: frozenset[Status] | None = None
    ids: tuple[str, ...] | None = None
    id_prefix: str | None = None
    user: str | None = None
    queue: str | None = None
    site: str | None = None
    executor: str | None = None
    tag: str | None = None
    name: str | None = None
    users: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of a listing, and the position of the event log at which it was read.

    `total` is how many jobs the whole filter selects, if it was asked for; if it is not exact, there are more.
    """

    jobs: list[Job]
    next_cursor: str | None
    position: EventPosition
    total: int | None = None
    total_is_exact: bool | None = None


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file in a run directory; `path` is relative to it, with U+FFFD for bytes that are no UTF-8."""

    path: str
    size_bytes: int
    modified_at: datetime

"""What the API answers. New fields may be added; clients skip them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from jobmgr.domain.access import Role, Scope
from jobmgr.domain.job import When
from jobmgr.domain.status import Status

# Text, not datetime: msgspec leaves out microseconds that are zero, and a fixed width sorts as text.
Moment = Annotated[
    str,
    Meta(
        description="RFC 3339, UTC, microseconds: 2026-01-31T18:00:00.000000Z",
        extra_json_schema={"format": "date-time"},
    ),
]


class ErrorAnswer(Struct):
    """Why a job did not complete: a stable code and a sentence."""

    code: str
    message: str


class JobAnswer(Struct):
    """A job; `v` grows with every change. `kind` says what it was made of: a command (null), a simulation (hfss)."""

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
    error: ErrorAnswer | None
    created_at: Moment
    due_at: Moment | None
    held_at: Moment | None
    deps_left: int
    cancel_requested_at: Moment | None
    pause_requested_at: Moment | None
    queued_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    handle: str | None
    work_dir: str | None
    tags: list[str]
    extended_properties: dict[str, Any]
    key: str | None
    v: int
    kind: str | None = None


class JobsAnswer(Struct):
    """A page of jobs, as of event `seq` of database `epoch`; `next_cursor` is null on the last one.

    `total` is how many jobs the filter selects, on all pages; if it is not exact, there are more. Both are null
    unless asked for.
    """

    jobs: list[JobAnswer]
    next_cursor: str | None
    epoch: str
    seq: int
    total: int | None = None
    total_is_exact: bool | None = None


class SubmittedAnswer(Struct):
    """The id under which a job was stored; `warnings` say what it asks for in vain."""

    job_id: str
    status: Status
    warnings: list[str] = []


class BulkAnswer(Struct):
    """The ids under which the jobs of a bulk were stored, in the order of the request.

    `warnings` say what they ask for in vain, each about the first of those that ask so.
    """

    job_ids: list[str]
    warnings: list[str] = []


class AttemptAnswer(Struct):
    """One try at running a job; `outcome` is null while it is live. `gpus` names those it was given.

    `grown` is what it asked for instead of what the job says, because an attempt before had too little.
    """

    number: int
    outcome: str | None
    counted: bool
    dispatcher: str
    handle: str | None
    work_dir: str | None
    claimed_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    unreachable_at: Moment | None
    exit_code: int | None
    signal: int | None
    ended_by: str | None
    error: ErrorAnswer | None
    cpu_s: float | None
    peak_memory_bytes: int | None
    leftovers: int
    gpus: list[str]
    grown: dict[str, int | float]


class AttemptsAnswer(Struct):
    """All attempts of a job, first one first."""

    attempts: list[AttemptAnswer]


class EventAnswer(Struct):
    """One committed fact: these fields, and beside them the fields that changed (`status`, `exit_code`, ...)."""

    seq: int
    at: Moment
    kind: str
    job_id: str | None
    user: str
    v: int


class EventsAnswer(Struct):
    """A page of events, oldest first. Ask again with `after=next_after`; `seq` is the newest event there is."""

    events: list[EventAnswer]
    epoch: str
    seq: int
    next_after: str


class DependencyAnswer(Struct):
    """A job that must have ended as `when` says; `met` is null until it has, `job_id` if the reader may not see it."""

    job_id: str | None
    when: When
    met: bool | None


class SecretAnswer(Struct):
    """Where the value of a variable is fetched from when an attempt starts."""

    secret: str


class SpecAnswer(Struct):
    """What a job runs. Resources that were not asked for are left out; `backoff_s` is in seconds.

    `growth` is what a retry asks for more of (`memory_factor`, `memory_max_bytes`, `walltime_factor`,
    `walltime_max_s`), `grown` what the next attempt asks for by now. `payload` is what a job of a `kind` was made of.
    """

    command: list[str]
    env: dict[str, str | SecretAnswer]
    cwd: str | None
    resources: dict[str, bool | int | float | str | list[str]]
    max_attempts: int
    backoff_s: float
    retry_on: list[str]
    growth: dict[str, int | float]
    on_lost: str
    exit_codes: list[int]
    required_files: list[str]
    depends_on: list[DependencyAnswer]
    grown: dict[str, int | float]
    payload: dict[str, Any] | None = None


class ReasonAnswer(Struct, omit_defaults=True):
    """One reason: a stable code and a sentence; of a job that waits elsewhere, when it is expected to start there."""

    code: str
    message: str
    expected_start: Moment | None = None


class WhyAnswer(Struct):
    """Why a job is where it is, best reason first."""

    job_id: str
    reasons: list[ReasonAnswer]


class FileAnswer(Struct):
    """A file in a run directory; `path` is relative to it."""

    path: str
    size_bytes: int
    modified_at: Moment


class FilesAnswer(Struct):
    """The files of one attempt's run directory."""

    files: list[FileAnswer]


class ProgressAnswer(Struct):
    """How far a simulation is: `line` for people, empty before anything is known; `log` is the file that says so.

    `state` is all that it says: `project`, `init_mesh`, `adaptive`, `sweep`, `log_parser`; null before there is a log.
    """

    line: str
    log: str | None
    state: dict[str, Any] | None


class QueueAnswer(Struct):
    """A queue: its limit (null: none of its own), and how many jobs are where; `live` are claimed to running."""

    name: str
    paused: bool
    max_running: int | None
    counts: dict[str, int]


class QueuesAnswer(Struct):
    """All queues, as of event `seq` of database `epoch`."""

    queues: list[QueueAnswer]
    epoch: str
    seq: int


class SiteAnswer(Struct):
    """One configured place to run; `local` is this machine. `trouble`: why this service does not serve it, if so."""

    name: str
    kind: str
    host: str | None
    work_dir: str | None
    enabled: bool
    max_submitted: int | None
    max_running: int | None
    defaults: dict[str, bool | int | float | str | list[str]]
    ssh: dict[str, int | str]
    trouble: str | None


class SitesAnswer(Struct):
    """All sites."""

    sites: list[SiteAnswer]


class StepAnswer(Struct):
    """One step of the trial of a site."""

    name: str
    is_well: bool
    said: str


class TrialAnswer(Struct):
    """What came of the trial of a site, step by step; it ends with the first that did not go well."""

    site: str
    is_well: bool
    steps: list[StepAnswer]


class PartitionAnswer(Struct):
    """A partition, or queue, of a scheduler. Null: not limited, or not told."""

    name: str
    is_default: bool
    is_up: bool
    max_walltime_s: float | None
    nodes: int | None
    cpus: int | None
    jobs_running: int | None
    jobs_pending: int | None


class PartitionsAnswer(Struct):
    """The partitions of a site, as its scheduler told them `age_s` ago."""

    site: str
    told_at: Moment
    age_s: float
    partitions: list[PartitionAnswer]


class NodeAnswer(Struct):
    """A machine; `state` is the scheduler's own word. Null: not told."""

    name: str
    state: str
    is_up: bool
    cpus: int | None
    cpus_used: int | None
    memory_bytes: int | None
    gpus: int | None
    partitions: list[str]


class NodesAnswer(Struct):
    """The machines of a site, as its scheduler told them `age_s` ago."""

    site: str
    told_at: Moment
    age_s: float
    nodes: list[NodeAnswer]


class ClusterJobAnswer(Struct):
    """Somebody's job in a scheduler's hands: `state` and `reason` are its words. What is empty or null was not told.

    `node_count`, `cpus` and `memory_bytes` are what it has in all, or asks for as long as it waits.
    """

    id: str
    name: str
    user: str
    partition: str
    phase: str
    state: str
    reason: str
    expected_start: Moment | None
    started_at: Moment | None
    nodes: str
    node_count: int | None
    cpus: int | None
    memory_bytes: int | None


class ClusterJobsAnswer(Struct):
    """A page of the jobs of a site that have not ended, of `total` that were selected, as told `age_s` ago.

    `next_cursor` is null on the last page. If they are not `complete` there may be more; `why` says why.
    """

    site: str
    told_at: Moment
    age_s: float
    jobs: list[ClusterJobAnswer]
    total: int
    next_cursor: str | None
    complete: bool
    why: str


class ClusterAnswer(Struct):
    """A site, and how large and busy its cluster is, as told `age_s` ago. Null: not told.

    `trouble` says why there is nothing newer.
    """

    site: str
    kind: str
    host: str | None
    enabled: bool
    told_at: Moment | None
    age_s: float | None
    nodes: int | None
    nodes_up: int | None
    cpus: int | None
    cpus_used: int | None
    gpus: int | None
    jobs_running: int | None
    jobs_waiting: int | None
    trouble: str | None


class InstalledAnswer(Struct):
    """A scheduler whose commands answer on the service's machine."""

    kind: str
    version: str


class ClustersAnswer(Struct):
    """All sites, and the schedulers that are `installed` on the service's machine."""

    clusters: list[ClusterAnswer]
    installed: list[InstalledAnswer]


class LimitsAnswer(Struct):
    """What the service may use of its machine; null: not limited (`max_concurrent_jobs`: the number of cores)."""

    max_concurrent_jobs: int | None
    max_cpu_percent: float | None
    min_memory_gb: float | None
    min_disk_gb: float | None


class UserAnswer(Struct):
    """A user; the service's own has no `created_at` unless somebody changed it."""

    name: str
    role: Role
    groups: list[str]
    disabled: bool
    created_at: Moment | None


class UsersAnswer(Struct):
    """All users."""

    users: list[UserAnswer]


class TokenAnswer(Struct):
    """An API token, without its secret. `expires_at` null: never. `last_used_at` is right to the minute."""

    id: str
    user: str
    label: str
    scopes: list[Scope]
    created_at: Moment
    created_by: str
    expires_at: Moment | None
    revoked_at: Moment | None
    last_used_at: Moment | None


class TokensAnswer(Struct):
    """API tokens, newest first."""

    tokens: list[TokenAnswer]


class MadeTokenAnswer(TokenAnswer):
    """An API token that was made just now: `token` is what its user shows, and is told this once."""

    token: str


class CallerAnswer(Struct):
    """Who asks, as this service sees it, and what by: an API token (`token_id`), one of a job (`job_id`), or none."""

    name: str
    role: Role
    scopes: list[Scope]
    groups: list[str]
    token_id: str | None
    job_id: str | None
    expires_at: Moment | None


class AuditEntryAnswer(Struct):
    """One change that somebody asked for, and from where: an address or `unix`, and the id of the API token if one was
    shown (`127.0.0.1 token 0a1b2c3d4e5f`); `changed` is what the event says.
    """

    seq: int
    at: Moment
    actor: str
    origin: str | None
    kind: str
    job_id: str | None
    changed: dict[str, Any]


class AuditAnswer(Struct):
    """A page of the audit, newest first; `next_cursor` is null on the last one."""

    entries: list[AuditEntryAnswer]
    next_cursor: str | None


class HealthAnswer(Struct):
    """That the service answers."""

    status: str


class ProblemAnswer(Struct, omit_defaults=True):
    """An RFC 9457 problem document. `code` is stable; `field` names what was wrong, as `jobs[3].env.PATH`.

    `last` is what would have been answered before, if a scheduler does not tell now.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    epoch: str | None = None
    seq: int | None = None
    last: dict[str, Any] | None = None

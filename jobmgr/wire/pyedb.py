"""What the routes of pyedb's job manager take and answer: what its clients read and what its documents say, at once."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

from jobmgr.domain.queue import DEFAULT_QUEUE
from jobmgr.wire.answers import LimitsAnswer
from jobmgr.wire.submission import Priority

MAX_PAGE = 10_000

# As `datetime.fromisoformat` reads it in all versions.
Moment = Annotated[
    str,
    Meta(
        description="UTC: 2026-01-31T18:00:00.000000+00:00",
        extra_json_schema={"format": "date-time"},
    ),
]


class SimulationAsked(Struct, forbid_unknown_fields=True):
    """A simulation to run. What stands beside `config`, and is not empty, stands instead of what stands in it."""

    config: Annotated[dict[str, Any], Meta(description="as HFSSSimulationConfig.to_dict() has it")]
    priority: Priority = 0
    queue: Annotated[str, Meta(max_length=128, description="of the service, not a scheduler's")] = (
        DEFAULT_QUEUE
    )
    user: (
        Annotated[str, Meta(max_length=1024, description="a note; jobs belong to whoever submits them")]
        | None
    ) = None
    machine_nodes: Annotated[list[dict[str, Any]], Meta(max_length=10_000)] | None = None
    batch_options: (
        Annotated[dict[str, Any], Meta(description="layout_options of the configuration")] | None
    ) = None
    scheduler_type: (
        Annotated[str, Meta(max_length=100, description="as in the configuration; `none` is meant here")]
        | None
    ) = None


class PriorityAsked(Struct, forbid_unknown_fields=True):
    """A new priority."""

    priority: Priority = 0


class SimulationsQuery(Struct, forbid_unknown_fields=True):
    """Which part of all jobs; all of them unless there is a limit."""

    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] | None = None
    cursor: (
        Annotated[str, Meta(pattern=r"^[0-9]{1,18}$", description="`X-Next-Cursor` of the page before")]
        | None
    ) = None


class SimulationStored(Struct):
    """The job of a simulation was stored, or was there already. `warnings` say what may go wrong all the same."""

    success: bool
    job_id: str
    message: str
    status: str
    warnings: list[str] = []


class SimulationShown(Struct):
    """A job; `status` is a word of pyedb, `state` is our own. `config` is empty if it is no simulation."""

    id: str
    status: str
    state: str
    priority: int
    user: str
    name: str
    site: str
    start_time: Moment | None
    end_time: Moment | None
    return_code: int | None
    scheduler_job_id: str | None
    error: str | None
    config: Annotated[Raw, Meta(extra_json_schema={"type": "object"})]


class Done(Struct):
    """It was done."""

    success: bool
    message: str


class PrioritySet(Done):
    """The priority is stored. It is not `effective` if the job has started: then it counts only if it runs again."""

    job_id: str
    status: str
    priority: int
    effective: bool


class CancelAnswer(Struct):
    """Whether the job ends, or has ended, because somebody asked for it; `status` is `cancelled` or `failed`."""

    success: bool
    message: str
    status: str
    job_id: str


class PoolLimitsAnswer(LimitsAnswer):
    """The limits as they are now, twice."""

    success: bool
    message: str
    limits: LimitsAnswer


class ResourcesAnswer(Struct):
    """This machine now. GB are 10**9 bytes; free is what programs can have."""

    cpu_percent: float
    memory_percent: float
    memory_used_gb: float
    memory_total_gb: float
    memory_free_gb: float
    disk_usage_percent: float
    disk_free_gb: float
    timestamp: Moment


class QueueStatistics(Struct):
    """How many jobs wait: in all, of the priority 0, and of each other one; and how many run on this machine."""

    total_queued: int
    regular_queue_size: int
    priority_queues: dict[str, int]
    running_jobs: int
    max_concurrent: int


class PyedbPartition(Struct):
    """A partition or queue of a scheduler. `used` is what cannot be had now; GB are 2**30 bytes; null: not told."""

    name: str
    nodes_total: int
    nodes_used: int | None
    cores_total: int | None
    cores_used: int | None
    memory_total_gb: float | None
    memory_used_gb: float | None
    mem_total_gb: float | None
    mem_used_gb: float | None


class SchedulerTypeAnswer(Struct):
    """The scheduler of this service, or `none`."""

    scheduler_type: str


class SchedulerDetection(Struct):
    """Which scheduler there is, in capitals."""

    active_scheduler: str
    detected_by: str
    backend_available: bool


class ResourceMonitoring(ResourcesAnswer):
    """This machine now, which is always watched."""

    active: bool
    last_update: Moment


class LocalPool(Struct):
    """What runs and waits on this machine."""

    running_jobs: int
    queued_jobs: int
    max_concurrent: int


class SystemStatus(Struct):
    """All of it together. `limits` is what pyedb's document has besides, and its service had not."""

    scheduler_detection: SchedulerDetection
    resource_monitoring: ResourceMonitoring
    mode: str
    local_pool: LocalPool
    limits: LimitsAnswer


class MeAnswer(Struct):
    """Whom jobs belong to."""

    username: str


class LoggedProject(Struct):
    """Whose run it is; empty is what was not said (yet)."""

    name: str
    file: str
    design: str
    user: str
    cmd_line: str


class LoggedMesh(Struct):
    """The first mesh."""

    tetrahedra: int
    memory_mb: float
    real_time_sec: int
    cpu_time_sec: int


class LoggedPass(Struct):
    """An adaptive pass. 0 and null are what was not said (yet)."""

    pass_nr: int
    freq_hz: float
    tetrahedra: int
    matrix_size: int
    memory_mb: float
    delta_s: float | None
    converged: bool
    elapsed_sec: int


class LoggedSweep(Struct):
    """The sweep; `frequencies` is how many there are, `solved` which of them are done, in Hz."""

    type: str
    frequencies: int
    solved: list[float]
    elapsed_sec: int


class LogSummary(Struct):
    """How far the run is. `errors` are the first lines that tell of one."""

    is_converged: bool
    is_completed: bool
    stage: str
    current_pass: LoggedPass | None
    errors: list[str]


class SimulationLog(Struct):
    """What the log of a run says: see `jobmgr.hfss.log.LogReader.state`. Null is what has not begun."""

    project: LoggedProject
    init_mesh: LoggedMesh | None
    adaptive: list[LoggedPass]
    sweep: LoggedSweep | None
    log_parser: LogSummary


class PyedbProblem(Struct):
    """What is wrong, as pyedb tells it, and beside that our code and the field that it is about."""

    success: bool
    error: str
    code: str
    field: str | None

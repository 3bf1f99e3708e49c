"""What is asked besides submitting a job: bodies of changes, and the query parameters of reads."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field, structs

from jobmgr.domain.access import Role, Scope
from jobmgr.domain.job import MAX_LISTED_IDS, MIN_ID_PREFIX
from jobmgr.domain.site import MAX_SUBMITTED
from jobmgr.domain.status import Status
from jobmgr.domain.user import GROUP_NAME, LASTS, NEVER
from jobmgr.wire.resources import TIME, ResourcesAsked
from jobmgr.wire.submission import JobSubmission, Priority
from jobmgr.wire.text import LINE, Name

MAX_BULK_JOBS = 100_000
MAX_ROOMS = 100
MAX_WINDOW_BYTES = 16 * 1024 * 1024

# Where a job may be in its scheduler's hands before it has ended.
ForeignPhase = Literal["pending", "held", "running", "suspended", "ending", "unknown"]
PageSize = Annotated[int, Meta(ge=1, le=1000)]
AttemptNumber = Annotated[int, Meta(ge=1, le=2**31 - 1, description="the last attempt unless given")]
Position = Annotated[
    str,
    Meta(
        max_length=128,
        description="`epoch:seq` of an earlier answer, or a number alone",
        extra_json_schema={"pattern": r"^(?:[^\x00-\x1f\x7f]+:)?[0-9]{1,18}$"},
    ),
]
Cursor = Annotated[
    str, Meta(max_length=1024, description="`next_cursor` of the page before", extra_json_schema=LINE)
]
ShortName = Annotated[str, Meta(max_length=128, extra_json_schema=LINE)]
# A list is written with commas between.
Listed = Annotated[str, Meta(max_length=128, extra_json_schema={"pattern": r"^[^,\x00-\x1f\x7f]+$"})]

Kind = Literal["slurm", "pbs", "lsf", "windows_hpc", "shell"]
AUTO = "auto"
Path = Annotated[str, Meta(min_length=1, max_length=4096, extra_json_schema=LINE)]
AbsolutePath = Annotated[
    str, Meta(min_length=1, max_length=4096, extra_json_schema={"pattern": r"^/[^\x00-\x1f\x7f]*$"})
]
Order = Literal["-created", "created", "-priority"]


class BulkSubmission(Struct, forbid_unknown_fields=True):
    """Many jobs, stored all or none."""

    jobs: Annotated[list[JobSubmission], Meta(min_length=1, max_length=MAX_BULK_JOBS)]


class PriorityChange(Struct, forbid_unknown_fields=True):
    """A new priority."""

    priority: Priority


class RetryQuery(Struct, forbid_unknown_fields=True):
    """How to run a job once more."""

    assume_dead: Annotated[
        bool, Meta(description="end its unreachable attempt as lost: you know that it is dead")
    ] = False


class QueueChange(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What may change on a queue; fields left out stay, `max_running` null takes its limit away."""

    paused: bool | UnsetType = UNSET
    max_running: Annotated[int, Meta(ge=0, le=1000000)] | UnsetType | None = UNSET


class SshAsked(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How to connect; what is left out comes from the ssh configuration of the service's user. No secrets."""

    user: Name | None = None
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    key_file: Path | None = None
    known_hosts_file: Path | None = None
    config_file: Path | None = None
    sessions: Annotated[int, Meta(ge=1, le=100, description="commands at once")] = 8


class SiteAsked(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A foreign queue where jobs may run."""

    kind: Annotated[
        Kind | Literal["auto"],
        Meta(
            description="which scheduler; `shell`: none, processes of a host; `auto`: the one that answers there"
        ),
    ]
    host: Annotated[Name, Meta(description="reached over SSH; this machine unless given")] | None = None
    work_dir: (
        Annotated[
            AbsolutePath,
            Meta(description="there, seen by its machines; the service's own unless given, if no host is"),
        ]
        | None
    ) = None
    enabled: Annotated[bool, Meta(description="if not, it gets no more jobs")] = True
    max_submitted: Annotated[
        int, Meta(ge=1, le=100_000, description="of ours its scheduler has at once, at most")
    ] = MAX_SUBMITTED
    max_running: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=100_000,
                description="of ours that run there at once, at most; it may start what it has, so it gets no more",
            ),
        ]
        | None
    ) = None
    defaults: Annotated[ResourcesAsked, Meta(description="what jobs ask for that do not say otherwise")] = (
        field(default_factory=ResourcesAsked)
    )
    ssh: SshAsked = field(default_factory=SshAsked)


class SiteChange(Struct, forbid_unknown_fields=True):
    """What may change on a site without saying it all again."""

    enabled: Annotated[bool, Meta(description="if not, it gets no more jobs; those it has run on")]


class LimitsChange(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """New limits; fields left out stay, null takes a limit away (`max_concurrent_jobs`: the number of cores)."""

    max_concurrent_jobs: Annotated[int, Meta(ge=1, le=100000)] | UnsetType | None = UNSET
    max_cpu_percent: Annotated[float, Meta(gt=0, le=100)] | UnsetType | None = UNSET
    min_memory_gb: Annotated[float, Meta(ge=0)] | UnsetType | None = UNSET
    min_disk_gb: Annotated[float, Meta(ge=0)] | UnsetType | None = UNSET


class JobsQuery(Struct, forbid_unknown_fields=True):
    """Which jobs to list. Lists are written `a,b` or by repeating the parameter."""

    status: list[Status] = []
    ids: Annotated[list[Listed], Meta(max_length=MAX_LISTED_IDS)] = []
    id_prefix: (
        Annotated[ShortName, Meta(min_length=MIN_ID_PREFIX, description="how the id begins")] | None
    ) = None
    user: Name | None = None
    queue: Name | None = None
    site: Name | None = None
    executor: Name | None = None
    tag: Name | None = None
    name: Annotated[Name, Meta(description="`*` stands for any text")] | None = None
    order: Annotated[Order, Meta(description="`-`: descending")] = "-created"
    limit: PageSize = 100
    cursor: Cursor | None = None
    total: Annotated[bool, Meta(description="also count the jobs of all pages, up to 10,000")] = False


class EventsQuery(Struct, forbid_unknown_fields=True):
    """Which events to read; those of one job only if `job` is given."""

    after: Position | None = None
    limit: PageSize = 1000
    job: ShortName | None = None


class JobEventsQuery(Struct, forbid_unknown_fields=True):
    """Which events of a job to read."""

    after: Position | None = None
    limit: PageSize = 1000


class Subscription(Struct, forbid_unknown_fields=True):
    """What a Socket.IO client wants to be told, instead of what it was told before."""

    rooms: Annotated[list[Annotated[str, Meta(max_length=132)]], Meta(max_length=MAX_ROOMS)]


class LogQuery(Struct, forbid_unknown_fields=True):
    """Which bytes of a log to read: from `offset` on, or the last `tail` lines."""

    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_WINDOW_BYTES, description="bytes")] = 1024 * 1024
    tail: Annotated[int, Meta(ge=1, le=1_000_000, description="lines")] | None = None
    attempt: AttemptNumber | None = None


class AttemptQuery(Struct, forbid_unknown_fields=True):
    """Which attempt's files are meant."""

    attempt: AttemptNumber | None = None


class ClusterJobsQuery(Struct, forbid_unknown_fields=True):
    """Which jobs of a cluster to list. Lists are written `a,b` or by repeating the parameter."""

    user: Name | None = None
    partition: Name | None = None
    phase: list[ForeignPhase] = []
    limit: PageSize = 100
    cursor: Cursor | None = None


Groups = Annotated[
    list[
        Annotated[str, Meta(min_length=1, max_length=128, extra_json_schema={"pattern": f"^{GROUP_NAME}$"})]
    ],
    Meta(max_length=100, description="who shares one sees the other's jobs"),
]


class UserAsked(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A user."""

    role: Annotated[
        Role,
        Meta(description="viewer: sees all; user: has jobs, sees those of own groups; admin: may do all"),
    ] = Role.USER
    groups: Groups = []
    disabled: Annotated[bool, Meta(description="let in no more, and all API tokens revoked")] = False
    new: Annotated[bool, Meta(description="make it, and refuse (409) if there is one of this name")] = False


class UserChange(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What may change on a user; fields left out stay."""

    role: Role | UnsetType = UNSET
    groups: Groups | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET


_BARE_NUMBER = {"pattern": "^[0-9. ]*$"}


class TokenAsked(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An API token to make."""

    user: Annotated[str, Meta(max_length=128, description="whose; one's own unless given")] | None = None
    label: Annotated[str, Meta(max_length=200, description="what it is for", extra_json_schema=LINE)] = ""
    scopes: Annotated[
        list[Scope],
        Meta(max_length=3, description="what it may do; all that the user's role allows unless given"),
    ] = []
    expires: Annotated[
        str,
        Meta(
            max_length=64,
            description="how long it is valid (90d, 12h), until when, or `never`",
            extra_json_schema={
                "anyOf": [{"const": NEVER}, {**TIME, "not": _BARE_NUMBER}, {"format": "date-time"}]
            },
        ),
    ] = LASTS


class TokensQuery(Struct, forbid_unknown_fields=True):
    """Whose API tokens to list: all that the caller may see unless given."""

    user: ShortName | None = None


Time = Annotated[datetime, Meta(tz=True, description="with its time zone: 2026-01-31T18:00:00Z")]


class AuditQuery(Struct, forbid_unknown_fields=True):
    """Which entries of the audit to read, newest first; `since` is included, `until` is not."""

    actor: Annotated[Name, Meta(description="who did it")] | None = None
    kind: (
        Annotated[
            str,
            Meta(max_length=64, description="what happened: cancelled, user_added", extra_json_schema=LINE),
        ]
        | None
    ) = None
    job: Annotated[ShortName, Meta(description="to which job, by its id")] | None = None
    since: Time | None = None
    until: Time | None = None
    limit: PageSize = 100
    cursor: Cursor | None = None
    format: Annotated[Literal["json", "csv"], Meta(description="csv: as with `Accept: text/csv`")] = "json"


class NoQuery(Struct, forbid_unknown_fields=True):
    """No parameters at all."""


def given(change: Struct) -> dict[str, Any]:
    """By name, what a change says; fields left out stay as they are."""
    return {name: value for name, value in structs.asdict(change).items() if value is not UNSET}

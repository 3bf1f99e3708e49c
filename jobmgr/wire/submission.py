"""The submitted job as it travels, and how it becomes a `NewJob`. Unknown fields are refused here."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from jobmgr.credential import Reference, parse
from jobmgr.domain.environment import Environment
from jobmgr.domain.job import Dependency, JobSpec, NewJob, OnLost, Success, When
from jobmgr.domain.queue import DEFAULT_QUEUE
from jobmgr.domain.resources import Resources
from jobmgr.domain.retry import Growth, Retry
from jobmgr.domain.site import LOCAL
from jobmgr.domain.user import USER_NAME
from jobmgr.errors import InvalidRequest
from jobmgr.failure import Failure
from jobmgr.wire.resources import (
    Duration,
    ResourcesAsked,
    Size,
    memory_bytes_of,
    seconds_of,
    to_resources,
)
from jobmgr.wire.text import ARGUMENT, LINE, TEXT, Name, check_argument, check_text, check_unicode

QUEUE_NAME = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}"
JOB_ID = r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}"
NEW_ID_LENGTH = 20
PRIORITY_RANGE = 2**31 - 1
MAX_PROPERTIES_BYTES = 65_536
_NAME_LENGTH = 60

_QUEUE: dict[str, Any] = {"pattern": f"^{QUEUE_NAME}$"}
_ENV_NAME: dict[str, Any] = {"pattern": r"^(?!JOBMGR_)[^=\x00-\x1f]+$"}
_ABSOLUTE: dict[str, Any] = {"pattern": r"^/[^\x00]*$"}
_BELOW: dict[str, Any] = {**ARGUMENT, "not": {"pattern": r"^/|(?:^|/)\.\.(?:/|$)"}}

JobId = Annotated[str, Meta(pattern=f"^{JOB_ID}$", description="letters, digits, _ . - ; at most 128")]
Description = Annotated[str, Meta(max_length=2048, extra_json_schema=TEXT)]
Argument = Annotated[str, Meta(extra_json_schema=ARGUMENT)]
SiteName = Annotated[Name, Meta(description="`local` if there is no `executor` either")]
Executor = Annotated[Name, Meta(description="`slurm`: the default site of this kind")]
QueueName = Annotated[str, Meta(max_length=1024, extra_json_schema=_QUEUE)]
Priority = Annotated[
    int, Meta(ge=-PRIORITY_RANGE, le=PRIORITY_RANGE, description="larger runs first; 32 bits are stored")
]
Tag = Annotated[str, Meta(min_length=1, max_length=128, extra_json_schema=LINE)]
Tags = Annotated[list[Tag], Meta(max_length=64)]
Key = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        description="a name of your own: the same job submitted again with it is stored once",
        extra_json_schema=LINE,
    ),
]
RequiredFile = Annotated[str, Meta(min_length=1, max_length=1024, extra_json_schema=_BELOW)]
Factor = Annotated[float, Meta(gt=1, le=100)]


class RetryAsked(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How often, after what pause, and for which error codes (none: all) the job is tried again.

    After `out_of_memory` and `timeout` the next attempt may ask for so many times as much, up to a most.
    """

    max_attempts: Annotated[int, Meta(ge=1, le=1000)] = 1
    backoff: Duration = 30.0
    on: Annotated[list[Failure], Meta(max_length=64)] = []
    memory_factor: Annotated[Factor, Meta(description="2: twice the memory after out_of_memory")] | None = (
        None
    )
    memory_max: Annotated[Size, Meta(description="how far it grows: 64GB")] | None = None
    walltime_factor: Annotated[Factor, Meta(description="1.5: half as long again after timeout")] | None = (
        None
    )
    walltime_max: Duration | None = None


class DependencyAsked(Struct, forbid_unknown_fields=True):
    """A job that must have ended as `when` says."""

    job_id: JobId
    when: Literal["success", "failure", "any"] = "success"


class SuccessAsked(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What counts as success."""

    exit_codes: Annotated[
        list[Annotated[int, Meta(ge=0, le=255)]],
        Meta(min_length=1, max_length=256, description="those that mean success"),
    ] = field(default_factory=lambda: [0])
    required_files: Annotated[
        list[RequiredFile],
        Meta(max_length=1000, description="have to be there at the end; below the run directory"),
    ] = []


class SecretAsked(Struct, forbid_unknown_fields=True):
    """A value that is fetched when an attempt starts; only where it is gets stored."""

    secret: Annotated[
        str,
        Meta(
            max_length=4096,
            # As `credential.parse` has it.
            extra_json_schema={
                "pattern": r"^(?:file:/[^\x00-\x1f\x7f]*|env:(?!JOBMGR_|PG)[A-Za-z_][A-Za-z0-9_]*"
                r"|keyring:[^\x00-\x1f\x7f]+/[^/\x00-\x1f\x7f]+)$"
            },
            description="file:PATH, env:NAME (of the service) or keyring:SERVICE/NAME",
        ),
    ]


class JobSubmission(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One job as submitted. Only `command` is required."""

    command: Annotated[
        list[Argument],
        Meta(
            min_length=1, extra_json_schema={"prefixItems": [{"type": "string", "minLength": 1, **ARGUMENT}]}
        ),
    ]
    job_id: JobId | None = None
    name: Annotated[Name, Meta(description="the beginning of the command unless given")] = ""
    description: Description = ""
    env: Annotated[
        dict[Annotated[str, Meta(extra_json_schema=_ENV_NAME)], Argument | SecretAsked],
        Meta(max_length=10_000),
    ] = {}
    cwd: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=4096,
                description="absolute; the run directory unless given",
                extra_json_schema=_ABSOLUTE,
            ),
        ]
        | None
    ) = None
    site: SiteName | None = None
    executor: Executor | None = None
    queue: QueueName = DEFAULT_QUEUE
    priority: Priority = 0
    draft: bool = False
    resources: ResourcesAsked = field(default_factory=ResourcesAsked)
    retry: RetryAsked = field(default_factory=RetryAsked)
    not_before: (
        Annotated[datetime, Meta(description="with its time zone", extra_json_schema={"format": "date-time"})]
        | None
    ) = None
    depends_on: Annotated[list[DependencyAsked], Meta(max_length=10_000)] = []
    key: Key | None = None
    tags: Tags = []
    extended_properties: dict[str, Any] = {}
    on_lost: Literal["fail", "retry"] = "fail"
    success: SuccessAsked = field(default_factory=SuccessAsked)
    user: (
        Annotated[
            str,
            Meta(
                max_length=128,
                description="whose job it is: whoever submits it, if empty; another only for admins",
                extra_json_schema={"pattern": f"^(?:{USER_NAME})?$"},
            ),
        ]
        | None
    ) = None


class JobChange(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What may change on a stored job; fields left out stay."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    description: Description | msgspec.UnsetType = msgspec.UNSET
    priority: Priority | msgspec.UnsetType = msgspec.UNSET
    tags: Tags | msgspec.UnsetType = msgspec.UNSET
    extended_properties: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


def command_list(command: Sequence[str]) -> list[str]:
    """`command` as it is submitted. Raises InvalidRequest for a text, each letter of which would be an argument."""
    if isinstance(command, str):
        raise InvalidRequest(
            "command", f"is a list of the program and its arguments, not the text {command!r}"
        )
    return list(command)


def new_job_id() -> str:
    """A random public id; 80 bits, so ids of restored and merged databases do not meet."""
    return secrets.token_hex(NEW_ID_LENGTH // 2)


def is_job_id(text: str) -> bool:
    """Whether a job may have this id."""
    return re.fullmatch(JOB_ID, text) is not None


def to_new_job(asked: JobSubmission, *, user: str, at: str = "") -> NewJob:
    """Check what a schema cannot say and normalise. `at` is the path of this job in the request (`jobs[3].`).

    Raises InvalidRequest naming the field.
    """
    for name in ("name", "site", "executor", "key", "user"):
        check_text(getattr(asked, name) or "", at + name)
    check_queue_name(asked.queue, at + "queue")
    check_text(asked.description, at + "description", allow_newline=True)
    if asked.job_id is not None and not is_job_id(asked.job_id):
        raise InvalidRequest(at + "job_id", "only letters, digits, _ . - are allowed, at most 128")
    return NewJob(
        job_id=asked.job_id or new_job_id(),
        spec=_spec(asked, at),
        name=asked.name or _name_of(asked.command),
        description=asked.description,
        user=asked.user or user,
        queue=asked.queue,
        site=LOCAL if asked.site is None and asked.executor is None else asked.site,
        executor=asked.executor,
        priority=asked.priority,
        draft=asked.draft,
        due_at=to_utc(asked.not_before, at + "not_before"),
        tags=check_tags(asked.tags, at + "tags"),
        extended_properties=check_properties(asked.extended_properties, at + "extended_properties"),
        key=asked.key,
        fingerprint=None if asked.key is None else _fingerprint(asked),
        at=at,
    )


def _fingerprint(asked: JobSubmission) -> str:
    # Of what was asked, not of what it means today: the same text must be the same job after an upgrade, too.
    return hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()


def _name_of(command: Sequence[str]) -> str:
    """One line for people, also of a script that is given as an argument."""
    # What does not fit need not be quoted.
    parts = [command[0].rpartition("/")[2], *command[1:_NAME_LENGTH]]
    words = " ".join(shlex.join(part[:_NAME_LENGTH] for part in parts).split())
    name = "".join(character if character.isprintable() else "?" for character in words)
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 3]}..."


def check_queue_name(name: str, where: str) -> str:
    """`name`, if a queue may be called so."""
    if re.fullmatch(QUEUE_NAME, name) is None:
        raise InvalidRequest(
            where, f"{name[:200]!r} is not a queue name: ASCII letters, digits, _ . - ; at most 128"
        )
    return name


def check_priority(priority: int, where: str) -> int:
    """`priority`, if a database can store it."""
    if not -PRIORITY_RANGE <= priority <= PRIORITY_RANGE:
        raise InvalidRequest(where, f"{priority} is not between -{PRIORITY_RANGE} and {PRIORITY_RANGE}")
    return priority


def check_tags(tags: Sequence[str], where: str) -> tuple[str, ...]:
    """Tags without duplicates, sorted."""
    for index, tag in enumerate(tags):
        check_text(tag, f"{where}[{index}]")
    return tuple(sorted(set(tags)))


_NO_PROPERTIES: Mapping[str, Any] = {}


def check_properties(properties: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Extended properties that every database can store, and that come back as they were."""
    if not properties:
        return _NO_PROPERTIES
    _check_size(properties, where)
    try:
        encoded = json.dumps(properties, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(where, f"is not JSON: {error}") from None
    check_unicode(encoded, where)
    _check_length(len(encoded.encode()), where)
    # An escaped NUL, not an escaped backslash before the same letters. PostgreSQL stores none.
    if re.search(r"(?<!\\)(?:\\\\)*\\u0000", encoded):
        raise InvalidRequest(where, "contains a NUL character")
    return properties


def _check_size(properties: Mapping[str, Any], where: str) -> None:
    # A look in passing: this text is never longer than the one that is stored, and many times faster to make.
    with contextlib.suppress(TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        _check_length(len(msgspec.json.encode(properties)), where)


def _check_length(size_bytes: int, where: str) -> None:
    if size_bytes > MAX_PROPERTIES_BYTES:
        raise InvalidRequest(where, f"{size_bytes} bytes; at most {MAX_PROPERTIES_BYTES} are stored")


def _spec(asked: JobSubmission, at: str) -> JobSpec:
    for index, part in enumerate(asked.command):
        check_argument(part, f"{at}command[{index}]")
    if not asked.command[0]:
        raise InvalidRequest(at + "command[0]", "the program to run is empty")
    if asked.cwd is not None:
        check_argument(asked.cwd, at + "cwd")
        if not os.path.isabs(asked.cwd):  # noqa: PTH117 -- a rule on text, for the host that will run it
            raise InvalidRequest(at + "cwd", f"{asked.cwd!r} is relative; give an absolute path")
    for index, path in enumerate(asked.success.required_files):
        check_argument(path, f"{at}success.required_files[{index}]")
        if path.startswith("/") or ".." in path.split("/"):
            raise InvalidRequest(f"{at}success.required_files[{index}]", "must lie in the run directory")
    resources = to_resources(asked.resources, at + "resources.")
    return JobSpec(
        command=tuple(asked.command),
        env=_environment(asked.env, at) if asked.env else _NO_ENV,
        cwd=asked.cwd,
        resources=resources,
        retry=_retry(asked.retry, resources, at),
        on_lost=OnLost(asked.on_lost),
        success=_success(asked.success),
        depends_on=_dependencies(asked.depends_on, at),
    )


_NO_ENV: Environment = {}


def _environment(asked: Mapping[str, str | SecretAsked], at: str) -> Environment:
    env: dict[str, str | Reference] = {}
    for name, value in asked.items():
        _check_env_name(name, at)
        if isinstance(value, str):
            check_argument(value, f"{at}env.{name}")
            env[name] = value
        else:
            env[name] = _secret(value.secret, f"{at}env.{name}.secret")
    return env


def _secret(text: str, where: str) -> Reference:
    check_argument(text, where)
    found = parse(text, where)
    if found.is_own:
        raise InvalidRequest(
            where,
            f"{text!r} is the service's own; variables beginning with JOBMGR_ or PG are not given to jobs",
        )
    return found


# Of 100,000 jobs in a bulk most ask for nothing, and share these.
_RETRY_ASKED, _RETRY = RetryAsked(), Retry()
_SUCCESS_ASKED, _SUCCESS = SuccessAsked(), Success()


def _retry(asked: RetryAsked, resources: Resources, at: str) -> Retry:
    if asked == _RETRY_ASKED:
        return _RETRY
    return Retry(
        max_attempts=asked.max_attempts,
        backoff_s=seconds_of(asked.backoff, at + "retry.backoff"),
        on=frozenset(code.value for code in asked.on),
        growth=_growth(asked, resources, at + "retry."),
    )


def _growth(asked: RetryAsked, resources: Resources, at: str) -> Growth:
    memory_max_bytes = (
        None if asked.memory_max is None else memory_bytes_of(asked.memory_max, at + "memory_max")
    )
    walltime_max_s = (
        None if asked.walltime_max is None else seconds_of(asked.walltime_max, at + "walltime_max")
    )
    memory_bytes = resources.memory_bytes or resources.memory_per_cpu_bytes
    for name, factor, most, first, cause in (
        ("memory", asked.memory_factor, memory_max_bytes, memory_bytes, Failure.OUT_OF_MEMORY),
        ("walltime", asked.walltime_factor, walltime_max_s, resources.walltime_s, Failure.TIMEOUT),
    ):
        _check_growth(asked, at + name, factor, most, first, cause)
    return Growth(asked.memory_factor, memory_max_bytes, asked.walltime_factor, walltime_max_s)


def _check_growth(
    asked: RetryAsked, at: str, factor: float | None, most: float | None, first: float | None, cause: Failure
) -> None:
    """Whether what is to grow can. `at` is where it stands (`retry.memory`), `first` what is asked for at first."""
    what = at.rpartition(".")[2]
    if factor is None:
        if most is not None:
            raise InvalidRequest(f"{at}_max", f"says how far it grows; set {what}_factor too")
        return
    if first is None:
        raise InvalidRequest(f"{at}_factor", f"there is nothing to grow; set resources.{what} too")
    if asked.max_attempts == 1:
        raise InvalidRequest(f"{at}_factor", "there is no other attempt; set max_attempts to 2 or more")
    if asked.on and cause not in asked.on:
        raise InvalidRequest(f"{at}_factor", f"is for attempts that fail with {cause.value}; add it to `on`")
    if most is not None and most < first:
        raise InvalidRequest(f"{at}_max", f"is less than resources.{what}, which grows")


def _success(asked: SuccessAsked) -> Success:
    if asked == _SUCCESS_ASKED:
        return _SUCCESS
    return Success(tuple(asked.exit_codes), tuple(asked.required_files))


def _dependencies(asked: Sequence[DependencyAsked], at: str) -> tuple[Dependency, ...]:
    met: dict[str, Dependency] = {}
    for index, item in enumerate(asked):
        if item.job_id in met:
            raise InvalidRequest(f"{at}depends_on[{index}]", f"job {item.job_id!r} is named twice")
        met[item.job_id] = Dependency(item.job_id, When(item.when))
    return tuple(met.values())


def to_utc(moment: datetime | None, where: str) -> datetime | None:
    """`moment` in UTC. Raises InvalidRequest if it has no time zone, or no place in the calendar there."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise InvalidRequest(where, "has no time zone; write 2026-01-31T18:00:00Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidRequest(where, "is outside the calendar") from None


def _check_env_name(name: str, at: str) -> None:
    where = f"{at}env.{name!r}" if not name.isidentifier() else f"{at}env.{name}"
    if not name or "=" in name or "\0" in name or any(character < " " for character in name):
        raise InvalidRequest(where, "is not a name for an environment variable")
    if name.startswith("JOBMGR_"):
        raise InvalidRequest(where, "names starting with JOBMGR_ are set by the service")
    check_unicode(name, where)

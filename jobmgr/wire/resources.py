"""What a job asks for as it travels, and how it becomes `Resources`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from jobmgr.domain.resources import (
    MAX_MEMORY_BYTES,
    MAX_WALLTIME_S,
    Resources,
    parse_duration,
    parse_memory,
)
from jobmgr.errors import InvalidRequest
from jobmgr.wire.text import LINE, Name, check_text

# So many digits of each unit are less than the most that is stored, and more than the least.
_SIZE: dict[str, Any] = {
    "pattern": "^(?:[1-9][0-9]{7,17} ?[bB]?|[1-9][0-9]{4,14} ?[kK](?:i?[bB])?|"
    + "|".join(
        rf"[1-9][0-9]{{0,{digits}}}(?:\.[0-9]{{1,3}})? ?[{unit}](?:i?[bB])?"
        for unit, digits in (("mM", 11), ("gG", 8), ("tT", 5))
    )
    + ")$",
}
TIME: dict[str, Any] = {
    "pattern": r"^(?:(?:[0-9]{1,3}[-.])?[0-9]{1,4}:[0-5][0-9]:[0-5][0-9]|"
    + "|".join(
        rf"[0-9]{{1,{digits}}}(?:\.[0-9]{{1,3}})? ?{unit}"
        for unit, digits in (("s?", 8), ("m", 6), ("h", 4), ("d", 3))
    )
    + ")$"
}
_NO_TIME = {"pattern": r"^[-0:. ]*[smhd]?$"}

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Size = Annotated[str, Meta(max_length=32, extra_json_schema=_SIZE)]
Duration = (
    Annotated[str, Meta(max_length=64, description="1:30:00, 90s, 5m, 2h", extra_json_schema=TIME)]
    | Annotated[float, Meta(ge=0, extra_json_schema={"maximum": MAX_WALLTIME_S})]
)
Walltime = (
    Annotated[
        str,
        Meta(
            max_length=64,
            description="1:30:00, 90s, 5m, 2h",
            extra_json_schema={**TIME, "not": _NO_TIME},
        ),
    ]
    | Annotated[float, Meta(ge=0, extra_json_schema={"exclusiveMinimum": 0, "maximum": MAX_WALLTIME_S})]
)
Option = Annotated[str, Meta(min_length=1, max_length=1024, extra_json_schema=LINE)]
Line = Annotated[str, Meta(min_length=1, max_length=4096, extra_json_schema=LINE)]


class ResourcesAsked(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What one attempt asks for; what is not asked for reserves nothing."""

    cpus: Annotated[Count, Meta(description="cores")] | None = None
    memory: Annotated[Size, Meta(description="4GB, 512MB")] | None = None
    gpus: (
        Annotated[Count, Meta(description="whole, of each node; CUDA_VISIBLE_DEVICES names them")] | None
    ) = None
    gpu_type: Annotated[Name, Meta(description="the model, as schedulers name it")] | None = None
    walltime: Walltime | None = None
    nodes: Annotated[Count, Meta(description="machines, where a scheduler gives out several")] | None = None
    tasks: Annotated[Count, Meta(description="processes, where a scheduler starts several")] | None = None
    partition: Annotated[Name, Meta(description="the scheduler's partition")] | None = None
    account: Annotated[Name, Meta(description="who pays for it, as the scheduler knows them")] | None = None
    qos: Annotated[Name, Meta(description="the scheduler's quality of service")] | None = None
    memory_per_cpu: Annotated[Size, Meta(description="instead of memory: 2GB")] | None = None
    reservation: Annotated[Name, Meta(description="the scheduler's reservation")] | None = None
    constraint: Annotated[Name, Meta(description="what the machines must have, in its words")] | None = None
    exclusive: Annotated[bool, Meta(description="no other job on the same machines")] = False
    licenses: Annotated[list[Option], Meta(max_length=64, description="with their number: ansys:2")] = []
    mail_to: Annotated[Name, Meta(description="where the scheduler sends mail")] | None = None
    mail_on: Annotated[list[Literal["begin", "end", "fail"]], Meta(max_length=3)] = []
    directives: Annotated[
        list[Option], Meta(max_length=64, description="options in its words: --nice=100")
    ] = []
    modules: Annotated[
        list[Option], Meta(max_length=64, description="environment modules to load first")
    ] = []
    setup: Annotated[list[Line], Meta(max_length=100, description="shell lines to run first")] = []


# Of 100,000 jobs in a bulk most ask for nothing, and share this.
_ASKS_NOTHING, _NOTHING = ResourcesAsked(), Resources()


def to_resources(asked: ResourcesAsked, at: str) -> Resources:
    """What is asked for, checked; `at` is where it stands (`resources.`). Raises InvalidRequest."""
    if asked == _ASKS_NOTHING:
        return _NOTHING
    walltime_s = None
    if asked.walltime is not None:
        walltime_s = seconds_of(asked.walltime, at + "walltime")
        if walltime_s <= 0:
            raise InvalidRequest(at + "walltime", "must be longer than zero")
    for name in ("gpu_type", "partition", "account", "qos", "reservation", "constraint", "mail_to"):
        check_text(getattr(asked, name) or "", f"{at}{name}")
    for name in ("licenses", "directives", "modules", "setup"):
        for index, text in enumerate(getattr(asked, name)):
            check_text(text, f"{at}{name}[{index}]")
    if asked.memory is not None and asked.memory_per_cpu is not None:
        raise InvalidRequest(at + "memory_per_cpu", "stands instead of memory, not beside it")
    return Resources(
        cpus=asked.cpus,
        memory_bytes=None if asked.memory is None else memory_bytes_of(asked.memory, at + "memory"),
        gpus=asked.gpus,
        gpu_type=asked.gpu_type,
        walltime_s=walltime_s,
        nodes=asked.nodes,
        tasks=asked.tasks,
        partition=asked.partition,
        account=asked.account,
        qos=asked.qos,
        memory_per_cpu_bytes=(
            None
            if asked.memory_per_cpu is None
            else memory_bytes_of(asked.memory_per_cpu, at + "memory_per_cpu")
        ),
        reservation=asked.reservation,
        constraint=asked.constraint,
        exclusive=asked.exclusive or None,
        licenses=tuple(asked.licenses),
        mail_to=asked.mail_to,
        mail_on=tuple(dict.fromkeys(asked.mail_on)),
        directives=tuple(asked.directives),
        modules=tuple(asked.modules),
        setup=tuple(asked.setup),
    )


def memory_bytes_of(text: str, where: str) -> int:
    """The amount of memory that `text` says, if it can be stored. Raises InvalidRequest."""
    memory_bytes = parse_memory(text, where)
    if memory_bytes > MAX_MEMORY_BYTES:
        raise InvalidRequest(where, "must be less than 4 EiB")
    return memory_bytes


def seconds_of(value: str | float, where: str) -> float:
    """The seconds of a duration, if they can be stored. Raises InvalidRequest."""
    seconds = parse_duration(value, where) if isinstance(value, str) else float(value)
    if seconds > MAX_WALLTIME_S:
        raise InvalidRequest(where, "is longer than ten years")
    return seconds

"""What a job asks for, and how sizes and durations are written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from jobmgr.errors import InvalidRequest

# Names the GPUs that a program may use, separated by commas. Source: CUDA C++ Programming Guide,
# "CUDA Environment Variables".
GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"

# What databases and schedulers can say.
MAX_MEMORY_BYTES = 2**62 - 1
# Schedulers count in megabytes, and no program runs with less: who asks for it has left out a unit.
_MIN_MEMORY_BYTES = 1024**2
MAX_WALLTIME_S = 10 * 366 * 86400.0

# Of no more digits than are a number.
_MEMORY = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([kmgtKMGT]?)(?:i?[bB])?")
_MEMORY_FACTOR = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_CLOCK = re.compile(r"(?:(\d{1,18})[-.])?(\d{1,18}):([0-5]\d):([0-5]\d)")
_DURATION = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*(s|m|h|d)?")
_DURATION_FACTOR = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Resources:
    """What one attempt asks for. None means: not asked for, so nothing but one slot is reserved.

    What is not in `_EVERYWHERE` only a scheduler can give. `cpus` are those of a task, `memory_bytes` and `gpus` those
    of a node. `licenses` are as the scheduler names them, with their number (`ansys:2`). `mail_on` are `begin`, `end`
    and `fail`. `directives` are options in the scheduler's own words, `modules` are loaded and `setup` is run by the
    script's shell before the command.
    """

    cpus: int | None = None
    memory_bytes: int | None = None
    gpus: int | None = None
    gpu_type: str | None = None
    walltime_s: float | None = None
    nodes: int | None = None
    tasks: int | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    memory_per_cpu_bytes: int | None = None
    reservation: str | None = None
    constraint: str | None = None
    exclusive: bool | None = None
    licenses: tuple[str, ...] = ()
    mail_to: str | None = None
    mail_on: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> Resources:
        """From what `asked` answered, also after it was JSON."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in asked.items()
        }
        return cls(**values)

    def over(self, defaults: Resources) -> Resources:
        """These, and of what they do not ask for what `defaults` do."""
        asked = {**defaults.asked(), **self.asked()}
        # One stands instead of the other.
        for own, other in (
            ("memory_bytes", "memory_per_cpu_bytes"),
            ("memory_per_cpu_bytes", "memory_bytes"),
        ):
            if getattr(self, own) is not None:
                asked.pop(other, None)
        return Resources.of(asked)

    def schedulers_only(self) -> tuple[str, ...]:
        """What is asked for and only a scheduler can give, as it is called where it is asked for."""
        return tuple(name.removesuffix("_bytes") for name in self.asked() if name not in _EVERYWHERE)

    def asked(self) -> dict[str, Any]:
        """By name, what is asked for."""
        values = {name: getattr(self, name) for name in _NAMES}
        return {name: value for name, value in values.items() if value is not None and value != ()}


_NAMES = tuple(field.name for field in fields(Resources))
_EVERYWHERE = frozenset({"cpus", "memory_bytes", "gpus", "walltime_s"})


def parse_memory(text: str, field: str) -> int:
    """Bytes of `4GB`, `512M`, `1.5GiB` or `1073741824`. Prefixes are powers of 1024, as schedulers count them.

    Raises InvalidRequest, also for less than any program needs.
    """
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(field, f"{text!r} is not an amount of memory; write it as 512MB or 4GB")
    memory_bytes = int(float(match[1]) * _MEMORY_FACTOR[match[2].lower()])
    if memory_bytes < _MIN_MEMORY_BYTES:
        raise InvalidRequest(
            field, f"{text!r} is less than a megabyte; write it with its unit, as 512MB or 4GB"
        )
    return memory_bytes


def size_text(size_bytes: int | None) -> str | None:
    """A number of bytes, rounded; prefixes are powers of 1024, as `parse_memory` reads them."""
    if size_bytes is None:
        return None
    value = float(size_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 job`, `2 jobs`, `2 processes`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def parse_duration(text: str, field: str) -> float:
    """Seconds of `1:30:00` (h:mm:ss), `2-00:00:00` (days), `90s`, `5m`, `2h`, `1d` or plain seconds.

    Two-part forms such as `24:00` are refused: schedulers disagree on whether they mean minutes or hours.
    """
    clock = _CLOCK.fullmatch(text.strip())
    if clock is not None:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    plain = _DURATION.fullmatch(text.strip())
    if plain is None:
        raise InvalidRequest(field, f"{text!r} is not a duration; write it as 1:30:00, 90s, 5m or 2h")
    return float(plain[1]) * _DURATION_FACTOR[plain[2]]


def is_bare_number(text: str) -> bool:
    """Whether `text` is a duration without a unit: seconds to `parse_duration`, and days to some who write it."""
    plain = _DURATION.fullmatch(text.strip())
    return plain is not None and plain[2] is None

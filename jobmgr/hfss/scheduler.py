"""What is asked of a scheduler for a simulation."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta

from jobmgr.domain.resources import parse_duration, parse_memory
from jobmgr.errors import InvalidConfig, InvalidRequest
from jobmgr.hfss.value import Value

# No limit of our own: the scheduler's counts.
_UNLIMITED = frozenset({"", "unlimited", "infinite"})
# Whatever the scheduler takes when no queue is named.
_DEFAULT_QUEUE = "default"
_MINUTES = re.compile(r"[0-9]{1,9}")

_Count = Annotated[int, Meta(ge=1, le=1_000_000)]
_CountOrNone = Annotated[int, Meta(ge=0, le=1_000_000)]
# All of it may become a line of directives, where nothing can be quoted. The dialects say what else cannot be said.
_LINE = re.compile(r"[^\x00-\x1f\x7f]{0,1024}")
_TEXTS = (
    "queue",
    "time",
    "memory",
    "account",
    "reservation",
    "qos",
    "constraints",
    "gpu_type",
    "email_notification",
)


class SchedulerType(StrEnum):
    """Who runs a simulation; NONE: this machine, without a scheduler."""

    NONE = "none"
    LSF = "lsf"
    SLURM = "slurm"
    PBS = "pbs"
    WINDOWS_HPC = "windows_hpc"

    @classmethod
    def _missing_(cls, value: object) -> SchedulerType | None:
        """In capitals, too, as pyedb's documents write them."""
        word = value.lower() if isinstance(value, str) else value
        return next((each for each in cls if each.value == word), None)

    @classmethod
    def of(cls, word: str) -> SchedulerType:
        """The one of this name. Raises InvalidConfig."""
        try:
            return cls(word)
        except ValueError as error:
            raise InvalidConfig("scheduler_type", f"{word[:100]!r} is none of {', '.join(cls)}") from error


class SchedulerOptions(Value):
    """Resources, and who pays for them.

    `time` is `H:MM:SS`, `D-HH:MM:SS`, `D.HH:MM:SS`, a number of minutes, `90s`, `30m`, `2h`, `1d`, or for none
    `unlimited` or 0. `memory` is that of a node (`4GB`, in powers of 1024; empty: not asked for), `gpus` those of the
    whole job. Each node runs `cores_per_node` processes of one core, or, if that is 0, `tasks_per_node`. The queue
    `default` is the one that the scheduler takes if none is named.
    """

    queue: str = _DEFAULT_QUEUE
    time: str = "24:00:00"
    nodes: _Count = 1
    tasks_per_node: _Count = 1
    cores_per_node: _CountOrNone = 0
    memory: str = "4GB"
    account: str | None = None
    reservation: str | None = None
    qos: str | None = None
    constraints: str | None = None
    exclusive: bool = False
    gpus: _CountOrNone = 0
    gpu_type: str | None = None
    priority: Literal["Low", "BelowNormal", "Normal", "AboveNormal", "High"] = "Normal"
    email_notification: str | None = None
    run_as_administrator: bool = False

    def check(self) -> None:
        """As `Value`."""
        self.insist(_LINE, "has control characters, or more than 1024; give one short line", *_TEXTS)
        _ = self.walltime_s, self.memory_bytes

    @property
    def partition(self) -> str | None:
        """The queue that is asked for by name."""
        return None if self.queue in {"", _DEFAULT_QUEUE} else self.queue

    @property
    def walltime_s(self) -> float | None:
        """The time limit in seconds; None: none is asked for. Raises InvalidConfig."""
        text = self.time.strip().lower()
        if text in _UNLIMITED:
            return None
        try:
            is_minutes = _MINUTES.fullmatch(text) is not None
            seconds = int(text) * 60.0 if is_minutes else parse_duration(text, "time")
        except InvalidRequest as error:
            raise InvalidConfig(
                "time",
                f"{self.time[:100]!r} is no time limit; write it as 24:00:00, 1-00:00:00, a number of minutes, 2h or"
                " unlimited",
            ) from error
        # Zero is no limit, as for sbatch(1); the shortest one that can be said would end the job at once.
        return seconds or None

    @property
    def memory_bytes(self) -> int | None:
        """Of each node; None: none is asked for. Raises InvalidConfig."""
        if not self.memory.strip():
            return None
        try:
            return parse_memory(self.memory, "memory")
        except InvalidRequest as error:
            raise InvalidConfig(error.field, error.message) from error

    @property
    def processes_per_node(self) -> int:
        """How many processes of one core each node runs."""
        return self.cores_per_node or self.tasks_per_node

    @property
    def cores(self) -> int:
        """Of all nodes together."""
        return self.nodes * self.processes_per_node

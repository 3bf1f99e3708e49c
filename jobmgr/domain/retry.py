"""When a failed attempt is tried again, and with how much more of what it had too little of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from jobmgr.domain.resources import MAX_MEMORY_BYTES, MAX_WALLTIME_S, Resources
from jobmgr.failure import Failure

MAX_BACKOFF_S = 3600.0


@dataclass(frozen=True, slots=True)
class Growth:
    """How many times as much the next attempt asks for, and at most (None: what can be said at all).

    Memory grows after `out_of_memory`, the walltime after `timeout`; what was not asked for does not grow.
    """

    memory_factor: float | None = None
    memory_max_bytes: int | None = None
    walltime_factor: float | None = None
    walltime_max_s: float | None = None

    @classmethod
    def of(cls, stated: Mapping[str, Any] | None) -> Growth:
        """From what `stated` answered, also after it was JSON."""
        return cls(**(stated or {}))

    def after(self, code: str, asked: Resources) -> dict[str, Any]:
        """What an attempt asks for instead, by name, when the one before asked for `asked` and failed with `code`."""
        if code == Failure.OUT_OF_MEMORY and self.memory_factor is not None:
            most = self.memory_max_bytes or MAX_MEMORY_BYTES
            sizes = {name: getattr(asked, name) for name in ("memory_bytes", "memory_per_cpu_bytes")}
            return {
                name: max(size, min(math.ceil(size * self.memory_factor), most))
                for name, size in sizes.items()
                if size is not None
            }
        if code == Failure.TIMEOUT and self.walltime_factor is not None and asked.walltime_s is not None:
            most_s = self.walltime_max_s or MAX_WALLTIME_S
            return {"walltime_s": max(asked.walltime_s, min(asked.walltime_s * self.walltime_factor, most_s))}
        return {}

    def stated(self) -> dict[str, Any]:
        """By name, what is stated."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


NO_GROWTH = Growth()


@dataclass(frozen=True, slots=True)
class Retry:
    """At most `max_attempts` counted attempts; the n-th retry waits about `backoff_s * 2**(n-1)`.

    `on` lists the codes worth another try (see failure.py); empty means all of them. A cancelled job is never
    retried, a lost one only by `on_lost`.
    """

    max_attempts: int = 1
    backoff_s: float = 30.0
    on: frozenset[str] = frozenset()
    growth: Growth = NO_GROWTH

    def allows(self, attempts_used: int, code: str) -> bool:
        """Whether an attempt that ended with `code` may be followed by another one."""
        return attempts_used < self.max_attempts and (not self.on or code in self.on)

    @property
    def heeds_memory(self) -> bool:
        """Whether it matters if an attempt had too little memory, or failed otherwise."""
        return self.growth.memory_factor is not None or Failure.OUT_OF_MEMORY in self.on

    def delay_s(self, attempts_used: int, jitter: float) -> float:
        """Seconds until the next attempt; `jitter` in [0, 1) spreads retries over 75 to 125 percent."""
        exponent = min(attempts_used - 1, 30)
        return float(min(self.backoff_s * 2**exponent, MAX_BACKOFF_S) * (0.75 + jitter / 2))

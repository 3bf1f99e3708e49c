"""When a failed attempt is tried again."""

from __future__ import annotations

from dataclasses import dataclass

MAX_BACKOFF_S = 3600.0


@dataclass(frozen=True, slots=True)
class Retry:
    """At most `max_attempts` counted attempts; the n-th retry waits about `backoff_s * 2**(n-1)`.

    `on` lists the codes worth another try (see failure.py); empty means all of them. A cancelled job is never
    retried, a lost one only by `on_lost`.
    """

    max_attempts: int = 1
    backoff_s: float = 30.0
    on: frozenset[str] = frozenset()

    def allows(self, attempts_used: int, code: str) -> bool:
        """Whether an attempt that ended with `code` may be followed by another one."""
        return attempts_used < self.max_attempts and (not self.on or code in self.on)

    def delay_s(self, attempts_used: int, jitter: float) -> float:
        """Seconds until the next attempt; `jitter` in [0, 1) spreads retries over 75 to 125 percent."""
        exponent = min(attempts_used - 1, 30)
        return float(min(self.backoff_s * 2**exponent, MAX_BACKOFF_S) * (0.75 + jitter / 2))

"""How long a host that could not be reached is left alone."""

from __future__ import annotations

import random
import time

_FIRST_S = 1.0
_LONGEST_S = 60.0


class Pauses:
    """Longer after each failure in a row, and spread, so that many hosts do not come back in the same instant.

    A host that is asked too often takes us for an attacker (fail2ban, `PerSourcePenalties`).
    """

    def __init__(self, first_s: float = _FIRST_S) -> None:
        self._first_s = first_s
        self._next_s = first_s
        self._until = 0.0

    @property
    def left_s(self) -> float:
        """How long from now; 0 if it may be tried."""
        return max(self._until - time.monotonic(), 0.0)

    def begin(self) -> None:
        """It could not be reached."""
        self._until = time.monotonic() + self._next_s * random.uniform(0.75, 1.25)
        self._next_s = min(self._next_s * 2, _LONGEST_S)

    def end(self) -> None:
        """It was reached."""
        self._next_s, self._until = self._first_s, 0.0

"""How often somebody may do something: in the long run so often, for a moment more often."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

# Those who were quiet longest are forgotten first, which gives them their whole allowance back.
MOST_KNOWN = 10_000


@dataclass(slots=True)
class Rates:
    """A bucket for each who does it: `burst` tokens at first, `per_s` new ones each second, one for each time."""

    per_s: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    _left: OrderedDict[Hashable, tuple[float, float]] = field(
        init=False, repr=False, default_factory=OrderedDict
    )

    def wait_s(self, who: Hashable) -> float:
        """How long `who` has to wait until it may do it once more; 0: it may now."""
        return max(0.0, 1 - self._now(who)) / self.per_s

    def spend(self, who: Hashable) -> None:
        """`who` does it, whether it may or not: what is beyond its allowance is not counted against it later."""
        self._left[who] = max(0.0, self._now(who) - 1), self.clock()
        self._left.move_to_end(who)
        if len(self._left) > MOST_KNOWN:
            self._left.popitem(last=False)

    def _now(self, who: Hashable) -> float:
        left, at = self._left.get(who, (self.burst, self.clock()))
        return min(self.burst, left + (self.clock() - at) * self.per_s)

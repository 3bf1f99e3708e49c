"""What anybody can cause any number of, for the log: no more lines than a log can hold."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable

from jobmgr.api.rates import Rates

# A line has some 150 bytes: of one address a megabyte a day, of all together ten.
_PER_S, _BURST = 0.1, 10
_PER_S_OF_ALL, _BURST_OF_ALL = 1, 100
SUMMARY_S = 60.0
_MOST_COUNTED = 1000
_MOST_NAMED = 5


class Digest:
    """Chooses what gets a line of its own; the others are counted.

    One line every `summary_s`, and one at the end, says how many those were: `rest`, with their number and with the
    addresses that most of them came from. It belongs to one event loop.
    """

    def __init__(
        self,
        logger: logging.Logger,
        rest: str,
        summary_s: float = SUMMARY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._rest = rest
        self._summary_s = summary_s
        self._of_one = Rates(_PER_S, _BURST, clock)
        self._of_all = Rates(_PER_S_OF_ALL, _BURST_OF_ALL, clock)
        self._untold: Counter[str] = Counter()
        self._summary: asyncio.TimerHandle | None = None

    def may_tell(self, address: str) -> bool:
        """Whether what came from this address now gets its line; it is counted if not."""
        if self._of_one.wait_s(address) or self._of_all.wait_s("all"):
            self._count(address)
            return False
        self._of_one.spend(address)
        self._of_all.spend("all")
        return True

    def close(self) -> None:
        """Tell what was only counted until now."""
        if self._summary is not None:
            self._summary.cancel()
            self._sum_up()

    def _count(self, address: str) -> None:
        # Whoever has many addresses must not make this grow without end.
        known = address in self._untold or len(self._untold) < _MOST_COUNTED
        self._untold[address if known else "addresses not counted singly"] += 1
        if self._summary is None:
            self._summary = asyncio.get_running_loop().call_later(self._summary_s, self._sum_up)

    def _sum_up(self) -> None:
        untold, self._untold, self._summary = self._untold, Counter(), None
        named = [f"{count} from {address}" for address, count in untold.most_common(_MOST_NAMED)]
        if others := len(untold) - len(named):
            named.append(f"the rest from {others} others")
        self._logger.warning(self._rest, untold.total(), ", ".join(named))

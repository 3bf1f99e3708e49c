"""A database that is away: said now and then, tried again more and more rarely, and said when it is back."""

from __future__ import annotations

import logging
import random
import time

logger = logging.getLogger(__name__)

WARN_S = 10.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0


class Outage:
    """What happens to one kind of use of the database, say reading."""

    def __init__(self, use: str) -> None:
        self._use = use
        self._away_since: float | None = None
        self._warned_at: float | None = None

    def begin(self, error: Exception) -> None:
        """It could not be reached, once more. Warns at most every WARN_S."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        if self._warned_at is None or now - self._warned_at >= WARN_S:
            self._warned_at = now
            logger.warning("the database does not answer, %s waits: %s", self._use, error)

    def end(self) -> None:
        """It was reached."""
        if self._away_since is not None:
            logger.info("%s works again", self._use)
            self._away_since = None

    @property
    def pause_s(self) -> float:
        """How long to wait before the next try: half as long as it has been away, within bounds."""
        away_s = 0.0 if self._away_since is None else time.monotonic() - self._away_since
        pause_s = min(max(away_s / 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        return pause_s * random.uniform(0.75, 1.25)

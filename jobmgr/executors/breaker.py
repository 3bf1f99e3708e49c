"""A breaker between us and a scheduler: who does not answer is not asked by everybody.

While it answers, a few commands go to it at once. After some in a row that were not answered well only one try at a
time is made, by whoever waits longest, in growing pauses, until one is answered well; then all go on at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from jobmgr.executors.pace import Pace

logger = logging.getLogger(__name__)

# So many commands go to a scheduler at once.
AT_ONCE = 4
_PATIENCE = 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Silence:
    """How often in a row, and since when, a scheduler did not answer well; `words` are the last it said, if any."""

    tries: int = 0
    since: datetime | None = None
    words: str = ""

    def longer(self, words: str, now: datetime) -> Silence:
        """This one after another try in vain."""
        return Silence(self.tries + 1, self.since or now, words)

    @property
    def is_long(self) -> bool:
        """Whether it is not to be asked by everybody."""
        return self.tries >= _PATIENCE

    def said(self, what: str) -> str:
        """`what` does not happen since then, and the last words."""
        return f"{what} since {self.since:%Y-%m-%d %H:%M:%S} UTC: {self.words}" if self.since else ""

    def pause_s(self, pace: Pace) -> float:
        """How long to wait before the next try; while it is not long, each waits for itself."""
        if not self.is_long:
            return 0.0
        return min(pace.again_first_s * 2.0 ** min(self.tries - _PATIENCE, 30), pace.again_max_s)


NONE = Silence()


class Breaker:
    """Whoever sends a command of his own to one scheduler has a turn from here, and says how it was answered."""

    def __init__(self, site: str, pace: Pace, monotonic: Callable[[], float]) -> None:
        self._site = site
        self._pace = pace
        self._monotonic = monotonic
        self._silence = NONE
        self._again_at = 0.0
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._only = asyncio.Lock()
        self._stirred = asyncio.Event()

    @property
    def words(self) -> str:
        """Why not everybody gets through; empty while everybody does."""
        if not self._silence.is_long:
            return ""
        return self._silence.said(f"the scheduler of {self._site} does not answer")

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it."""
        held = await self._held()
        try:
            yield
        finally:
            held.release()

    async def rest(self, pause_s: float) -> None:
        """Wait so long, but no longer than until the scheduler answers well after a long silence, or `stir`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s * random.uniform(0.75, 1.25)):
                await self._stirred.wait()

    async def insist(self, ask: Callable[[], Awaitable[T]], tell: Callable[[str], None]) -> T:
        """What it answers in the end: after an error that nobody foresaw it is asked again, in growing pauses.

        `tell` is told why it takes so long.
        """
        pause_s, trouble = self._pace.again_first_s, ""
        while True:
            try:
                return await ask()
            except Exception as error:  # boundary: who is given up here waits for ever, and nobody knows why
                words = unforeseen(error)
                if words != trouble:
                    logger.exception(
                        "an attempt at %s could not be attended to, and will be again", self._site
                    )
                trouble = words
            tell(f"it could not be attended to: {trouble}")
            await self.rest(pause_s)
            pause_s = min(pause_s * 2, self._pace.again_max_s)

    def stir(self) -> None:
        """What they missed is there again: whoever rests goes on, and the next try is due."""
        self._again_at = self._monotonic()
        self._stirred.set()
        self._stirred = asyncio.Event()

    def well(self) -> None:
        """It answered, whatever it said."""
        if self._silence.is_long:
            logger.info("the scheduler of %s answers again", self._site)
            self.stir()
        self._silence = NONE

    def in_vain(self, words: str) -> None:
        """It did not answer, or not so that anything can be done now."""
        was_long = self._silence.is_long
        self._silence = self._silence.longer(words, datetime.now(UTC))
        if self._silence.is_long and not was_long:
            logger.warning("%s; one try at a time is made", self.words)
        self._again_at = self._monotonic() + self._silence.pause_s(self._pace)

    async def _held(self) -> asyncio.Semaphore | asyncio.Lock:
        while True:
            await self._turns.acquire()
            if not self._silence.is_long:
                return self._turns
            self._turns.release()
            # First come, first served; so one that can never be answered well keeps nobody else back.
            await self._only.acquire()
            try:
                await self._until_due()
            except BaseException:
                self._only.release()
                raise
            if self._silence.is_long:
                return self._only
            self._only.release()

    async def _until_due(self) -> None:
        while self._silence.is_long and (pause_s := self._again_at - self._monotonic()) > 0:
            await self.rest(pause_s)


def unforeseen(error: Exception) -> str:
    """An error that is a fault of jobmgr, in words for who waits because of it; not all have some of their own."""
    return f"an error inside jobmgr, which its log has in full: {error!r}"

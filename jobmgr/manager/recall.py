"""What was told lately, so that many who ask are one question: asked anew when it is old, by one at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from jobmgr.dialects.dialect import NotUnderstood
from jobmgr.errors import ClusterUnavailable, SiteUnreachable

KEEP_S = 30.0
# After a question without an answer nobody asks again for so long.
PAUSE_S = 5.0
# Who knows what was told before does not wait longer than this for what is told now.
PATIENCE_S = 2.0

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Told(Generic[T]):
    """What was told, when, and how long ago that is by a clock that is never set."""

    value: T
    at: datetime
    age_s: float = 0.0

    @classmethod
    def now(cls, value: T) -> Told[T]:
        """Told this moment."""
        return cls(value, datetime.now(UTC))


@dataclass(slots=True)
class _Entry:
    asking: asyncio.Task[None] | None = None
    told: Told[Any] | None = None
    told_at: float = 0.0
    trouble: str = ""
    ask_at: float = float("-inf")


class Recall:
    """Remembers what each of those who are asked told, until they are gone themselves."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, *, patience_s: float = PATIENCE_S
    ) -> None:
        self._monotonic = monotonic
        self._patience_s = patience_s
        self._entries: WeakKeyDictionary[object, dict[str, _Entry]] = WeakKeyDictionary()
        self._asking: set[asyncio.Task[None]] = set()

    async def told(self, by: object, site: str, what: str, ask: Callable[[], Awaitable[T]]) -> Told[T]:
        """What `by`, of this site, tells about `what`: as remembered for at most KEEP_S, else what `ask` answers.

        Raises ClusterUnavailable, with what was told last, if it could not be asked, or not understood; also, if
        something was told before, when it takes longer than anybody wants to wait for newer.
        """
        entry = self._entries.setdefault(by, {}).setdefault(what, _Entry())
        if entry.asking is None and self._monotonic() >= entry.ask_at:
            entry.asking = self._begin(self._ask(entry, ask))
        is_asked = entry.asking is not None and not await self._is_done(entry.asking, entry.told)
        last = entry.told
        if last is not None:
            last = replace(last, age_s=self._monotonic() - entry.told_at)
        if is_asked:
            raise ClusterUnavailable(
                site, f"no answer within {self._patience_s:g} s, and still waited for", last
            )
        if entry.trouble:
            raise ClusterUnavailable(site, entry.trouble, last)
        assert last is not None
        return last

    async def close(self) -> None:
        """Wait for no answer any more."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    def _begin(self, asking: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # Nobody who waits for it owns it: it goes on when he does not want to wait any longer.
        task = asyncio.create_task(asking)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return task

    async def _is_done(self, asking: asyncio.Task[None], known: Told[Any] | None) -> bool:
        done, _ = await asyncio.wait([asking], timeout=None if known is None else self._patience_s)
        for task in done:
            task.result()
        return bool(done)

    async def _ask(self, entry: _Entry, ask: Callable[[], Awaitable[Any]]) -> None:
        try:
            value = await ask()
        except (SiteUnreachable, NotUnderstood) as error:
            entry.trouble = str(error)
            entry.ask_at = self._monotonic() + PAUSE_S
        else:
            entry.told, entry.told_at, entry.trouble = Told.now(value), self._monotonic(), ""
            entry.ask_at = entry.told_at + KEEP_S
        finally:
            entry.asking = None


async def shown(told: Awaitable[T], show: Callable[[T], R]) -> R:
    """`show` of what is told; if it is not, ClusterUnavailable with `show` of what was told last."""
    try:
        return show(await told)
    except ClusterUnavailable as error:
        last = None if error.last is None else show(error.last)
        raise ClusterUnavailable(error.site, error.reason, last) from error

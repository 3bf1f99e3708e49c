"""The watch over all attempts at a site: their files and their scheduler's words, a few commands for all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from jobmgr.dialects.dialect import Listing
from jobmgr.domain.job import JobError
from jobmgr.errors import SiteUnreachable
from jobmgr.executors import breaker, ghost, verdict
from jobmgr.executors.ghost import Ghost
from jobmgr.executors.listed import Listed
from jobmgr.executors.live import Live
from jobmgr.executors.pace import Pace
from jobmgr.executors.place import Files, Place
from jobmgr.executors.protocol import Ended
from jobmgr.executors.register import Register
from jobmgr.executors.scheduler import Scheduler
from jobmgr.executors.verdict import Known, ToSettle, ToVoid, Vanished, Verdict, Wait

logger = logging.getLogger(__name__)

_FAILURES_SAID = 4  # One look that fails says little.
_ASK_GROWTH = 1.5


@dataclass(frozen=True, slots=True)
class Hands:
    """Who does what a look asks for; each returns at once, and does it then.

    `void`: make sure that these never start, and tell so, with why. `take_back`: withdraw what may wait under the name
    of an attempt that is over. `cancel`: ask the scheduler to end these. `tell`: tell it what is still to be told.
    """

    void: Callable[[Sequence[tuple[Live, JobError | None]]], None]
    take_back: Callable[[Live], None]
    cancel: Callable[[Sequence[str]], None]
    tell: Callable[[Sequence[Live]], None]


class Watch:
    """Looks at the attempts of a register that are handed in, as long as there are any, or ghosts of them."""

    def __init__(
        self,
        site: str,
        register: Register,
        scheduler: Scheduler,
        place: Place,
        hands: Hands,
        pace: Pace,
        monotonic: Callable[[], float],
    ) -> None:
        self._site = site
        self._register = register
        self._scheduler = scheduler
        self._place = place
        self._hands = hands
        self._pace = pace
        self._monotonic = monotonic
        self._wake = asyncio.Event()
        self._ask_s = pace.ask_first_s
        self._ask_at = 0.0
        self._rested_at = 0.0
        self._ghosts: Sequence[Ghost] = ()
        self._trouble = ""  # what the scheduler last said of why it did not list everything
        # Apart from that of those who wish something: who does not take jobs may well tell of those it has.
        self._silence = breaker.NONE

    @property
    def words(self) -> str:
        """Since when the scheduler does not tell where its jobs are, and what it said last; empty if it does."""
        return self._silence.said(f"the scheduler of {self._site} does not tell where its jobs are")

    def look_soon(self) -> None:
        """Something is expected to change."""
        if not self._silence.is_long:
            self._ask_s = self._pace.ask_first_s
            # In a campaign something is expected all the time: a scheduler that takes long has its rest first.
            soon = max(self._monotonic() + self._pace.files_s, self._rested_at)
            self._ask_at = min(self._ask_at, soon)
        self._wake.set()

    async def run(self) -> None:
        """Watch for ever."""
        failures = 0
        while True:
            watched = [live for live in self._register if live.is_handed_in]
            if not watched and not self._ghosts:
                self._silence = breaker.NONE
                self._wake.clear()
                await self._wake.wait()
                continue
            most_s, began = self._pace.again_max_s, self._monotonic()
            try:
                took_s = await self._look(watched)
                failures = 0
            except SiteUnreachable as error:
                most_s, took_s = self._pace.away_max_s, self._monotonic() - began
                failures += 1
                if failures == _FAILURES_SAID:
                    self._register.unreachable(watched, str(error))
            except Exception:  # boundary: without this loop no end is seen
                logger.exception("the attempts at %s could not be looked at", self._site)
                took_s, failures = 0.0, failures + 1
            pause_s = max(
                min(self._pace.files_s * 2.0 ** min(failures, 30), most_s), took_s * self._pace.rest
            )
            await asyncio.sleep(min(pause_s, self._pace.again_max_s))

    async def _look(self, watched: Sequence[Live]) -> float:
        """Look at attempts, and do what follows; how long it took to look at their files, in seconds."""
        # The scheduler first: what it says has ended has written its record before.
        if self._monotonic() >= self._ask_at:
            await self._ask_scheduler(watched)
        began = self._monotonic()
        told = await self._files(watched)
        took_s = self._monotonic() - began
        judged = [(live, self._judge(live, told[live.place])) for live in watched if not live.is_over]
        await self._settle([(live, found.nonce) for live, found in judged if isinstance(found, ToSettle)])
        to_void = [(live, found.error) for live, found in judged if isinstance(found, ToVoid)]
        for live, _ in to_void:
            live.is_handed_in = False
        if to_void:
            self._hands.void(to_void)
        # What could not be told yet perhaps can be now.
        self._hands.tell([live for live in watched if live.errand.open])
        return took_s

    async def _files(self, watched: Sequence[Live]) -> Mapping[str, Files]:
        # What a holder left unlinked counts only when it has been gone for some time.
        gone = [live.place for live in watched if _may_be_over(live)]
        others = [live.place for live in watched if not _may_be_over(live)]
        seen = {live.place: live.files for live in watched if live.files is not None}
        return {**await self._place.look(others, seen), **await self._place.look_closely(gone)}

    async def _ask_scheduler(self, watched: Sequence[Live]) -> None:
        began = self._monotonic()
        ids = [id_ for live in watched for id_ in live.ids]
        try:
            listing = await self._scheduler.look([*ids, *(one.id for one in self._ghosts)])
        except SiteUnreachable as error:
            self._hear_of(Listing((), complete=False, why=str(error)))
            self._ask_again(began)
            raise
        self._hear_of(listing)
        listed = Listed(listing, self._register)
        has_changed = False
        for live in watched:
            seen = listed.of(live)
            live.strange_ids |= listed.strange(live)
            has_changed |= [one.word for one in seen] != [one.word for one in live.standings]
            live.standings = seen
            self._register.meet(live, seen)
            _note_whether_it_waits(live, began)
            live.complete = listing.complete
            live.has_whole_queue = listing.has_whole_queue
        # Whom it is time to ask for again the ender knows: that a wish was taken does not say that it will be done.
        stubborn = [live for live in watched if live.is_cancelled and not live.has_ended]
        if stubborn:
            self._hands.cancel([id_ for live in stubborn for id_ in live.own_ids])
        self._lay_to_rest(listing)
        if not listing.complete and listing.why != self._trouble:
            logger.warning("the scheduler of %s did not list everything: %s", self._site, listing.why)
        self._trouble = listing.why
        self._ask_s = (
            self._pace.ask_first_s if has_changed else min(self._ask_s * _ASK_GROWTH, self._pace.ask_max_s)
        )
        self._ask_again(began)

    def _hear_of(self, listing: Listing) -> None:
        if listing.has_whole_queue:
            self._silence = breaker.NONE
        elif listing.why:
            self._silence = self._silence.longer(listing.why, datetime.now(UTC))

    def _ask_again(self, began: float) -> None:
        """Say when, after a question that was asked then."""
        now = self._monotonic()
        rest_s = min((now - began) * self._pace.rest, self._pace.ask_max_s)
        self._rested_at = now + rest_s
        self._ask_at = now + max(self._ask_s, rest_s, self._silence.pause_s(self._pace))

    def _lay_to_rest(self, listing: Listing) -> None:
        self._ghosts, to_rest = ghost.sort(self._ghosts, listing, self._monotonic(), self._pace)
        for one in to_rest:
            logger.warning(
                "job %s has ended, and the scheduler of %s still calls %s alive; it is asked to end it",
                one.job_id,
                self._site,
                one.id,
            )
        if to_rest:
            self._hands.cancel([one.id for one in to_rest])

    def _judge(self, live: Live, files: Files) -> Verdict:
        """What became of an attempt; tells its progress, and its end."""
        live.files = files = _unforgotten(live.files, files)
        is_alive = verdict.is_alive(files, live.standings)
        if is_alive:
            live.has_vanished = False
        self._register.progress(live, files)
        now = self._monotonic()
        if is_alive or not live.has_whole_queue:
            live.gone_since = None
        elif live.gone_since is None:
            live.gone_since = now
        gone_s = 0.0 if live.gone_since is None else now - live.gone_since
        if files.record is not None and live.recorded_at is None:
            live.recorded_at = now
        known = Known(
            live.launch.token,
            live.is_cancelled,
            gone_s,
            self._pace,
            heeds_memory=live.launch.heeds_memory,
            waits_s=live.waits_s,
            has_started=live.is_known_to_start,
            recorded_s=0.0 if live.recorded_at is None else now - live.recorded_at,
        )
        found = verdict.judge(
            known, files, live.standings, complete=live.complete, has_queue=live.has_whole_queue
        )
        if isinstance(found, Vanished):
            live.has_vanished = True
            self._register.unreachable([live], found.why)
        elif not isinstance(found, Wait | ToVoid | ToSettle):
            self._register.end(live, found)
            if isinstance(found, Ended) and (left := ghost.ghost_of(live, now)) is not None:
                self._ghosts = (*self._ghosts, left)
            if files.record is None or files.record.get("signals"):
                # Somebody ended it, and may have put it back into the queue.
                self._hands.take_back(live)
        return found

    async def _settle(self, attempts: Sequence[tuple[Live, str]]) -> None:
        if attempts:
            await self._place.settle([(live.place, nonce) for live, nonce in attempts])
            self._wake.set()


def _unforgotten(seen: Files | None, files: Files) -> Files:
    """What a look says, or an earlier one if its control directory was emptied since: that undoes no start."""
    if seen is None or not seen.is_decided or files.is_decided or files.token not in ("", seen.token):
        return files
    return replace(seen, note=None)  # There is nothing any more that could be linked.


def _may_be_over(live: Live) -> bool:
    return live.gone_since is not None or live.waits_since is not None


def _note_whether_it_waits(live: Live, asked_at: float) -> None:
    """For how long listings call the run that holds it waiting; only those that were asked for after it was seen."""
    if not verdict.is_put_back(live.holder_id, live.standings):
        live.waits_since, live.waits_s = None, 0.0
        return
    if live.waits_since is None:
        live.waits_since = asked_at
    live.waits_s = asked_at - live.waits_since

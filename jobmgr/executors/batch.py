"""Runs attempts in a foreign queue: a scheduler's dialect over a transport.

A submission is doubtful until its id is known or a complete listing knows nothing of its name; handing in twice is
harmless, because one run only passes the gate. Attempts that are alike go out as arrays. All attempts of a site are
looked at together, with the same few commands however many they are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

from jobmgr.dialects.dialect import Dialect, Phase
from jobmgr.domain.job import JobError
from jobmgr.domain.site import Step
from jobmgr.domain.wish import Hold, Pause, Wished
from jobmgr.errors import SiteUnreachable
from jobmgr.executors import gate
from jobmgr.executors.breaker import Breaker
from jobmgr.executors.cluster import Cluster
from jobmgr.executors.ender import Ender
from jobmgr.executors.gathering import Gathering
from jobmgr.executors.handing import Desk, Given, Parted, Refusal
from jobmgr.executors.listed import Listed
from jobmgr.executors.live import Live, Trace
from jobmgr.executors.messenger import Messenger
from jobmgr.executors.pace import DEFAULT_PACE, Pace
from jobmgr.executors.parcel import Member, Parcel
from jobmgr.executors.place import Files, Place
from jobmgr.executors.protocol import JobToken, Launch, NeverRan, Report, Told, Wanted, no_token
from jobmgr.executors.register import Register
from jobmgr.executors.scheduler import Scheduler
from jobmgr.executors.trial import Trial
from jobmgr.executors.vigil import Vigil
from jobmgr.executors.watch import Hands, Watch
from jobmgr.executors.withdrawal import Withdrawal
from jobmgr.transports.transport import Transport

logger = logging.getLogger(__name__)


class BatchExecutor:
    """One site's queue. See Executor."""

    def __init__(
        self,
        site: str,
        dialect: Dialect,
        transport: Transport,
        root: str,
        report: Callable[[Report], None],
        *,
        job_env: Callable[[], Mapping[str, str]] = dict,
        job_token: JobToken = no_token,
        pace: Pace = DEFAULT_PACE,
        monotonic: Callable[[], float] = time.monotonic,
        work_id: str = "",
    ) -> None:
        self._site = site
        self._scheduler = Scheduler(dialect, transport, pace)
        self._transport = transport
        self._place = Place(transport, root, work_id)
        self._register = Register(site, report)
        self._breaker = Breaker(site, pace, monotonic)
        self._desk = Desk(
            site,
            self._scheduler,
            self._place,
            job_env,
            job_token,
            pace,
            self._breaker,
            self._register.sending,
            self._spawn,
        )
        # Who takes no jobs now may well end, hold and stop those it has.
        wishes = Breaker(site, pace, monotonic)
        self._messenger = Messenger(self._scheduler, pace, wishes, self._hear)
        self._ender = Ender(self._scheduler, pace, wishes, self._spawn, monotonic)
        self._withdrawal = Withdrawal(self._scheduler, self._desk, self._ender.take_out, pace, wishes)
        self._pace = pace
        self._report = report
        self._tasks: set[asyncio.Future[None]] = set()
        self._launches = Gathering[Live](
            self._launch_within_s, lambda lives: self._spawn(self._hand_over(lives))
        )
        self._cancels = Gathering[Live](lambda: pace.gather_s, lambda lives: self._spawn(self._cancel(lives)))
        self._errands = Gathering[Live](
            lambda: pace.gather_s, lambda lives: self._spawn(self._messenger.run(lives))
        )
        self._leavings = Gathering[Live](
            lambda: pace.gather_s, lambda lives: self._spawn(self._withdrawal.run(lives))
        )
        hands = Hands(
            lambda attempts: self._spawn(self._void(attempts)),
            lambda live: self._leavings.add([live]),
            self._ender.end,
            self._errands.add,
        )
        self._watch = Watch(site, self._register, self._scheduler, self._place, hands, pace, monotonic)
        self._vigil = Vigil(self._place, pace, self._breaker.stir)

    @property
    def asked(self) -> Mapping[str, int]:
        """How often the scheduler was asked for what: see Scheduler."""
        return self._scheduler.asked

    async def start(self) -> None:
        """See Executor. A site that cannot be reached now is tried again for each attempt."""
        self._spawn(self._watch.run())
        self._spawn(self._vigil.run())

    @property
    def trouble(self) -> str:
        """See ForeignExecutor."""
        return self._place.trouble

    async def recognise(self, work_id: str) -> str:
        """See ForeignExecutor."""
        return await self._place.recognise(work_id)

    async def launch(self, launches: Sequence[Launch]) -> None:
        """See Executor."""
        self._launches.add([self._register.take(launch, trace=Trace.NOTHING) for launch in launches])

    async def recover(self, launches: Sequence[Launch]) -> None:
        """See Executor. One without a handle may have been handed in, or not."""
        lives = [self._register.take(launch) for launch in launches]
        for live in lives:
            live.is_paused = None
        self._spawn(self._take_up(lives))

    async def cancel(self, token: str, grace_s: float) -> None:  # noqa: ARG002 -- as Executor has it
        """See Executor. The grace is the scheduler's own (`KillWait`)."""
        live = self._register.get(token)
        if live is not None:
            live.is_cancelled = True
            self._cancels.add([live])

    async def pause(self, token: str) -> None:
        """See Executor. What the scheduler refused once it is not asked for again."""
        await self.tell(token, Pause(is_paused=True))

    async def resume(self, token: str) -> None:
        """See Executor."""
        await self.tell(token, Pause(is_paused=False))

    async def tell(self, token: str, wished: Wished) -> None:
        """See ForeignExecutor. What was not sent yet is given back to be held in our own queue."""
        live = self._register.get(token)
        if live is None:
            return
        if live.trace is Trace.NOTHING and isinstance(wished, Hold) and wished.is_held:
            self._register.end(live, NeverRan(token, None))
            return
        live.errand.add(wished)
        self._errands.add([live])

    def remark(self, token: str, kind: type[Wished]) -> str | None:
        """See ForeignExecutor."""
        live = self._register.get(token)
        return live.errand.remark(kind) if live is not None else None

    async def forget(self, token: str) -> None:
        """See Executor."""
        self._register.forget(token)

    async def stop(self) -> None:
        """See Executor."""
        for gathering in (self._launches, self._cancels, self._leavings, self._errands):
            gathering.drop()
        self._ender.drop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._register.clear()
        await self._transport.close()

    def run_directory(self, launch: Launch) -> str:
        """See Executor."""
        return self._place.run(launch.place)

    async def missing(self, wanted: Sequence[Wanted]) -> Sequence[tuple[str, ...] | None]:
        """See Executor."""
        return await self._place.missing([(one.launch.place, one.names) for one in wanted])

    @property
    def cluster(self) -> Cluster:
        """See ForeignExecutor."""
        return Cluster(self._scheduler, self._transport)

    def expected_start(self, token: str) -> datetime | None:
        """See ForeignExecutor."""
        live = self._register.get(token)
        waiting = [one for one in live.standings if one.phase is Phase.PENDING] if live else []
        return min((one.expected_start for one in waiting if one.expected_start), default=None)

    def reason(self, token: str) -> str:
        """Why the scheduler lets the attempt wait, in its own words, and since when it was not heard; else empty."""
        live = self._register.get(token)
        if live is None:
            return ""
        if live.is_cancelled and live.said:
            return live.said
        if not live.is_handed_in:
            return self._breaker.words or live.said
        return "; before that it said: ".join(filter(None, [self._watch.words, live.reason]))

    async def trial(self) -> Sequence[Step]:
        """See ForeignExecutor."""
        return await Trial(self._scheduler, self._transport, self._place, self.cluster).run()

    # Handing in

    def _launch_within_s(self) -> float:
        waiting = sum(live.is_handed_in and not live.has_started for live in self._register)
        return self._pace.gather_s if waiting < self._pace.plenty else self._pace.gather_more_s

    async def _hand_over(self, lives: Sequence[Live]) -> None:
        """Hand in what came together."""
        by_token = {live.launch.token: live for live in lives}
        tell = self._register.teller(lives)
        for parcel in await self._breaker.insist(lambda: self._desk.sort(_wanted(lives), tell), tell):
            self._spawn(self._hand_in(parcel, [by_token[one.launch.token] for one in parcel.members]))

    async def _take_up(self, lives: Sequence[Live]) -> None:
        """Go on with attempts of an earlier service: where they are told of, who has no handle is looked for."""
        told = await self._breaker.insist(
            lambda: self._looked_at(lives), lambda why: self._register.unreachable(lives, why)
        )
        fresh: list[Live] = []
        named: dict[str, list[Live]] = defaultdict(list)
        for live in lives:
            if live.is_over:
                continue
            files = told[live.place]
            if files.name:
                live.name, live.index = files.name, files.index
            if live.ids or files.is_decided:
                live.is_handed_in = True
            elif not files.token:
                fresh.append(live)
            else:
                named[live.name].append(live)
        self._launches.add(fresh)
        for name, those in named.items():
            is_whole = those[0].index is None
            parcel = Parcel(name, tuple(Member(one.launch, one.index) for one in those), is_whole=is_whole)
            self._spawn(self._hand_in(parcel, those, is_doubtful=True))
        self._watch.look_soon()

    async def _looked_at(self, lives: Sequence[Live]) -> Mapping[str, Files]:
        pause_s = self._pace.files_s
        while not all(live.is_over for live in lives):
            try:
                return await self._place.look([live.place for live in lives])
            except SiteUnreachable as unreachable:
                self._register.unreachable(lives, str(unreachable))
            await self._breaker.rest(pause_s)
            pause_s = min(pause_s * 2, self._pace.again_max_s)
        return {}

    async def _hand_in(self, parcel: Parcel, lives: Sequence[Live], *, is_doubtful: bool = False) -> None:
        for live, member in zip(lives, parcel.members, strict=True):
            live.name, live.index = parcel.name, member.index
        given = await self._desk.hand_in(
            parcel, _wanted(lives), self._register.teller(lives), is_doubtful=is_doubtful
        )
        if isinstance(given, Given):
            self._has(lives, given)
        elif isinstance(given, Parted):
            # One after the other: while there is no room for one job, one job asks for it.
            by_token = {live.launch.token: live for live in lives}
            for part in given.parcels:
                await self._hand_in(part, [by_token[one.launch.token] for one in part.members])
        else:
            error = given.error if isinstance(given, Refusal) else None
            await self._void([(live, error) for live in lives if live.is_wanted])
        self._watch.look_soon()

    def _has(self, lives: Sequence[Live], given: Given) -> None:
        """The scheduler has these attempts."""
        dialect = self._scheduler.dialect  # How ids are written depends on no installation.
        for live in lives:
            live.ids = (
                given.ids
                if live.index is None
                else tuple(dialect.element(id_, live.index) for id_ in given.ids)
            )
            if live.is_over:
                continue
            live.is_handed_in, live.may_double, live.said = True, given.is_doubtful, ""
            if live.ids:
                self._register.waits(live)
        self._errands.add(live for live in lives if live.errand.open)
        # Who was cancelled meanwhile is void already, or runs.
        self._ender.end([id_ for live in lives if live.is_cancelled for id_ in live.own_ids])

    async def _void(self, attempts: Sequence[tuple[Live, JobError | None]]) -> None:
        """Make sure that these attempts never start, and tell so, with why; who has started is watched.

        Of whom there can be nothing at the site, nobody there is asked. Who was not handed in, for certain, is voided
        if that can be done at once, but does not need it.
        """
        lives = [live for live, _ in attempts]
        await self._breaker.insist(
            lambda: self._make_void(attempts), lambda why: self._register.unreachable(lives, why)
        )

    async def _make_void(self, attempts: Sequence[tuple[Live, JobError | None]]) -> None:
        pause_s, harmless = self._pace.files_s, Trace.NOTHING
        while attempts := self._to_void(attempts, harmless):
            try:
                told = await self._place.void([(live.place, live.launch.token) for live, _ in attempts])
            except SiteUnreachable as unreachable:
                self._register.unreachable([live for live, _ in attempts], str(unreachable))
            else:
                attempts = [one for one in attempts if not self._is_decided(*one, told[one[0].place])]
                self._explain([(live, told[live.place].complaint) for live, _ in attempts])
            harmless = Trace.FILES
            if not (attempts := self._to_void(attempts, harmless)):
                return
            # Where nothing can be written now a scheduler may well be asked.
            self._ender.end([id_ for live, _ in attempts if live.is_cancelled for id_ in live.own_ids])
            await self._breaker.rest(pause_s)
            pause_s = min(pause_s * 2, self._pace.again_max_s)

    def _explain(self, complaints: Sequence[tuple[Live, str]]) -> None:
        """Why these are not void, though the site answers."""
        alike: dict[str, list[Live]] = defaultdict(list)
        for live, words in complaints:
            if words:
                alike[words.rsplit(": ", 1)[-1]].append(live)
        for words, lives in alike.items():
            self._register.explain(lives, f"its gate cannot be written at the site: {words}")

    def _to_void(
        self, attempts: Sequence[tuple[Live, JobError | None]], harmless: Trace
    ) -> Sequence[tuple[Live, JobError | None]]:
        for live, error in attempts:
            # The files of an element go out again with the others of its array, as they lie there.
            if live.trace <= (harmless if live.index is None else Trace.NOTHING):
                self._never_ran(live, error)
        return [(live, error) for live, error in attempts if not live.is_over]

    def _never_ran(self, live: Live, error: JobError | None) -> None:
        self._register.end(live, NeverRan(live.launch.token, None if live.is_cancelled else error))
        if live.is_cancelled:
            self._ender.end(live.own_ids)
        if live.trace is Trace.JOB:
            self._leavings.add([live])

    def _is_decided(self, live: Live, error: JobError | None, files: Files) -> bool:
        if files.gate is not None and files.gate["decision"] == gate.VOID:
            self._never_ran(live, error)
            return True
        if files.is_decided or (files.token and files.token != live.launch.token):
            live.is_handed_in, live.said = True, ""
            self._register.progress(live, files)
            self._watch.look_soon()
            return True
        return False

    # Wishes

    async def _cancel(self, lives: Sequence[Live]) -> None:
        # Whose start was seen has a gate; if his files are gone a new one must not say that he never ran.
        await self._void([(live, None) for live in lives if not live.is_known_to_start])
        # Who is over was seen to when it was voided, or is not ours any more.
        self._ender.end([id_ for live in lives if not live.is_over for id_ in live.own_ids])
        self._watch.look_soon()

    def _hear(self, token: str, wished: Wished, is_taken: bool) -> None:  # noqa: FBT001 -- see Answered
        """What a wish was answered."""
        live = self._register.get(token)
        if not isinstance(wished, Pause):
            if is_taken:
                self._report(Told(token, wished))
            if live is not None and live.may_double and isinstance(wished, Hold) and wished.is_held:
                self._spawn(self._look_for_doubles(live.name))
        elif live is not None and not wished.is_paused:
            # It is told when it is next seen to run, whether it was suspended before or not; not by an older listing.
            live.is_paused, live.standings = True, ()
        self._watch.look_soon()

    async def _look_for_doubles(self, name: str) -> None:
        """What is held shall not start as another job; not every scheduler lists whom it is not asked about."""
        lives = [live for live in self._register if live.name == name]
        for live in lives:
            live.may_double = False
        await asyncio.sleep(self._pace.in_doubt_s)
        while not all(live.is_over or live.has_started for live in lives):
            found = await self._desk.listing([name])
            listed = Listed(found, self._register)
            for live in lives:
                self._register.meet(live, listed.of(live))
            if found.has_whole_queue:
                return
            await self._breaker.rest(self._pace.again_max_s)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # Awaited by stop().
        task.add_done_callback(self._is_done)

    def _is_done(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        # boundary: one attempt's trouble must not end the others
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("an attempt at %s could not be attended to", self._site, exc_info=error)


def _wanted(lives: Sequence[Live]) -> Callable[[], Sequence[Launch]]:
    return lambda: [live.launch for live in lives if live.is_wanted]

"""Runs attempts in a foreign queue: a scheduler's dialect over a transport.

A submission is doubtful until its id is known or a complete listing knows nothing of its name; handing in twice is
harmless, because one run only passes the gate. Attempts that are alike go out as arrays. All attempts of a site are
looked at together, with the same few commands however many they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from jobmgr.dialects.dialect import Command, Dialect, NotUnderstood, Phase, Standing, Wish
from jobmgr.domain.job import JobError
from jobmgr.domain.resources import counted
from jobmgr.domain.site import Step
from jobmgr.domain.wish import Wished
from jobmgr.errors import SiteUnreachable
from jobmgr.executors import gate, verdict
from jobmgr.executors.cluster import Cluster
from jobmgr.executors.errand import Errand, Messenger
from jobmgr.executors.gathering import Gathering
from jobmgr.executors.handing import Desk, Given, Refusal
from jobmgr.executors.pace import DEFAULT_PACE, Pace
from jobmgr.executors.parcel import Member, Parcel, name_of
from jobmgr.executors.place import Files, Place
from jobmgr.executors.protocol import (
    Final,
    Launch,
    NeverRan,
    Paused,
    Report,
    Resumed,
    Scheduled,
    Started,
    Told,
    Unreachable,
)
from jobmgr.executors.scheduler import Scheduler
from jobmgr.executors.verdict import Known, ToSettle, ToVoid, Verdict, Wait
from jobmgr.transports.transport import Transport

logger = logging.getLogger(__name__)

_TRIAL_S = 20.0
_FAILURES_SAID = 4  # One look that fails says little.
_WITHDRAWALS = 12
_WAITS = frozenset({Phase.PENDING, Phase.HELD, Phase.UNKNOWN})
_TURNS = frozenset({Phase.RUNNING, Phase.SUSPENDED})
_ASK_GROWTH = 1.5


@dataclass(slots=True)
class _Live:
    """An attempt in the hands of this executor, and what was seen of it.

    `name` is that of the submission that it was handed in with, `index` its element if that is an array.
    """

    launch: Launch
    name: str
    index: int | None = None
    ids: tuple[str, ...] = ()
    is_handed_in: bool = False
    is_cancelled: bool = False
    is_over: bool = False
    has_started: bool = False
    is_paused: bool = False
    is_unreachable: bool = False
    gone_since: float | None = None
    said: str = ""
    files: Files | None = None
    standings: Sequence[Standing] = ()
    complete: bool = False
    has_whole_queue: bool = False
    errand: Errand = field(default_factory=Errand)

    @property
    def place(self) -> str:
        """Where its directories lie."""
        return self.launch.place

    @property
    def is_wanted(self) -> bool:
        """Whether it is to be run."""
        return not self.is_cancelled and not self.is_over

    def waiting(self) -> Sequence[str]:
        """The ids under which it may wait."""
        if self.is_over or self.has_started or not self.is_handed_in:
            return ()
        ended = {one.id for one in self.standings if one.phase is Phase.ENDED}
        return [id_ for id_ in self.ids if id_ not in ended]


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
        pace: Pace = DEFAULT_PACE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site = site
        self._scheduler = Scheduler(dialect, transport, pace)
        self._transport = transport
        self._place = Place(transport, root)
        self._desk = Desk(site, self._scheduler, self._place, job_env, pace)
        self._messenger = Messenger(self._scheduler, transport, pace, self._tell_told)
        self._pace = pace
        self._report = report
        self._monotonic = monotonic
        self._lives: dict[str, _Live] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._launches = Gathering[_Live](
            self._launch_within_s, lambda lives: self._spawn(self._hand_over(lives))
        )
        self._cancels = Gathering[_Live](
            lambda: pace.gather_s, lambda lives: self._spawn(self._cancel(lives))
        )
        self._leavings = Gathering[_Live](lambda: pace.gather_s, self._take_back)
        self._wake = asyncio.Event()
        self._ask_s = pace.ask_first_s
        self._ask_at = 0.0
        self._trouble = ""  # what the scheduler last said of why it did not list everything

    @property
    def asked(self) -> Mapping[str, int]:
        """How often the scheduler was asked for what: see Scheduler."""
        return self._scheduler.asked

    async def start(self) -> None:
        """See Executor. A site that cannot be reached now is tried again for each attempt."""
        self._spawn(self._watch())

    async def launch(self, launches: Sequence[Launch]) -> None:
        """See Executor."""
        self._launches.add([self._take(launch) for launch in launches])

    async def recover(self, launches: Sequence[Launch]) -> None:
        """See Executor. One without a handle may have been handed in, or not."""
        self._spawn(self._take_up([self._take(launch) for launch in launches]))

    async def cancel(self, token: str, grace_s: float) -> None:  # noqa: ARG002 -- as Executor has it
        """See Executor. The grace is the scheduler's own (`KillWait`)."""
        live = self._lives.get(token)
        if live is not None:
            live.is_cancelled = True
            self._cancels.add([live])

    async def pause(self, token: str) -> None:
        """See Executor."""
        self._spawn(self._ask(token, Wish.SUSPEND))

    async def resume(self, token: str) -> None:
        """See Executor."""
        live = self._lives.get(token)
        if live is not None:
            # So that it is told as soon as it is seen to run, whether somebody had let it go on before or not.
            live.is_paused = True
        self._spawn(self._ask(token, Wish.RESUME))

    async def tell(self, token: str, wished: Wished) -> None:
        """See ForeignExecutor."""
        live = self._lives.get(token)
        if live is not None:
            live.errand.add(wished)
            self._spawn(self._messenger.run(token, live.errand, live.waiting))

    def remark(self, token: str, kind: type[Wished]) -> str:
        """See ForeignExecutor."""
        live = self._lives.get(token)
        return live.errand.said.get(kind, "") if live is not None else ""

    async def forget(self, token: str) -> None:
        """See Executor."""
        live = self._lives.pop(token, None)
        if live is not None:
            live.is_over = True

    async def stop(self) -> None:
        """See Executor."""
        for gathering in (self._launches, self._cancels, self._leavings):
            gathering.drop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._lives.clear()
        await self._transport.close()

    def run_directory(self, launch: Launch) -> str:
        """See Executor."""
        return self._place.run(launch.place)

    async def missing(self, launch: Launch, names: Sequence[str]) -> tuple[str, ...]:
        """See Executor."""
        return await self._place.missing(launch.place, names)

    @property
    def cluster(self) -> Cluster:
        """See ForeignExecutor."""
        return Cluster(self._scheduler, self._transport)

    def expected_start(self, token: str) -> datetime | None:
        """See ForeignExecutor."""
        live = self._lives.get(token)
        waiting = [one for one in live.standings if one.phase is Phase.PENDING] if live else []
        return min((one.expected_start for one in waiting if one.expected_start), default=None)

    def reason(self, token: str) -> str:
        """Why the scheduler lets the attempt wait, in its own words; empty if it does not say."""
        live = self._lives.get(token)
        if live is None:
            return ""
        if not live.is_handed_in:
            return live.said
        waiting = [one for one in live.standings if one.phase in (Phase.PENDING, Phase.HELD)]
        return waiting[0].reason or waiting[0].word if waiting else ""

    async def trial(self) -> Sequence[Step]:
        """Try the way to the site, its scheduler and its work directory, until something is wrong."""
        steps: list[Step] = []
        for name, attempt in (
            ("connection", self._try_connection),
            ("scheduler", self.cluster.version),
            ("installation", self._try_installation),
            ("work directory", self._try_directory),
            ("partitions", self._try_partitions),
        ):
            try:
                steps.append(Step(name, is_well=True, said=await attempt()))
            except (SiteUnreachable, NotUnderstood) as error:
                steps.append(Step(name, is_well=False, said=str(error)))
                break
        return steps

    async def _try_connection(self) -> str:
        answer = await self._transport.run(Command(("uname", "-n")), _TRIAL_S)
        if answer.exit_code != 0:
            raise NotUnderstood(answer.stderr.strip() or f"`uname -n` ended with {answer.exit_code}")
        return f"commands run on {answer.stdout.strip()}"

    async def _try_installation(self) -> str:
        return (await self._scheduler.fit()).installation()

    async def _try_directory(self) -> str:
        await self._place.make_roots()
        return self._place.root

    async def _try_partitions(self) -> str:
        found = await self.cluster.partitions()
        return ", ".join(f"{one.name}{'' if one.is_up else ' (down)'}" for one in found) or "none"

    def _take(self, launch: Launch) -> _Live:
        known = self._lives.get(launch.token)
        if known is not None:
            known.is_over = True
        live = _Live(launch, name_of(launch.token), ids=tuple((launch.handle or "").split()))
        self._lives[launch.token] = live
        return live

    # Handing in

    def _launch_within_s(self) -> float:
        waiting = sum(live.is_handed_in and not live.has_started for live in self._lives.values())
        return self._pace.gather_s if waiting < self._pace.plenty else self._pace.gather_more_s

    async def _hand_over(self, lives: Sequence[_Live]) -> None:
        """Hand in what came together."""
        by_token = {live.launch.token: live for live in lives}
        for parcel in await self._desk.sort(_wanted(lives), self._teller(lives)):
            self._spawn(self._hand_in(parcel, [by_token[one.launch.token] for one in parcel.members]))

    async def _take_up(self, lives: Sequence[_Live]) -> None:
        """Go on with attempts of an earlier service: where they are told of, who has no handle is looked for."""
        told = await self._looked_at(lives)
        fresh: list[_Live] = []
        named: dict[str, list[_Live]] = defaultdict(list)
        for live in lives:
            if live.is_over:
                continue
            files = told[live.place]
            if files.name:
                live.name, live.index = files.name, files.index
            if live.ids or files.gate is not None or files.record is not None:
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
        self._look_soon()

    async def _looked_at(self, lives: Sequence[_Live]) -> Mapping[str, Files]:
        pause_s = self._pace.files_s
        while not all(live.is_over for live in lives):
            try:
                return await self._place.look([live.place for live in lives])
            except SiteUnreachable as unreachable:
                self._tell_unreachable(lives, str(unreachable))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._pace.again_max_s)
        return {}

    async def _hand_in(self, parcel: Parcel, lives: Sequence[_Live], *, is_doubtful: bool = False) -> None:
        for live, member in zip(lives, parcel.members, strict=True):
            live.name, live.index = parcel.name, member.index
        given = await self._desk.hand_in(parcel, _wanted(lives), self._teller(lives), is_doubtful=is_doubtful)
        if isinstance(given, Given):
            await self._has(lives, given)
        else:
            error = given.error if isinstance(given, Refusal) else None
            await self._void([(live, error) for live in lives if live.is_wanted])
        self._look_soon()

    async def _has(self, lives: Sequence[_Live], given: Given) -> None:
        """The scheduler has these attempts."""
        dialect = await self._scheduler.fitted()
        for live in lives:
            live.ids = (
                given.ids
                if live.index is None
                else tuple(dialect.element(id_, live.index) for id_ in given.ids)
            )
            if live.is_over:
                continue
            live.is_handed_in = True
            if live.ids:
                self._report(Scheduled(live.launch.token, " ".join(live.ids)))
                self._spawn(self._messenger.run(live.launch.token, live.errand, live.waiting))
        # Who was cancelled meanwhile is void already, or runs.
        await self._ask_about([id_ for live in lives if live.is_cancelled for id_ in live.ids], Wish.CANCEL)

    async def _void(self, attempts: Sequence[tuple[_Live, JobError | None]]) -> None:
        """Make sure that these attempts never start, and tell so, with why; who has started is watched."""
        pause_s = self._pace.files_s
        while open_ := [(live, error) for live, error in attempts if not live.is_over]:
            try:
                told = await self._place.void([(live.place, live.launch.token) for live, _ in open_])
            except SiteUnreachable as unreachable:
                self._tell_unreachable([live for live, _ in open_], str(unreachable))
            else:
                attempts = [one for one in open_ if not self._is_decided(*one, told[one[0].place])]
                if not attempts:
                    return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._pace.again_max_s)

    def _is_decided(self, live: _Live, error: JobError | None, files: Files) -> bool:
        if files.gate is not None and files.gate["decision"] == gate.VOID:
            self._finish(live, NeverRan(live.launch.token, None if live.is_cancelled else error))
            self._leavings.add([live])
            return True
        if files.gate is not None or files.token != live.launch.token:
            live.is_handed_in = True
            self._tell_progress(live, files)
            return True
        return False

    def _take_back(self, lives: Sequence[_Live]) -> None:
        named: dict[str, list[_Live]] = defaultdict(list)
        for live in lives:
            named[live.name].append(live)
        for name, those in named.items():
            self._spawn(self._withdraw(name, those))

    async def _withdraw(self, name: str, lives: Sequence[_Live]) -> None:
        """Take back what waits under the name of attempts that are over, as a requeued run: it would be refused."""
        pause_s = self._pace.ask_first_s
        indices = {live.index for live in lives}
        for _ in range(_WITHDRAWALS):
            listing = await self._desk.listing(name)
            jobs = [one for one in listing.jobs if one.index in indices]
            await self._ask_about([one.id for one in jobs if one.phase in _WAITS], Wish.CANCEL)
            # While a run is being ended, it may be put back into the queue.
            if listing.has_whole_queue and all(one.phase is Phase.ENDED for one in jobs):
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._pace.again_max_s)

    # Wishes

    async def _cancel(self, lives: Sequence[_Live]) -> None:
        await self._void([(live, None) for live in lives])
        await self._ask_about([id_ for live in lives for id_ in live.ids], Wish.CANCEL)
        self._look_soon()

    async def _ask(self, token: str, wish: Wish) -> None:
        live = self._lives.get(token)
        if live is not None:
            await self._ask_about(live.ids, wish)
            self._look_soon()

    async def _ask_about(self, ids: Sequence[str], wish: Wish) -> None:
        with contextlib.suppress(SiteUnreachable, NotUnderstood):
            complied = await self._scheduler.ask(wish, ids)
            logger.debug("%s of %s: %s", wish, " ".join(ids), " ".join(complied))

    def _tell_told(self, token: str, wished: Wished) -> None:
        self._report(Told(token, wished))
        self._look_soon()

    # Watching

    def _look_soon(self) -> None:
        self._ask_s = self._pace.ask_first_s
        self._ask_at = min(self._ask_at, self._monotonic() + self._pace.files_s)
        self._wake.set()

    async def _watch(self) -> None:
        failures = 0
        while True:
            watched = [live for live in self._lives.values() if live.is_handed_in and not live.is_over]
            if not watched:
                self._wake.clear()
                await self._wake.wait()
                continue
            took_s = 0.0
            try:
                took_s = await self._look(watched)
                failures = 0
            except SiteUnreachable as error:
                failures += 1
                if failures == _FAILURES_SAID:
                    self._tell_unreachable(watched, str(error))
            except Exception:  # boundary: without this loop no end is seen
                logger.exception("the attempts at %s could not be looked at", self._site)
                failures += 1
            pause_s = max(self._pace.files_s * 2**failures, took_s * self._pace.rest)
            await asyncio.sleep(min(pause_s, self._pace.again_max_s))

    async def _look(self, watched: Sequence[_Live]) -> float:
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
            self._spawn(self._void(to_void))
        return took_s

    async def _files(self, watched: Sequence[_Live]) -> Mapping[str, Files]:
        # What a holder left unlinked counts only when it has been gone for some time.
        gone = [live.place for live in watched if live.gone_since is not None]
        others = [live.place for live in watched if live.gone_since is None]
        seen = {live.place: live.files for live in watched if live.files is not None}
        return {**await self._place.look(others, seen), **await self._place.look_closely(gone)}

    async def _ask_scheduler(self, watched: Sequence[_Live]) -> None:
        began = self._monotonic()
        # An element is known by the name of its array and its index.
        standings: dict[tuple[str, int | None], list[Standing]] = defaultdict(list)
        listing = await self._scheduler.look([id_ for live in watched for id_ in live.ids])
        for one in listing.jobs:
            standings[one.name, one.index].append(one)
        has_changed = False
        for live in watched:
            seen = standings.get((live.name, live.index), [])
            has_changed |= [one.word for one in seen] != [one.word for one in live.standings]
            live.standings = seen
            live.complete = listing.complete
            live.has_whole_queue = listing.has_whole_queue
        # Asked again each time: that it was taken does not say that it will be done.
        stubborn = [live for live in watched if live.is_cancelled and not _has_ended(live)]
        if stubborn:
            self._spawn(self._ask_about([id_ for live in stubborn for id_ in live.ids], Wish.CANCEL))
        if not listing.complete and listing.why != self._trouble:
            logger.warning("the scheduler of %s did not list everything: %s", self._site, listing.why)
        self._trouble = listing.why
        self._ask_s = (
            self._pace.ask_first_s if has_changed else min(self._ask_s * _ASK_GROWTH, self._pace.ask_max_s)
        )
        now = self._monotonic()
        self._ask_at = now + max(self._ask_s, min((now - began) * self._pace.rest, self._pace.ask_max_s))

    def _judge(self, live: _Live, files: Files) -> Verdict:
        """What became of an attempt; tells its progress, and its end."""
        live.files = files
        self._tell_progress(live, files)
        now = self._monotonic()
        if verdict.is_alive(files, live.standings) or not live.has_whole_queue:
            live.gone_since = None
        elif live.gone_since is None:
            live.gone_since = now
        gone_s = 0.0 if live.gone_since is None else now - live.gone_since
        known = Known(
            live.launch.token,
            live.is_cancelled,
            gone_s,
            self._pace,
            heeds_memory=live.launch.heeds_memory,
        )
        found = verdict.judge(
            known, files, live.standings, complete=live.complete, has_queue=live.has_whole_queue
        )
        if not isinstance(found, Wait | ToVoid | ToSettle):
            self._finish(live, found)
            if files.record is None or files.record.get("signals"):
                # Somebody ended it, and may have put it back into the queue.
                self._leavings.add([live])
        return found

    async def _settle(self, attempts: Sequence[tuple[_Live, str]]) -> None:
        if attempts:
            await self._place.settle([(live.place, nonce) for live, nonce in attempts])
            self._wake.set()

    def _tell_progress(self, live: _Live, files: Files) -> None:
        token = live.launch.token
        holder = files.gate["holder"] if files.gate and files.gate["decision"] == gate.RUN else None
        if holder is not None and holder["id"] not in live.ids:
            # One command may have handed in several; which of them holds the attempt only the gate knows.
            live.ids = (*live.ids, holder["id"])
            live.complete = live.has_whole_queue = False
        if holder is not None and (not live.has_started or live.is_unreachable):
            live.has_started, live.is_unreachable = True, False
            self._report(Started(token, holder["id"], datetime.fromisoformat(holder["at"])))
        elif live.is_unreachable:
            live.is_unreachable = False
            self._report(Scheduled(token, " ".join(live.ids)))
        turns = [one.phase for one in live.standings if one.phase in _TURNS]
        is_paused = Phase.SUSPENDED in turns
        # What is not listed now has not therefore gone on.
        if live.has_started and turns and is_paused != live.is_paused:
            live.is_paused = is_paused
            self._report(Paused(token) if is_paused else Resumed(token))

    def _teller(self, lives: Sequence[_Live]) -> Callable[[str], None]:
        def tell(why: str) -> None:
            news = [live for live in lives if live.is_wanted and live.said != why]
            for live in news:
                live.said = why
            if news:
                others = f" and {counted(len(news) - 1, 'other job')}" if len(news) > 1 else ""
                logger.warning("job %s%s at %s: %s", news[0].launch.job_id, others, self._site, why)

        return tell

    def _tell_unreachable(self, lives: Sequence[_Live], why: str) -> None:
        for live in lives:
            if not live.is_over and not live.is_unreachable:
                live.is_unreachable = True
                self._report(Unreachable(live.launch.token, why))

    def _finish(self, live: _Live, report: Final) -> None:
        if not live.is_over:
            live.is_over = True
            self._lives.pop(live.launch.token, None)
            self._report(report)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(self._guarded(work))
        self._tasks.add(task)  # Awaited by stop().
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:  # boundary: one attempt's trouble must not end the others
            logger.exception("an attempt at %s could not be attended to", self._site)


def _wanted(lives: Sequence[_Live]) -> Callable[[], Sequence[Launch]]:
    return lambda: [live.launch for live in lives if live.is_wanted]


def _has_ended(live: _Live) -> bool:
    return all(one.phase is Phase.ENDED for one in live.standings)

"""Runs attempts in a foreign queue: a scheduler's dialect over a transport.

A submission is doubtful until its id is known or a complete listing knows nothing of its name; handing in twice is
harmless, because one run only passes the gate. All attempts of a site are looked at together, with the same few
commands however many they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from jobmgr.dialects.dialect import Command, Dialect, Listing, NotUnderstood, Phase, Standing, Wish
from jobmgr.domain.job import JobError
from jobmgr.domain.site import Step
from jobmgr.errors import SiteUnreachable
from jobmgr.executors import gate, verdict
from jobmgr.executors.handing import Desk, Given, Refusal
from jobmgr.executors.pace import Pace
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
    Unreachable,
)
from jobmgr.executors.verdict import Known, ToSettle, ToVoid, Wait
from jobmgr.transports.transport import Transport

logger = logging.getLogger(__name__)

_TIMEOUT_S = 60.0
_TRIAL_S = 20.0
_FAILURES_SAID = 4  # One look that fails says little.
_WITHDRAWALS = 12
_WAITS = frozenset({Phase.PENDING, Phase.HELD, Phase.UNKNOWN})
_ASK_GROWTH = 1.5
DEFAULT_PACE = Pace()


@dataclass(slots=True)
class _Live:
    """An attempt in the hands of this executor, and what was seen of it."""

    launch: Launch
    ids: tuple[str, ...] = ()
    is_handed_in: bool = False
    is_cancelled: bool = False
    is_over: bool = False
    has_started: bool = False
    is_paused: bool = False
    is_unreachable: bool = False
    gone_since: float | None = None
    said: str = ""
    standings: Sequence[Standing] = ()
    complete: bool = False
    has_whole_queue: bool = False

    @property
    def place(self) -> str:
        """Where its directories lie."""
        return f"{self.launch.job_id}/{self.launch.number}"


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
        self._dialect = dialect
        self._transport = transport
        self._place = Place(transport, root)
        self._desk = Desk(site, dialect, transport, self._place, job_env, pace)
        self._pace = pace
        self._report = report
        self._monotonic = monotonic
        self._lives: dict[str, _Live] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._ask_s = pace.ask_first_s
        self._ask_at = 0.0
        self._trouble = ""  # what the scheduler last said of why it did not list everything

    async def start(self) -> None:
        """See Executor. A site that cannot be reached now is tried again for each attempt."""
        self._spawn(self._watch())

    async def launch(self, launches: Sequence[Launch]) -> None:
        """See Executor."""
        for launch in launches:
            live = self._lives[launch.token] = _Live(launch)
            self._spawn(self._hand_in(live))

    async def recover(self, launches: Sequence[Launch]) -> None:
        """See Executor. One without a handle may have been handed in, or not."""
        for launch in launches:
            known = self._lives.get(launch.token)
            if known is not None:
                known.is_over = True
            ids = tuple((launch.handle or "").split())
            live = self._lives[launch.token] = _Live(launch, ids)
            if ids:
                live.is_handed_in = True
            else:
                self._spawn(self._hand_in(live, is_doubtful=True))
        self._look_soon()

    async def cancel(self, token: str, grace_s: float) -> None:  # noqa: ARG002 -- as Executor has it
        """See Executor. The grace is the scheduler's own (`KillWait`)."""
        live = self._lives.get(token)
        if live is not None:
            live.is_cancelled = True
            self._spawn(self._cancel(live))

    async def pause(self, token: str) -> None:
        """See Executor."""
        self._spawn(self._ask(token, Wish.SUSPEND))

    async def resume(self, token: str) -> None:
        """See Executor."""
        self._spawn(self._ask(token, Wish.RESUME))

    async def forget(self, token: str) -> None:
        """See Executor."""
        live = self._lives.pop(token, None)
        if live is not None:
            live.is_over = True

    async def stop(self) -> None:
        """See Executor."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._lives.clear()
        await self._transport.close()

    def run_directory(self, launch: Launch) -> str:
        """See Executor."""
        return self._place.run(f"{launch.job_id}/{launch.number}")

    async def missing(self, launch: Launch, names: Sequence[str]) -> tuple[str, ...]:
        """See Executor."""
        return await self._place.missing(f"{launch.job_id}/{launch.number}", names)

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
            ("scheduler", self._try_scheduler),
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

    async def _try_scheduler(self) -> str:
        answer = await self._transport.run(self._dialect.version(), _TRIAL_S)
        version = self._dialect.read_version(answer)
        if version is None:
            said = (answer.stderr or answer.stdout).strip()[:500]
            raise NotUnderstood(
                f"there is no {self._dialect.name} that answers: {said or 'nothing was said'}"
            )
        return version

    async def _try_directory(self) -> str:
        await self._place.make_roots()
        return self._place.root

    async def _try_partitions(self) -> str:
        answer = await self._transport.run(self._dialect.partitions(), _TRIAL_S)
        found = self._dialect.read_partitions(answer)
        return ", ".join(f"{one.name}{'' if one.is_up else ' (down)'}" for one in found) or "none"

    # Handing in

    async def _hand_in(self, live: _Live, *, is_doubtful: bool = False) -> None:
        def is_unwanted() -> bool:
            return live.is_cancelled or live.is_over

        def tell(why: str) -> None:
            if why != live.said:
                live.said = why
                logger.warning("job %s at %s: %s", live.launch.job_id, self._site, why)

        given = await self._desk.hand_in(live.launch, is_unwanted, tell, is_doubtful=is_doubtful)
        if live.is_over:
            return
        if isinstance(given, Given):
            live.ids = given.ids
            live.is_handed_in = True
            if given.ids:
                self._report(Scheduled(live.launch.token, " ".join(given.ids)))
            if live.is_cancelled:
                await self._cancel(live)
        else:
            await self._void(live, given.error if isinstance(given, Refusal) else None)
        self._look_soon()

    async def _void(self, live: _Live, error: JobError | None) -> None:
        """Make sure that the attempt never starts, and tell so; if it has started it is watched."""
        pause_s = self._pace.files_s
        while not live.is_over:
            try:
                files = (await self._place.void([(live.place, live.launch.token)]))[live.place]
            except SiteUnreachable as unreachable:
                self._tell_unreachable(live, str(unreachable))
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, self._pace.again_max_s)
                continue
            if files.gate is not None and files.gate["decision"] == gate.VOID:
                self._finish(live, NeverRan(live.launch.token, None if live.is_cancelled else error))
                await self._withdraw(live)
                return
            if files.gate is not None or files.token != live.launch.token:
                live.is_handed_in = True
                return
            await asyncio.sleep(pause_s)

    async def _withdraw(self, live: _Live) -> None:
        """Take back what waits under the name of an attempt that is over, as a requeued run: it would be refused."""
        pause_s = self._pace.ask_first_s
        for _ in range(_WITHDRAWALS):
            listing = await self._desk.listing(live.launch)
            waiting = [one.id for one in listing.jobs if one.phase in _WAITS]
            await self._ask_about(waiting, Wish.CANCEL)
            # While a run is being ended, it may be put back into the queue.
            if listing.has_whole_queue and all(one.phase is Phase.ENDED for one in listing.jobs):
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._pace.again_max_s)

    # Wishes

    async def _cancel(self, live: _Live) -> None:
        if not live.is_handed_in:
            return  # the desk sees the wish
        with contextlib.suppress(SiteUnreachable):
            files = (await self._place.void([(live.place, live.launch.token)]))[live.place]
            await self._ask_about(live.ids, Wish.CANCEL)
            if files.gate is not None and files.gate["decision"] == gate.VOID:
                self._finish(live, NeverRan(live.launch.token, None))
        self._look_soon()

    async def _ask(self, token: str, wish: Wish) -> None:
        live = self._lives.get(token)
        if live is not None:
            await self._ask_about(live.ids, wish)
            self._look_soon()

    async def _ask_about(self, ids: Sequence[str], wish: Wish) -> None:
        command = self._dialect.ask(wish, ids) if ids else None
        if command is None:
            return
        with contextlib.suppress(SiteUnreachable):
            answer = await self._transport.run(command, _TIMEOUT_S)
            logger.debug("%s of %s: %s", wish, " ".join(ids), self._dialect.complied(answer))

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
            try:
                await self._look(watched)
                failures = 0
            except SiteUnreachable as error:
                failures += 1
                if failures == _FAILURES_SAID:
                    for live in watched:
                        self._tell_unreachable(live, str(error))
            except Exception:  # boundary: without this loop no end is seen
                logger.exception("the attempts at %s could not be looked at", self._site)
                failures += 1
            await asyncio.sleep(min(self._pace.files_s * 2**failures, self._pace.again_max_s))

    async def _look(self, watched: Sequence[_Live]) -> None:
        # The scheduler first: what it says has ended has written its record before.
        if self._monotonic() >= self._ask_at:
            await self._ask_scheduler(watched)
        told = await self._place.look([live.place for live in watched])
        for live in watched:
            if not live.is_over:
                await self._judge(live, told[live.place])

    async def _ask_scheduler(self, watched: Sequence[_Live]) -> None:
        named: dict[str, list[Standing]] = defaultdict(list)
        listing = await self._listing(sorted({id_ for live in watched for id_ in live.ids}))
        for one in listing.jobs:
            named[one.name].append(one)
        has_changed = False
        for live in watched:
            standings = named.get(self._desk.name_of(live.launch), [])
            has_changed |= [one.word for one in standings] != [one.word for one in live.standings]
            if live.is_cancelled and any(one.phase is not Phase.ENDED for one in standings):
                # Asked again each time: that it was taken does not say that it will be done.
                self._spawn(self._ask_about(live.ids, Wish.CANCEL))
            live.standings = standings
            live.complete = listing.complete
            live.has_whole_queue = listing.has_whole_queue
        if not listing.complete and listing.why != self._trouble:
            logger.warning("the scheduler of %s did not list everything: %s", self._site, listing.why)
        self._trouble = listing.why
        self._ask_s = (
            self._pace.ask_first_s if has_changed else min(self._ask_s * _ASK_GROWTH, self._pace.ask_max_s)
        )
        self._ask_at = self._monotonic() + self._ask_s

    async def _listing(self, ids: Sequence[str]) -> Listing:
        if not ids:
            return Listing((), complete=False)
        answers = [await self._transport.run(command, _TIMEOUT_S) for command in self._dialect.look(ids)]
        return self._dialect.seen(answers)

    async def _judge(self, live: _Live, files: Files) -> None:
        self._tell_progress(live, files)
        now = self._monotonic()
        if verdict.is_alive(files, live.standings) or not live.has_whole_queue:
            live.gone_since = None
        elif live.gone_since is None:
            live.gone_since = now
        gone_s = 0.0 if live.gone_since is None else now - live.gone_since
        known = Known(live.launch.token, live.is_cancelled, gone_s, self._pace)
        found = verdict.judge(
            known, files, live.standings, complete=live.complete, has_queue=live.has_whole_queue
        )
        if isinstance(found, ToVoid):
            live.is_handed_in = False
            self._spawn(self._void(live, found.error))
        elif isinstance(found, ToSettle):
            await self._place.settle([(live.place, found.nonce)])
            self._wake.set()
        elif not isinstance(found, Wait):
            self._finish(live, found)
            if files.record is None or files.record.get("signals"):
                # Somebody ended it, and may have put it back into the queue.
                self._spawn(self._withdraw(live))

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
        is_paused = any(one.phase is Phase.SUSPENDED for one in live.standings)
        if live.has_started and is_paused != live.is_paused:
            live.is_paused = is_paused
            self._report(Paused(token) if is_paused else Resumed(token))

    def _tell_unreachable(self, live: _Live, why: str) -> None:
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

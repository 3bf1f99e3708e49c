"""The engine's loop: claims what is due and fits, hands it to executors, carries out wishes about what is live."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from jobmgr.dispatch.admission import Admission, choose
from jobmgr.dispatch.completer import Completer
from jobmgr.dispatch.pause import until
from jobmgr.dispatch.recognition import Recognition
from jobmgr.dispatch.recovery import Recovery
from jobmgr.dispatch.roster import Roster
from jobmgr.dispatch.sites import Maker, Sites
from jobmgr.domain.limits import ResourceLimits
from jobmgr.domain.site import LOCAL, Site, Step
from jobmgr.domain.wish import Wished
from jobmgr.errors import ExecutorUnavailable, InvalidRequest, StoreUnavailable
from jobmgr.executors.protocol import Executor, ForeignExecutor, NeverRan, Report, Started
from jobmgr.monitor import ResourceMonitor
from jobmgr.store import attempts, claims, dispatchers, sites, waiting
from jobmgr.store.claims import Claim, Claimed, Room
from jobmgr.store.dispatchers import Identity
from jobmgr.store.engine import Database
from jobmgr.store.transaction import Topic
from jobmgr.transports.directory import RunDirectory

logger = logging.getLogger(__name__)

_SAMPLE_S = 1.0
_HAND_OVER_S = 0.25  # Ends are not kept waiting for longer than this.
_LOOK_BACK_S = 1.0
_DUE_AT_ONCE = 1000
_LONGEST_SLEEP_S = 30.0  # The clock of timers stands still while a machine is suspended, due times do not.


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """How many attempts a foreign queue may have; why it gets no more, in sentences.

    `trouble`: why this service does not serve it, so that others would have to say more.
    """

    slots: int
    closed: Sequence[str]
    trouble: str = ""


class Dispatcher:
    """One service's claims, from claim to written end. Wakes up by events; timers are for due times only."""

    def __init__(
        self,
        database: Database,
        identity: Identity,
        admission: Admission,
        monitor: ResourceMonitor,
        cancel_grace_s: float,
        executor: Executor,
        make: Maker,
    ) -> None:
        self.identity = identity
        self.admission = admission
        self.roster = Roster()
        self._database = database
        self._monitor = monitor
        self._cancel_grace_s = cancel_grace_s
        self._sites = Sites(executor, make)
        self._completer = Completer(database, self.roster, self._sites, self._make_ready)
        self._recovery = Recovery(database, identity, self.roster, self._sites, self._wish_anew)
        self._recognition = Recognition(database, self._sites, self._looked_at_sites)
        self._work = asyncio.Event()
        self._time = asyncio.Event()
        self._wish = asyncio.Event()
        self._site = asyncio.Event()
        self._owner = asyncio.Event()
        self._limits_changed = asyncio.Event()
        self.is_draining = False
        self._claiming = asyncio.Lock()
        # Whether something may be claimed that is in no hands: the answer was lost, or handing over failed.
        self._is_doubtful = False
        self._tasks: asyncio.Task[None] | None = None
        self._cancelled: set[str] = set()

    def report(self, report: Report) -> None:
        """What executors are constructed with: the way back for their reports."""
        if isinstance(report, Started):
            self.admission.enough()
        elif isinstance(report, NeverRan) and report.shortage is not None:
            pause_s = self.admission.short_of(report.shortage)
            if pause_s is not None:
                logger.warning("nothing is started for %.1f s: %s", pause_s, report.shortage)
                asyncio.get_running_loop().call_later(pause_s + 0.01, self._wake_claims)  # not early
        self._completer.take(report)

    async def start(self) -> None:
        """Register, take up what an earlier service left, and begin to claim. The executor here is started."""
        await self._database.write(dispatchers.register, self.identity)
        await self._sites.refresh(await self._database.read(sites.listing))
        self._tasks = asyncio.create_task(self._run(), name="jobmgr-dispatcher")
        await self._recovery.look_after_others()
        self._database.on_commit(self.notice)
        self.notice(frozenset(Topic))

    async def drain(self) -> None:
        """Claim no more, and wait until the ends of all jobs that run are written."""
        await self._end_claiming()
        await self.roster.wait_until_empty()

    async def stop(self) -> None:
        """Claim no more, and let go: running jobs run on under their keepers."""
        await self._end_claiming()
        await self._sites.stop()
        if self._tasks is not None:
            with contextlib.suppress(TimeoutError):
                # Reports that cannot be written now are on disk as exit records; the next start reads them.
                async with asyncio.timeout(5.0):
                    await self._completer.settle()
            self._tasks.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._tasks
            with contextlib.suppress(StoreUnavailable):
                await self._database.write(dispatchers.stop, self.identity.id)

    async def _end_claiming(self) -> None:
        self.is_draining = True
        async with self._claiming:  # a claim that is under way is handed over first
            pass

    def notice(self, topics: frozenset[Topic]) -> None:
        """Wake up whoever is concerned by a commit."""
        for topic, event in (
            (Topic.WORK, self._work),
            (Topic.TIME, self._time),
            (Topic.WISH, self._wish),
            (Topic.SITE, self._site),
            (Topic.OWNER, self._owner),
        ):
            if topic in topics:
                event.set()

    def expect_work(self) -> None:
        """Jobs are about to be written: what there is room for is claimed in the same commit."""
        self._work.set()

    async def keep_to(self, limits: ResourceLimits) -> None:
        """Claim by these limits from now on: when this returns, no claim that was reckoned with others is under way."""
        async with self._claiming:
            self.admission.limits = limits
            self.admission.observe(self._monitor.sample())
        self._limits_changed.set()
        self._work.set()

    def _wake_claims(self) -> None:
        self._work.set()

    async def _make_ready(self) -> None:
        """Ends are about to be written: what there is room for then is claimed in the same commit.

        Not while attempts are handed over, which takes as long as a commit: the claim would need one of its own.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HAND_OVER_S), self._claiming:
                pass
        self._work.set()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._completer.run())
            group.create_task(self._recognition.run())
            for loop in (
                self._claim_when_woken,
                self._promote_when_due,
                self._obey_when_wished,
                self._follow_sites,
                self._let_go_when_told,
                self._watch_host,
                self._look_for_passed_over,
                self._beat,
            ):
                group.create_task(self._forever(loop))

    async def _forever(self, step: Callable[[], Coroutine[None, None, None]]) -> None:
        while True:
            try:
                await step()
            except StoreUnavailable:
                await self._database.pause()
                self.notice(frozenset(Topic))
            except Exception:  # boundary: a bug in one step must not end the others
                logger.exception("a step of the dispatcher failed and will be repeated")
                await asyncio.sleep(1.0)
                self.notice(frozenset(Topic))

    @contextlib.asynccontextmanager
    async def _taking_up(self) -> AsyncIterator[None]:
        """Nothing is claimed meanwhile; after a failure not before what is ours was looked for: it occupies room."""
        async with self._claiming:
            was_doubtful, self._is_doubtful = self._is_doubtful, True
            yield
            self._is_doubtful = was_doubtful

    async def _claim_when_woken(self) -> None:
        await self._work.wait()
        self._work.clear()
        if self.is_draining:
            return
        async with self._claiming:
            if self._is_doubtful:
                await self._recovery.reconcile()
                self._is_doubtful = False
            if await self._claim():
                self._work.set()  # As the commit of new jobs may have done: one more look for both.

    async def _claim(self) -> bool:
        """Claim once, at all sites in one commit, and launch; whether there may be more to claim."""
        if self._completer.has_ends:
            # They are written at once, and wake up the claim that goes with them.
            return False
        wishes = [
            wish for wish in (self._wish_here(), *map(self._wish_at, self._sites.open)) if wish.room.slots
        ]
        if not wishes or self.is_draining:
            return False
        self._is_doubtful = True
        # Nothing may be awaited from the wake-up to here: who expects work writes it next, and the commit is shared.
        claimed = await self._database.write_all(claims.claim, wishes)
        for wish, attempts_there in zip(wishes, claimed, strict=True):
            if attempts_there:
                await self._launch(wish.site, attempts_there)
        self._is_doubtful = False
        return any(claimed)

    def _wish_here(self) -> Claim:
        reserved = self.admission.reserved
        return Claim(
            self.identity.id,
            LOCAL,
            self.admission.room(self.roster.occupied),
            self.admission.chooser(),
            reserved=reserved.job if reserved else None,
        )

    def _wish_at(self, site: Site) -> Claim:
        slots = max(0, site.most_there - self.roster.count(site.name))
        return Claim(self.identity.id, site.name, Room.elsewhere(slots), choose, work_id=site.work_id)

    async def _launch(self, site: str, claimed: list[Claimed]) -> None:
        for attempt in claimed:
            logger.debug("job %s attempt %s claimed", attempt.job_id, attempt.number)
        executor = self._sites.executor(site)
        assert executor is not None, "a site without an executor is not claimed for"
        with self.roster.handing_over(claimed):
            await executor.launch([self._sites.launch_of(attempt) for attempt in claimed])

    async def _follow_sites(self) -> None:
        await self._site.wait()
        self._site.clear()
        await self._refresh_sites()

    async def _refresh_sites(self) -> None:
        async with self._taking_up():
            opened = await self._sites.refresh(await self._database.read(sites.listing))
            for name in opened:
                await self._recovery.enter(name)
        self._recognition.look_soon()
        # Also for a site that was opened again: who was woken by the same commit may have claimed before it was known.
        self._work.set()

    async def _looked_at_sites(self) -> None:
        async with self._taking_up():
            await self._recovery.inherit()
        self._work.set()

    async def _let_go_when_told(self) -> None:
        """An attempt that a user calls dead is nobody's any more."""
        await self._owner.wait()
        self._owner.clear()
        # On a server each commit of others wakes this; there the beat lets go.
        if self._database.is_sqlite:
            async with self._taking_up():
                await self._recovery.reconcile()
            self._work.set()

    async def foreign(self, site: Site) -> ForeignExecutor:
        """What serves this site, as it is stored now. Raises InvalidRequest if this service does not serve it."""
        if self._sites.row(site.name) != site or self._sites.foreign(site.name) is None:
            await self._refresh_sites()  # it was stored or changed this moment
        executor = self._sites.foreign(site.name)
        if executor is None:
            raise InvalidRequest("name", self._sites.trouble(site.name))
        return executor

    async def try_site(self, site: Site) -> Sequence[Step]:
        """Try a foreign queue. Raises as `foreign`."""
        executor = await self.foreign(site)
        steps = await executor.trial()
        if executor.trouble:
            # Whose trial went well is served from then on.
            await self._recognition.look(site.name, executor)
        return steps

    def run_directory(self, site: str, path: str) -> RunDirectory:
        """A run directory at a foreign queue. Raises ExecutorUnavailable if this service does not serve it."""
        found = self._sites.run_directory(site, path)
        if found is None:
            raise ExecutorUnavailable(f"{path} lies elsewhere, and {self._sites.trouble(site)}")
        return found

    def elsewhere(self, name: str) -> Elsewhere:
        """How a foreign queue stands with this service."""
        site = self._sites.row(name)
        trouble = self._sites.trouble(name)
        if site is None or self._sites.foreign(name) is None:
            return Elsewhere(0, [trouble], trouble)
        closed = [trouble] if trouble else []
        if not site.is_enabled:
            closed.append(f"the site {name} is disabled; `jobmgr site enable {name}` opens it")
        return Elsewhere(site.most_there, closed, trouble)

    def trouble(self, name: str) -> str:
        """Why this service does not serve a foreign queue, in a sentence; empty if it does."""
        return self._sites.trouble(name)

    def reason(self, job_id: str) -> str:
        """Why a foreign queue lets an attempt of this job wait, in its own words; empty if that is not known."""
        where = self._where(job_id)
        return "" if where is None else where[0].reason(where[1])

    def expected_start(self, job_id: str) -> datetime | None:
        """When a foreign queue expects an attempt of this job to start; None if that is not known."""
        where = self._where(job_id)
        return None if where is None else where[0].expected_start(where[1])

    def remark(self, job_id: str, kind: type[Wished]) -> str | None:
        """What a foreign queue said to a wish about this job: see ForeignExecutor."""
        where = self._where(job_id)
        return None if where is None else where[0].remark(where[1], kind)

    def _where(self, job_id: str) -> tuple[ForeignExecutor, str] | None:
        """Who has an attempt of this job in a foreign queue, and its token."""
        for claimed in self.roster:
            executor = self._sites.foreign(claimed.site) if claimed.job_id == job_id else None
            if executor is not None:
                return executor, claimed.token
        return None

    async def _promote_when_due(self) -> None:
        self._time.clear()
        due_at = await self._database.read(waiting.next_due)
        pause_s = _LONGEST_SLEEP_S
        if due_at is not None:
            pause_s = min(pause_s, (due_at - datetime.now(UTC)).total_seconds())
        if pause_s > 0:
            await until(self._time, pause_s)
            return
        await self._database.write(waiting.promote_due, _DUE_AT_ONCE)

    def _wish_anew(self, tokens: Iterable[str]) -> None:
        """An executor took these attempts up, and knows of no wish about them."""
        self._cancelled.difference_update(tokens)
        self._wish.set()

    async def _obey_when_wished(self) -> None:
        await self._wish.wait()
        self._wish.clear()
        await self._cancel_what_is_wished()
        for token, is_wanted in await self._database.read(attempts.pause_wishes, self.identity.id):
            # What the executor does about it comes back as a report; told twice it does no more.
            claimed = self.roster.get(token)
            executor = self._sites.executor(claimed.site) if claimed is not None else None
            if executor is not None:
                await (executor.pause(token) if is_wanted else executor.resume(token))
        for token, wished in await self._database.read(attempts.untold_wishes, self.identity.id):
            claimed = self.roster.get(token)
            queue = self._sites.foreign(claimed.site) if claimed is not None else None
            if queue is not None:
                await queue.tell(token, wished)

    async def _cancel_what_is_wished(self) -> None:
        wished = set(await self._database.read(attempts.cancel_wishes, self.identity.id))
        for token in wished - self._cancelled:
            claimed = self.roster.get(token)
            if claimed is not None:
                logger.info("job %s attempt %s is being cancelled", claimed.job_id, claimed.number)
                executor = self._sites.executor(claimed.site)
                if executor is not None:
                    await executor.cancel(token, self._cancel_grace_s)
                self._cancelled.add(token)
        # Only what is still wished needs remembering; an ended attempt never comes back under its token.
        self._cancelled &= wished
        if wished - self._cancelled:
            # Claimed this instant and not in memory yet.
            await asyncio.sleep(0.02)
            self._wish.set()

    async def _watch_host(self) -> None:
        was_closed = bool(self.admission.closed)
        self.admission.observe(self._monitor.sample())
        if was_closed and not self.admission.closed:
            self._work.set()
        self._limits_changed.clear()
        # Without such limits nothing is sampled until there are some.
        pause_s = _SAMPLE_S if self.admission.watches_host else None
        await until(self._limits_changed, pause_s)

    async def _look_for_passed_over(self) -> None:
        await asyncio.sleep(_LOOK_BACK_S)
        occupied = self.roster.occupied
        if not (occupied.cpus or occupied.memory_bytes or occupied.gpus):
            self.admission.passed_over(None)
            return
        room, total = self.admission.room(occupied), self.admission.total
        best = await self._database.read(claims.passed_over, LOCAL, room, total)
        before = self.admission.reserved
        self.admission.passed_over(best)
        if before is not None and self.admission.reserved is None:
            self._work.set()

    async def _beat(self) -> None:
        await asyncio.sleep(self.identity.heartbeat_s * random.uniform(0.8, 1.0))
        await self._database.write(dispatchers.beat, self.identity.id)
        # On a server others may have adopted what is ours, or fallen silent. A file has one service, but what that one
        # did about its predecessors' attempts may have failed there too.
        async with self._taking_up():
            await self._recovery.reconcile()
            await self._recovery.look_after_others()

"""A service without processes of its own: the real roster, completer and recovery, on the stage's world."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from jobmgr.dispatch.admission import choose
from jobmgr.dispatch.completer import Completer
from jobmgr.dispatch.recovery import Recovery
from jobmgr.dispatch.roster import Roster
from jobmgr.dispatch.sites import Sites
from jobmgr.errors import StoreUnavailable
from jobmgr.executors import evidence, gate, process
from jobmgr.executors.evidence import Finding
from jobmgr.executors.protocol import Ended, Launch, Lost, NeverRan, Report, Started, Unreachable, Wanted
from jobmgr.executors.pursuit import settled
from jobmgr.store import attempts, claims, dispatchers, ownership
from jobmgr.store.claims import Claim
from jobmgr.store.dispatchers import Identity
from tests.dispatch.nowhere import no_other
from tests.model.stage import Forgetful
from tests.model.world import Command, Order, World
from tests.store.worker import PLENTY

# There is no gate, so it is voided before anything is said.
_OPEN = frozenset({Finding.UNDECIDED, Finding.DOUBTFUL})


class Hands:
    """An Executor whose keepers are those of the world. Each effect of a launch is a step of its own."""

    def __init__(self, world: World, name: str, report: Callable[[Report], None]) -> None:
        self._world = world
        self._name = name
        self._report = report
        self.todo: list[Launch] = []
        self._live: dict[str, Launch] = {}
        self._cancelled: set[str] = set()

    async def start(self) -> None:
        """See Executor."""

    async def stop(self) -> None:
        """See Executor."""

    async def pause(self, token: str) -> None:
        """See Executor."""

    async def resume(self, token: str) -> None:
        """See Executor."""

    async def launch(self, launches: Sequence[Launch]) -> None:
        """See Executor."""
        self.todo += launches
        self._live.update({launch.token: launch for launch in launches})

    def prepare(self, launch: Launch) -> None:
        """Make the directories and send the order, perhaps long after the launch was asked for."""
        control = self._world.control(launch)
        gate.make_with_run(control, self._world.run_directory(launch), launch.token)
        if launch.token not in self._cancelled:
            self._world.post.append(Order(launch, self._name))
        elif gate.void(control, launch.token, "not handed to a keeper"):
            self._report(NeverRan(launch.token, None))
        else:
            self.look(launch.token)

    async def cancel(self, token: str, grace_s: float) -> None:
        """See Executor. A command that is told to end does so when the world says, without a grace."""
        del grace_s
        launch = self._live.get(token)
        if launch is None:
            return
        self._cancelled.add(token)
        is_prepared = launch not in self.todo
        if is_prepared and not gate.void(self._world.control(launch), token, "cancelled"):
            self._world.commands[token].is_cancelled = True

    async def recover(self, launches: Sequence[Launch]) -> None:
        """See Executor."""
        for launch in launches:
            self._live[launch.token] = launch
            self.look(launch.token)

    def run_directory(self, launch: Launch) -> str:
        """See Executor."""
        return self._world.run_directory(launch)

    async def missing(self, wanted: Sequence[Wanted]) -> Sequence[tuple[str, ...] | None]:
        """See Executor. These commands are asked for no files."""
        raise AssertionError(wanted)

    async def forget(self, token: str) -> None:
        """See Executor. What it had in mind to launch it may launch all the same."""
        self._live.pop(token, None)

    def look(self, token: str) -> None:
        """Find out where an attempt really is, as the pursuit does, and tell."""
        launch = self._live.get(token)
        if launch is None:
            return
        control = self._world.control(launch)
        sighting = evidence.look(control, token, launch.origin)
        if sighting.finding in _OPEN:
            with contextlib.suppress(OSError):
                gate.void(control, token, "recovered before it was started", doubt=sighting.detail)
            sighting = evidence.look(control, token, launch.origin)
        if sighting.finding is Finding.UNREACHABLE:
            self._report(Unreachable(token, sighting.detail))
        elif sighting.finding not in _OPEN:
            self._report(settled(token, sighting) or self._ask_holder(launch))

    def _ask_holder(self, launch: Launch) -> Report:
        command = self._world.commands[launch.token]
        if command.has_holder:
            return started(command)
        control = self._world.control(launch)
        gate.settle_exit(control, command.nonce)
        sighting = evidence.look(control, launch.token, launch.origin)
        return settled(launch.token, sighting) or Lost(launch.token, "its holder is gone")


def started(command: Command) -> Started:
    """What the holder of a command tells first."""
    moment = datetime.fromisoformat(command.started["started_at"])
    return Started(command.launch.token, evidence.handle_of(command.started), moment)


class Service:
    """One process with a dispatcher: born with `boot`, and gone with `die` or when the machine restarts."""

    def __init__(self, name: str, database: Forgetful, world: World) -> None:
        self.name = name
        self.database = database
        stat = process.read_stat(os.getpid())
        assert stat is not None
        self.identity = Identity(
            name,
            process.host(),
            process.boot_id(),
            process.pid_namespace(),
            stat.pid,
            stat.start_ticks,
            str(world.work),
            world.work_id,
            heartbeat_s=0.0,  # silent is who did not beat between a few looks, however soon they follow each other
        )
        self.roster = Roster()
        self.hands = Hands(world, name, self._take)
        self._sites = Sites(self.hands, no_other)
        self._completer = Completer(database, self.roster, self._sites, _at_once)
        self.recovery = Recovery(database, self.identity, self.roster, self._sites, lambda _tokens: None)
        self._is_doubtful = False
        self._task: asyncio.Task[None] | None = None

    def _take(self, report: Report) -> None:
        self._completer.take(report)

    async def boot(self) -> None:
        """Register, and take up what services left that are proven gone."""
        await self.database.write(dispatchers.register, self.identity)
        self._task = asyncio.create_task(self._completer.run())
        await self.recovery.look_after_others()

    async def die(self) -> None:
        """Forget everything at once."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def claim(self, slots: int) -> None:
        """Claim and launch, as the dispatcher does; a lost answer makes it look for its own rows first."""
        if self._is_doubtful:
            await self.recover_own()
        if self._is_doubtful:
            return
        item = Claim(self.name, "local", replace(PLENTY, slots=slots), choose)
        try:
            claimed = await self.database.write(claims.claim, item)
        except StoreUnavailable:
            self._is_doubtful = True
            return
        for attempt in claimed:
            self.roster.add(attempt)
        await self.hands.launch([self._sites.launch_of(attempt) for attempt in claimed])

    async def beat(self) -> None:
        """Show that it lives."""
        await self.database.write(dispatchers.beat, self.name)

    async def recover_own(self) -> None:
        """Compare memory and rows."""
        try:
            await self.recovery.reconcile()
        except StoreUnavailable:
            self._is_doubtful = True
            return
        self._is_doubtful = False
        await self.settle()
        own = await self.database.read(ownership.of_dispatcher, self.name)
        assert all(token in self.roster for token in own), "an attempt of its own is not in its memory"

    async def obey(self) -> None:
        """Carry out the wishes to cancel."""
        for token in await self.database.read(attempts.cancel_wishes, self.name):
            await self.hands.cancel(token, 1.0)

    async def settle(self) -> None:
        """Until everything that was reported is written."""
        if self._task is not None:
            await self._completer.settle()

    def hear(self, report: Started | Ended) -> None:
        """A keeper tells; what is not in the roster is none of this service's business."""
        self._completer.take(report)


async def _at_once() -> None:
    """The walk decides when claims are made."""

"""Services that crash, stall and adopt, with real gates on disk: every command starts once, every end is true."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from jobmgr.dispatch.peers import SILENT_BEATS
from jobmgr.domain.job import JobSpec, OnLost
from jobmgr.domain.retry import Retry
from jobmgr.domain.status import Status
from jobmgr.errors import IllegalTransition
from jobmgr.executors import evidence, gate
from jobmgr.executors.evidence import Finding
from jobmgr.executors.protocol import Ended, Launch
from jobmgr.store import jobs, submissions, waiting
from tests.model import campaign
from tests.model.law import LAWS
from tests.model.service import Service, started
from tests.model.stage import Loss, Stage
from tests.model.twin import AttemptState
from tests.model.world import Command, End, Order, World
from tests.postgresql import fast_directory
from tests.store.worker import new_job

Step = Callable[[], None]

_ANY_INDEX = st.integers(0, 1000)
_ENDS = st.sampled_from(["success", "success", "exit_code", "signal", "vanished", "noted"])
_CHOICES = st.lists(st.tuples(_ANY_INDEX, _ENDS), min_size=1, max_size=8)
_MOST_SERVICES = 3


class GateMachine(RuleBasedStateMachine):
    """Up to three services on one machine. The world knows what really happened; the database must agree."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        stage.empty()
        self._work = Path(tempfile.mkdtemp(prefix="jobmgr-gate-", dir=fast_directory()))
        self.world = World(self._work)
        self.services: list[Service] = []
        self._born: list[str] = []
        self.names: list[str] = []
        self._told: set[tuple[str, str, bool]] = set()
        self.before = self.seen = stage.look()

    def teardown(self) -> None:
        for service in self.services:
            self.stage.run(service.die())
        shutil.rmtree(self._work)

    @initialize(plans=st.lists(st.tuples(st.integers(1, 3), st.sampled_from(OnLost)), min_size=1, max_size=3))
    def begin(self, plans: list[tuple[int, OnLost]]) -> None:
        self.boot()
        for max_attempts, on_lost in plans:
            self._submit(max_attempts, on_lost)

    # Users

    @rule(max_attempts=st.integers(1, 3), on_lost=st.sampled_from(OnLost), choices=_CHOICES)
    def submit(self, max_attempts: int, on_lost: OnLost, choices: list[tuple[int, End]]) -> None:
        self._submit(max_attempts, on_lost)
        self.go_on(choices)

    def _submit(self, max_attempts: int, on_lost: OnLost) -> None:
        self.names.append(f"j{len(self.names)}")
        spec = JobSpec(("/bin/true",), retry=Retry(max_attempts, 0.0), on_lost=on_lost)
        job = new_job(self.names[-1], spec=spec, max_attempts=max_attempts, backoff_s=0.0)
        self.stage.run(self.stage.databases[0].write(submissions.insert, [job]))

    @rule(verb=st.sampled_from(["cancel", "retry"]), index=_ANY_INDEX)
    def ask(self, verb: str, index: int) -> None:
        name = self.names[index % len(self.names)]
        try:
            self.stage.run(self.stage.databases[0].write(getattr(jobs, verb), name))
        except IllegalTransition:
            assert verb == "retry"

    # Services

    @rule()
    def boot(self) -> None:
        if len(self.services) < _MOST_SERVICES:
            database = self.stage.databases[len(self.services) % 2]
            self.services.append(Service(self.stage.new_name(), database, self.world))
            self._born.append(self.services[-1].name)
            self.stage.run(self.services[-1].boot())

    @rule(who=_ANY_INDEX, is_power_cut=st.sampled_from([False, False, False, True]))
    def crash(self, who: int, is_power_cut: bool) -> None:
        """A service is killed, and what it had handed over goes on without it; or the machine is restarted."""
        if is_power_cut:
            self._bury(list(self.services))
            self.world.restart()
            self.stage.restart(self._born)
        else:
            self._bury([self._service(who)])

    @rule(who=_ANY_INDEX, slots=st.integers(1, 3), loss=st.sampled_from(["", "answer"]))
    def claim(self, who: int, slots: int, loss: Loss) -> None:
        """A service claims; most of the time there is something to claim."""
        service = self._service(who)
        if not any(job.status is Status.QUEUED for job in self.seen.jobs.values()):
            self._submit(2, OnLost.RETRY)
        self.stage.run(self.stage.databases[0].write(waiting.promote_due, 100))
        service.database.loses_next = loss
        self.stage.run(service.claim(slots))
        service.database.loses_next = ""

    @rule(who=_ANY_INDEX, former=_ANY_INDEX)
    def take_over(self, who: int, former: int) -> None:
        """One service stalls, until another one takes it for gone; it may wake up at any later step."""
        owner, stalled = self._service(who), self._service(former)
        if owner is not stalled:
            self._look_around(owner, [one for one in self.services if one is not stalled])

    def _look_around(self, owner: Service, beating: list[Service]) -> None:
        for _ in range(SILENT_BEATS + 1):
            for service in beating:
                self.stage.run(service.beat())
            self.stage.run(owner.recovery.look_after_others())

    @rule(who=_ANY_INDEX)
    def recover_own(self, who: int) -> None:
        self.stage.run(self._service(who).recover_own())

    @rule(who=_ANY_INDEX)
    def obey(self, who: int) -> None:
        self.stage.run(self._service(who).obey())

    # Services, keepers and commands go on with what they have at hand: one effect at a time

    @rule(choices=_CHOICES)
    def go_on(self, choices: list[tuple[int, End]]) -> None:
        """Somebody takes the next step: also a service that was adopted from, and an order that is long out of date."""
        for index, end in choices:
            steps = [*self._preparations(), *self._deliveries(), *self._endings(end), *self._news()]
            if not steps:
                self.claim(index, 2, "")
            else:
                steps[index % len(steps)]()
                self._settle()

    def _preparations(self) -> list[Step]:
        return [
            partial(self._prepare, service, launch)
            for service in self.services
            for launch in service.hands.todo
        ]

    def _prepare(self, service: Service, launch: Launch) -> None:
        service.hands.todo.remove(launch)
        service.hands.prepare(launch)

    def _deliveries(self) -> list[Step]:
        return [partial(self._deliver, order) for order in self.world.post]

    def _deliver(self, order: Order) -> None:
        self.world.post.remove(order)
        if not self.world.deliver(order):
            for service in self.services:
                if service.name == order.sender:
                    service.hands.look(order.launch.token)

    def _endings(self, end: End) -> list[Step]:
        commands = self.world.commands.items()
        return [partial(self.world.end, token, end) for token, command in commands if command.is_running]

    def _news(self) -> list[Step]:
        """What holders have not told yet to services that wait for it."""
        return [
            partial(self._tell, service, command)
            for service in self.services
            for command in self.world.commands.values()
            if command.has_holder
            and command.launch.token in service.roster
            and (service.name, command.launch.token, command.is_running) not in self._told
        ]

    @rule(index=_ANY_INDEX)
    def deliver_again(self, index: int) -> None:
        """A keeper gets an order that another one has got already, or will get."""
        orders = [*self.world.post, *self.world.delivered]
        if orders:
            self.world.post.append(orders[index % len(orders)])

    @rule(who=_ANY_INDEX, index=_ANY_INDEX, loss=st.sampled_from([*[""] * 15, "question", "answer"]))
    def hear(self, who: int, index: int, loss: Loss) -> None:
        """The holder of a command tells a service, which may be a stale one, or hear it again."""
        service, command = self._service(who), self._command(index)
        if command is not None and command.has_holder:
            self._settle()
            service.database.loses_next = loss
            self._tell(service, command)
            self._settle()
            service.database.loses_next = ""
            is_done = command.is_running or command.launch.token not in service.roster
            assert is_done, "an end that was heard is not written"

    @rule(who=_ANY_INDEX, index=_ANY_INDEX, is_unmounted=st.sampled_from([False, False, True]))
    def lose_connection(self, who: int, index: int, is_unmounted: bool) -> None:
        """A service that loses a keeper looks where the attempt is, perhaps while the work directory is not there."""
        service, command = self._service(who), self._command(index)
        if command is not None:
            with self.world.unmounted() if is_unmounted else nullcontext():
                service.hands.look(command.launch.token)

    # Everybody

    @rule()
    def come_to_rest(self) -> None:
        """All services but a new one are gone, every order arrives, every command ends: no attempt is left."""
        self._bury(list(self.services))
        service = self._service(0)
        self._look_around(service, [])
        while self.world.post:
            self._deliver(self.world.post[0])
        for token, command in self.world.commands.items():
            if command.is_running:
                self.world.end(token, "success")
            if command.has_holder:
                self._tell(service, command)
        self._settle()
        left = [job.job_id for job in self.stage.look().jobs.values() if job.is_live]
        assert left == [], "an attempt was forgotten"

    # After each step

    @invariant()
    def database_agrees_with_the_world(self) -> None:
        self._settle()
        self.before, self.seen = self.seen, self.stage.look()
        for law in LAWS:
            law(self.before, self.seen)
        self.nothing_starts_twice()
        for job in self.seen.jobs.values():
            for number, attempt in enumerate(job.attempts, 1):
                launch = Launch(job.job_id, number, attempt.token, ())
                if attempt.outcome is not None:
                    self.end_is_what_the_gate_says(launch, attempt)
            if job.status in (Status.RUNNING, Status.PAUSED):
                assert self.world.starts[job.attempts[-1].token] == 1, "shown as running, never started"

    def nothing_starts_twice(self) -> None:
        assert all(count == 1 for count in self.world.starts.values()), "an attempt was started twice"
        running = [c.launch.job_id for c in self.world.commands.values() if c.is_running]
        assert len(running) == len(set(running)), "two commands of one job run at once"

    def end_is_what_the_gate_says(self, launch: Launch, attempt: AttemptState) -> None:
        sighting = evidence.look(self.world.control(launch), launch.token)
        if attempt.outcome == "released":
            assert sighting.finding is Finding.VOID, f"released, but the gate is {sighting.finding}"
            assert self.world.starts[launch.token] == 0, "released, but it ran"
            return
        command = self.world.commands.get(launch.token)
        if command is None:
            # Claimed before a restart: a gate that nobody synced may be gone, so it may have run for all one knows.
            assert attempt.outcome == "lost", f"{attempt.outcome}, but it never ran"
            return
        assert not command.is_running, f"{attempt.outcome}, but its command runs"
        if attempt.outcome == "lost":
            assert not command.has_holder, "lost, but it has a holder"
            assert sighting.finding is not Finding.ENDED, "lost, but there is an exit record"
            assert not command.is_noted or command.is_of_another_boot, "lost, but its holder left a note"
            return
        assert sighting.finding is Finding.ENDED, f"{attempt.outcome}, but there is no exit record"
        record = sighting.record
        assert record is not None
        assert record.exit_code == attempt.exit_code, "another exit code than in the exit record"
        expected = "completed" if record.exit_code == 0 else "failed"
        assert attempt.outcome == ("cancelled" if record.ended_by == "cancel" else expected)

    # What rules are made of

    def _service(self, who: int) -> Service:
        if not self.services:
            self.boot()
        return self.services[who % len(self.services)]

    def _command(self, index: int) -> Command | None:
        commands = list(self.world.commands.values())
        return commands[index % len(commands)] if commands else None

    def _tell(self, service: Service, command: Command) -> None:
        self._told.add((service.name, command.launch.token, command.is_running))
        record = gate.read_exit(self.world.control(command.launch))
        if record is None:
            service.hear(started(command))
        else:
            service.hear(Ended(command.launch.token, evidence.exit_record(record)))

    def _bury(self, services: list[Service]) -> None:
        for service in services:
            self.services.remove(service)
            self.stage.run(service.die())
            self.stage.bury(service.name)

    def _settle(self) -> None:
        self.stage.run(_settle(self.services))


async def _settle(services: list[Service]) -> None:
    await asyncio.gather(*(service.settle() for service in services))


@pytest.mark.timeout(600)
def test_every_command_starts_once_and_every_end_is_true(stage: Stage) -> None:
    campaign.run_short(partial(GateMachine, stage), examples=50 if stage.is_sqlite else 25)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_every_command_starts_once_and_every_end_is_true_for_long(stage: Stage, first_seed: int) -> None:
    campaign.run_long(partial(GateMachine, stage), first_seed=first_seed)

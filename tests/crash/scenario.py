"""The scenarios that reach the fault points: what has to be there before, and what makes a process come by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jobmgr import fault
from tests.crash.holder import Role
from tests.crash.ledger import Plan
from tests.crash.site import Site
from tests.patience import eventually

_SOON_S = 3.0


class Scenario:
    """One walk of one job. The step is armed between `prepare` and `act`; `settle` lets the job come to its end."""

    # Whether the service does not run when the step is armed, and its next start reaches it.
    is_restart: ClassVar[bool] = False

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.plan = self.make(site.next_id(name))

    def make(self, job_id: str) -> Plan:
        """The job."""
        return self.site.ledger.ending(job_id, exit_code=3)

    async def prepare(self) -> None:
        """All before the step is armed."""

    async def act(self) -> None:
        """What makes a process reach the step. The service may stop or die while this waits for its answer."""

    async def settle(self) -> None:
        """What the job needs to end, once everything runs again."""


class Ordinary(Scenario):
    """A job that is submitted, runs for a moment and fails."""

    async def act(self) -> None:
        await self.site.submit(self.plan)


class Lasting(Ordinary):
    """A job that runs long enough for its start to be told by itself."""

    def make(self, job_id: str) -> Plan:
        return self.site.ledger.ending(job_id, exit_code=4, duration_s=0.2)


class Limited(Ordinary):
    """A job that runs into its time limit, whoever holds it then."""

    def make(self, job_id: str) -> Plan:
        return self.site.ledger.overlong(job_id, walltime_s=0.4)


class Impossible(Ordinary):
    """A job whose program does not exist."""

    def make(self, job_id: str) -> Plan:
        return self.site.ledger.impossible(job_id)


class Untidy(Ordinary):
    """A job that leaves a process behind."""

    def make(self, job_id: str) -> Plan:
        return self.site.ledger.ending(job_id, exit_code=5, kind="daemon")


class Repeated(Ordinary):
    """A job that fails twice and is tried again by itself."""

    def make(self, job_id: str) -> Plan:
        return self.site.ledger.ending(job_id, exit_code=6, max_attempts=2)


class Due(Ordinary):
    """A job that may not start before a moment that is near, but not over when it is stored."""

    async def act(self) -> None:
        self.plan = self.site.ledger.due(self.plan.job_id, exit_code=0, delay_s=_SOON_S)
        await super().act()


class Crowded(Ordinary):
    """A job for which a keeper has to be forked."""

    async def prepare(self) -> None:
        keepers = self.site.holders()[Role.KEEPER]
        self.site.kill(Role.KEEPER, keepers)
        await eventually(lambda: not self.site.holders()[Role.KEEPER])


class Running(Scenario):
    """A job that runs until it is let go."""

    def make(self, job_id: str) -> Plan:
        return self.site.ledger.waiting(job_id, exit_code=7)

    async def prepare(self) -> None:
        assert await self.site.submit(self.plan)
        await self.site.until(self.plan, "running")
        await self.site.signed(self.plan)

    async def settle(self) -> None:
        self.site.ledger.let_go(self.plan.job_id)


class Cancelled(Running):
    """Its cancel."""

    async def act(self) -> None:
        await self.site.cancel(self.plan)

    async def settle(self) -> None:
        # Until the wish is known to be stored; it has to be carried out, so the job is not let go.
        await eventually(lambda: self.site.cancel(self.plan))


class StubbornlyCancelled(Cancelled):
    """The cancel of a job that does not end by being asked."""

    def make(self, job_id: str) -> Plan:
        return self.site.ledger.waiting(job_id, exit_code=8, kind="stubborn")


class CancelledEarly(Scenario):
    """The cancel of a job that nobody has claimed."""

    async def prepare(self) -> None:
        self.plan.fields = {"draft": True}
        assert await self.site.submit(self.plan)

    async def act(self) -> None:
        await self.site.cancel(self.plan)

    async def settle(self) -> None:
        await eventually(lambda: self.site.cancel(self.plan))


class Paused(Running):
    """Its pause, and its going on."""

    async def act(self) -> None:
        await self.site.pause(self.plan)

    async def settle(self) -> None:
        await eventually(lambda: self.site.resume(self.plan))
        self.site.ledger.let_go(self.plan.job_id)


class Resumed(Running):
    """Its going on after a pause."""

    async def prepare(self) -> None:
        await super().prepare()
        assert await self.site.pause(self.plan)
        await self.site.until(self.plan, "paused")

    async def act(self) -> None:
        await self.site.resume(self.plan)

    async def settle(self) -> None:
        await eventually(lambda: self.site.resume(self.plan))
        self.site.ledger.let_go(self.plan.job_id)


class RunAgain(Scenario):
    """An ended job that a user wants to be run once more."""

    async def prepare(self) -> None:
        assert await self.site.submit(self.plan)
        await self.site.until(self.plan, "failed")

    async def act(self) -> None:
        await self.site.retry(self.plan)


class Bereaved(Running):
    """A running job whose keeper dies, so that the warden has to take it over."""

    async def act(self) -> None:
        self.site.kill(Role.KEEPER, [await self.site.keeper_of(self.plan)])


class Inherited(Bereaved):
    """A job whose end its warden has to record."""

    async def act(self) -> None:
        await super().act()
        await self.settle()


class Adopted(Running):
    """A running job that a new service finds."""

    is_restart = True

    async def prepare(self) -> None:
        await super().prepare()
        self.site.kill_service()

    async def act(self) -> None:
        self.site.service.spawn()


class Voided(Scenario):
    """A job whose service was killed before anybody could start it, so that the next one voids its gate."""

    is_restart = True

    async def prepare(self) -> None:
        self.site.arm("launch.prepared")
        submitting = self.site.in_background(self.site.submit(self.plan))
        await self.site.reached("launch.prepared")
        self.site.kill_service()
        await submitting

    async def act(self) -> None:
        self.site.service.spawn()


@dataclass(frozen=True, slots=True)
class Case:
    """A step, a scenario that reaches it, and who is killed while the process that reached it stands still."""

    step: str
    scenario: type[Scenario]
    victims: frozenset[Role]

    def __str__(self) -> str:
        victims = "+".join(role for role in Role if role in self.victims)
        return f"{self.step}-{self.scenario.__name__}-{victims}"


def _of(prefix: str) -> tuple[str, ...]:
    return tuple(step for step in fault.STEPS if step.startswith(prefix))


_SERVICE, _KEEPER, _WARDEN = Role.SERVICE, Role.KEEPER, Role.WARDEN

# Who reaches each step, and how: the first scenario in the short form, all of them in the long one.
_WAYS: tuple[tuple[Role, tuple[str, ...], tuple[type[Scenario], ...]], ...] = (
    (_SERVICE, _of("submissions.insert:"), (Ordinary,)),
    (_SERVICE, _of("claims.claim:"), (Ordinary, Repeated)),
    (_SERVICE, _of("attempts.start:"), (Lasting,)),
    (_SERVICE, _of("attempts.finish:"), (Ordinary, Repeated, Lasting)),
    (_SERVICE, _of("jobs.cancel:"), (Cancelled, CancelledEarly)),
    (_SERVICE, _of("jobs.retry:"), (RunAgain,)),
    (_SERVICE, _of("jobs.pause:"), (Paused,)),
    (_SERVICE, _of("attempts.turn:"), (Paused, Resumed)),
    (_SERVICE, _of("waiting.promote_due:"), (Due, Repeated)),
    (_SERVICE, _of("ownership.adopt:"), (Adopted, Voided)),
    (_SERVICE, _of("dispatchers.register:"), (Adopted,)),
    (_SERVICE, _of("control."), (Ordinary,)),
    (_SERVICE, _of("launch."), (Ordinary, Crowded, Limited)),
    (_SERVICE, ("cancel.voided",), (Cancelled,)),
    (_SERVICE, ("recovery.looked",), (Adopted, Voided)),
    (_SERVICE, ("pursuit.attached",), (Adopted, Bereaved)),
    (_KEEPER, _of("gate."), (Ordinary,)),
    (_SERVICE, _of("gate."), (Voided,)),
    (_KEEPER, ("keeper.assigned", "keeper.reserved", "keeper.opened"), (Ordinary, Limited)),
    (_KEEPER, ("keeper.passed",), (Ordinary, Limited, Impossible)),
    (_KEEPER, ("keeper.spawned", "keeper.noted"), (Lasting, Limited, Ordinary)),
    (_KEEPER, ("keeper.told_start",), (Lasting, Limited)),
    (_KEEPER, ("hold.stopping",), (Paused,)),
    (_KEEPER, ("hold.continuing",), (Resumed,)),
    (_KEEPER, ("hold.pressed",), (Cancelled, StubbornlyCancelled, Limited)),
    (_KEEPER, ("hold.left", "hold.reaped"), (Ordinary, Lasting, Untidy)),
    (_KEEPER, ("hold.emptying",), (Untidy,)),
    (_KEEPER, _of("exit."), (Ordinary, Impossible, Untidy)),
    (_WARDEN, _of("exit."), (Inherited,)),
    (_KEEPER, ("keeper.told_end",), (Ordinary, Lasting)),
    (_WARDEN, ("warden.forked",), (Crowded,)),
    (_WARDEN, ("warden.bereaved", "warden.took_over"), (Bereaved,)),
)  # fmt: skip
_TOGETHER = (frozenset({_SERVICE, _KEEPER}), frozenset({_KEEPER, _WARDEN}), frozenset(Role))


def all_cases() -> list[Case]:
    """Every step by every way to it, with each victim alone and the victims that may die together."""
    victims = [*(frozenset({role}) for role in Role), *_TOGETHER]
    found = [
        Case(step, scenario, who)
        for _, steps, scenarios in _WAYS
        for step in steps
        for scenario in scenarios
        for who in victims
    ]
    return list(dict.fromkeys(found))


def short_cases() -> list[Case]:
    """Every step by its first way, with the process that reaches it as the victim, and with the service."""
    seen: Mapping[str, tuple[Role, type[Scenario]]] = {
        step: (role, scenarios[0]) for role, steps, scenarios in reversed(_WAYS) for step in steps
    }
    return [
        Case(step, seen[step][1], frozenset({victim}))
        for step in fault.STEPS
        if step in seen
        for victim in dict.fromkeys((seen[step][0], _SERVICE))
    ]

"""Every fault point, every victim: kill there, go on, and judge. `--long` runs all ways to each step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import pytest_asyncio

from jobmgr import fault
from tests.crash.holder import Role
from tests.crash.judgement import judge
from tests.crash.scenario import Case, Scenario, all_cases, short_cases
from tests.crash.site import Site
from tests.patience import eventually

_SHORT = short_cases()
_LONG = [case for case in all_cases() if case not in _SHORT]
# PostgreSQL runs the same code but for a few lines, so its short form takes every third case.
_SHORT_ON = {"sqlite": _SHORT, "postgresql": _SHORT[::3]}


def _parameters() -> list[object]:
    found: list[object] = []
    for kind, short in _SHORT_ON.items():
        found += [pytest.param(kind, case, id=f"{kind}-{case}") for case in short]
        found += [
            pytest.param(kind, case, id=f"{kind}-{case}", marks=pytest.mark.slow)
            for case in [*_SHORT, *_LONG]
            if case not in short
        ]
    return found


def test_every_step_has_a_scenario() -> None:
    assert {case.step for case in _SHORT} == set(fault.STEPS)


@pytest.fixture
def found_site(kind: str, standing_site: Callable[[str], Site]) -> Site:
    """A site as the case before left it, or a new one; without a loop, because a template may have to be made."""
    return standing_site(kind)


@pytest_asyncio.fixture
async def site(found_site: Site) -> Site:
    """A site whose service runs and has a keeper waiting."""
    site = found_site
    site.disarm()
    if not site.service.is_running:
        await site.service.start()
    if not site.holders()[Role.KEEPER]:
        warm = site.ledger.ending(site.next_id("warm"), exit_code=0)
        assert await site.submit(warm)
        await site.until(warm, "completed")
    return site


@pytest.mark.parametrize(("kind", "case"), _parameters())
async def test_a_kill_at_any_step_breaks_no_promise(site: Site, case: Case) -> None:
    scenario = case.scenario(site, f"{case.scenario.__name__.lower()}")
    await scenario.prepare()

    site.arm(case.step)
    acting = site.in_background(scenario.act())
    await _kill_at(site, case, scenario)
    await acting
    if not site.service.is_running:
        await site.service.start()
    await site.service.answers()
    await scenario.settle()
    if scenario.plan.job_id in await site.stored():
        await site.until(scenario.plan, "completed", "failed", "cancelled")

    verdict = await judge(site)
    assert verdict.breaches == []


async def _kill_at(site: Site, case: Case, scenario: Scenario) -> None:
    """Kill the victims while the process that reaches the step stands there; it goes on if it is none of them."""
    reached = await site.reached(case.step)
    role = site.role_of(reached)
    for victim in sorted(case.victims, key=lambda one: one is role):
        if victim is Role.SERVICE:
            site.kill_service()
        else:
            site.kill(victim, [reached] if role is victim else site.holders()[victim])
    site.let_go_on(reached)
    if case.victims - {Role.SERVICE}:
        await eventually(lambda: not site.are_dying())

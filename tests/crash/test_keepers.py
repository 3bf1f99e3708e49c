"""Keepers are killed, all at the same instant, and nobody else: nothing may be lost, because their warden lives."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.executors import process
from jobmgr.executors.process import ProcessStat
from tests.crash.chaos import SLOTS, Campaign, Order
from tests.crash.holder import Role
from tests.crash.judgement import judge
from tests.crash.ledger import Ledger, Plan
from tests.crash.site import Site

# Where each keeper stands when it is killed, and what it has to run.
_STANDING: tuple[tuple[str, Callable[[Ledger, str], Plan]], ...] = (
    ("keeper.passed", lambda ledger, job_id: ledger.ending(job_id, 3)),
    ("keeper.spawned", lambda ledger, job_id: ledger.ending(job_id, 4)),
    ("keeper.spawned", lambda ledger, job_id: ledger.ending(job_id, 5, kind="daemon")),
    ("keeper.spawned", lambda ledger, job_id: ledger.dying(job_id)),
    ("keeper.spawned", lambda ledger, job_id: ledger.ending(job_id, 6, duration_s=0.5)),
    ("keeper.noted", lambda ledger, job_id: ledger.ending(job_id, 7)),
)


@pytest.fixture
def campaign_site(new_database: Callable[[str], str], tmp_path: Path) -> Site:
    """A site whose service does not run yet."""
    return Site(tmp_path / "site", new_database("sqlite"), slots=SLOTS)


@pytest.fixture
def empty_site(new_database: Callable[[str], str], tmp_path: Path) -> Site:
    """The same with faults; without a loop, because a template may have to be made."""
    return Site(tmp_path / "site", new_database("sqlite"), slots=SLOTS, faults=True)


@pytest_asyncio.fixture
async def site(empty_site: Site) -> AsyncIterator[Site]:
    """A site whose service runs."""
    await empty_site.service.start()
    yield empty_site
    await empty_site.close()


async def _standing(site: Site, step: str, plan: Plan) -> ProcessStat:
    """The keeper of this job, once it stands still at the step."""
    site.arm(step)
    assert await site.submit(plan)
    return await site.reached(step)


async def test_keepers_that_die_at_one_instant_between_gate_and_note_lose_nothing(site: Site) -> None:
    plans = [make(site.ledger, site.next_id("job")) for _, make in _STANDING]
    keepers = [await _standing(site, step, plan) for (step, _), plan in zip(_STANDING, plans, strict=True)]
    wardens = site.holders()[Role.WARDEN]

    process.send_signals(wardens, signal.SIGSTOP)
    site.kill(Role.KEEPER, keepers)
    process.send_signals(wardens, signal.SIGCONT)

    for plan in plans:
        await site.until(plan, "completed", "failed", "cancelled")
    verdict = await judge(site)
    assert verdict.breaches == []
    assert verdict.counts["attempts lost"] == 0
    assert verdict.counts["attempts released"] == 1


@pytest.mark.timeout(600)
async def test_a_storm_of_kills_of_keepers_alone_loses_nothing(campaign_site: Site) -> None:
    order = Order(seed="keepers", jobs=160, kills=24, keepers_alone=True)

    try:
        tally = await Campaign(campaign_site, order).run()
    finally:
        await campaign_site.close()

    print(f"\nseed {order.seed}", *tally.lines(), sep="\n")  # noqa: T201 -- shown by -s, and when it fails
    assert tally.verdict.breaches == []
    assert tally.verdict.counts["attempts lost"] == 0
    assert tally.kills >= order.kills

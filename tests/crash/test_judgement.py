"""The judge is judged: each kind of broken promise, made by hand, is found. Only what is new counts."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
import sqlalchemy as sa

from jobmgr.executors import process
from tests.crash.holder import Role
from tests.crash.judgement import judge
from tests.crash.ledger import Plan
from tests.crash.site import Site


@pytest.fixture
def found_site(standing_site: Callable[[str], Site]) -> Site:
    return standing_site("sqlite")


@pytest_asyncio.fixture
async def site(found_site: Site) -> Site:
    if not found_site.service.is_running:
        await found_site.service.start()
    return found_site


@pytest_asyncio.fixture
async def ended(site: Site) -> Plan:
    """A job that has failed with exit code 3, as it should."""
    plan = site.ledger.ending(site.next_id("ended"), exit_code=3)
    assert await site.submit(plan)
    await site.until(plan, "failed")
    return plan


@pytest_asyncio.fixture
async def running(site: Site) -> AsyncIterator[Plan]:
    """A job that runs until the test is over."""
    plan = site.ledger.waiting(site.next_id("running"), exit_code=0)
    assert await site.submit(plan)
    await site.until(plan, "running")
    await site.signed(plan)
    yield plan
    site.ledger.let_go(plan.job_id)
    await site.until(plan, "completed", "cancelled")


@pytest_asyncio.fixture
async def before(site: Site, ended: Plan) -> frozenset[str]:
    """What the tests before have broken."""
    return frozenset((await judge(site)).breaches)


async def _new(site: Site, before: frozenset[str]) -> str:
    return "\n".join(breach for breach in (await judge(site)).breaches if breach not in before)


def _falsify(site: Site, statement: str, plan: Plan) -> None:
    engine = sa.create_engine(site.database)
    with engine.begin() as connection:
        connection.execute(sa.text(statement), {"job_id": plan.job_id})
    engine.dispose()


OF_JOB = "job = (SELECT id FROM jobs WHERE job_id = :job_id)"


async def test_an_honest_job_is_acquitted(site: Site, ended: Plan) -> None:
    assert [breach for breach in (await judge(site)).breaches if ended.job_id in breach] == []


async def test_a_second_start_is_found(site: Site, ended: Plan, before: frozenset[str]) -> None:
    site.ledger.path.write_text(site.ledger.path.read_text() * 2)

    assert "was started 2 times" in await _new(site, before)


async def test_a_start_that_nobody_signed_is_found(site: Site, ended: Plan, before: frozenset[str]) -> None:
    lines = site.ledger.path.read_text().splitlines(keepends=True)
    site.ledger.path.write_text("".join(line for line in lines if not line.startswith(f"{ended.job_id} ")))

    assert f"attempt 1 of {ended.job_id} (failed): its command was started 0 times" in await _new(
        site, before
    )


async def test_a_start_without_a_row_is_found(site: Site, ended: Plan, before: frozenset[str]) -> None:
    with site.ledger.path.open("a") as file:
        file.write(f"{ended.job_id} 2 sometoken\n")

    assert "is no attempt of the database" in await _new(site, before)


async def test_a_wrong_exit_code_is_found(site: Site, ended: Plan, before: frozenset[str]) -> None:
    _falsify(site, f"UPDATE attempts SET exit_code = 4 WHERE {OF_JOB}", ended)

    breaches = await _new(site, before)
    assert "its exit record says 3" in breaches
    assert "should end with exit code 3" in breaches


async def test_a_job_that_was_answered_and_is_gone_is_found(
    site: Site, ended: Plan, before: frozenset[str]
) -> None:
    _falsify(site, "DELETE FROM jobs WHERE job_id = :job_id", ended)

    assert f"job {ended.job_id} was answered and is not stored" in await _new(site, before)


async def test_a_loss_for_which_nobody_was_killed_is_found(
    site: Site, ended: Plan, before: frozenset[str]
) -> None:
    (site.work / "control" / ended.job_id / "1" / "exit").unlink()
    _falsify(site, f"UPDATE attempts SET outcome = 'lost', exit_code = NULL WHERE {OF_JOB}", ended)

    assert "was given up, with (keeper, warden) killed: [False, False]" in await _new(site, before)


async def test_a_second_end_is_found(site: Site, ended: Plan, before: frozenset[str]) -> None:
    columns = "at, kind, job, job_id, user, data"
    again = f"INSERT INTO events ({columns}, v) SELECT {columns}, v + 1 FROM events WHERE kind = 'failed'"
    _falsify(site, f"{again} AND job_id = :job_id", ended)

    assert "for the second time" in await _new(site, before)


async def test_a_wrong_tally_is_found(site: Site, ended: Plan, before: frozenset[str]) -> None:
    _falsify(site, "UPDATE queues SET queued = queued + 1 WHERE :job_id != ''", ended)

    assert "says 1 queued, there are 0" in await _new(site, before)


async def test_a_control_directory_without_a_row_is_found(
    site: Site, ended: Plan, before: frozenset[str]
) -> None:
    (site.work / "control" / ended.job_id / "2").mkdir()

    assert "belongs to no attempt" in await _new(site, before)


async def test_a_job_that_has_not_ended_and_its_process_are_found(
    site: Site, before: frozenset[str], running: Plan
) -> None:
    breaches = await _new(site, before)

    assert "still runs" in breaches
    assert f"attempt 1 of {running.job_id} (None): has no end" in breaches
    assert f"job {running.job_id} (running): has not ended" in breaches


async def test_a_cancel_that_nobody_asked_for_is_found(
    site: Site, before: frozenset[str], running: Plan
) -> None:
    await site.cancel(running)
    await site.until(running, "cancelled")
    running.cancel_asked = False

    assert "nobody asked for it" in await _new(site, before)


async def test_a_traceback_in_a_log_is_found(site: Site, before: frozenset[str]) -> None:
    with site.service.log.open("a") as log:
        log.write("Traceback (most recent call last):\n")

    assert "service.log has a Traceback" in await _new(site, before)


async def test_a_service_that_ended_by_itself_is_found(site: Site, before: frozenset[str]) -> None:
    process.send_signals([site.service.stat], signal.SIGKILL)  # not by the site, so it does not know
    site.service.wait()
    await site.service.start()

    assert "the service ended by itself, with -9" in await _new(site, before)


async def test_holders_are_told_apart(site: Site, running: Plan) -> None:
    keeper, holders = await site.keeper_of(running), site.holders()

    assert keeper.pid in [stat.pid for stat in holders[Role.KEEPER]]
    assert keeper.parent in [stat.pid for stat in holders[Role.WARDEN]]
    assert not {*holders[Role.KEEPER]} & {*holders[Role.WARDEN]}

"""Several services on one PostgreSQL: who runs what, who inherits from whom, and what nobody may do."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobmgr.domain.job import Attempt, Job
from jobmgr.domain.status import Status
from jobmgr.errors import IllegalTransition
from tests.ledger import most_at_once, signatures, signing, span_of, spanning
from tests.node import Node, needs_other_machines
from tests.patience import eventually

MakeNode = Callable[..., Node]


async def job_of(node: Node, job_id: str) -> Job:
    async with node.client as client:
        return await client.get(job_id)


async def attempt_of(node: Node, job_id: str) -> Attempt:
    async with node.client as client:
        return (await client.attempts(job_id))[-1]


async def is_running(node: Node, job_id: str) -> bool:
    return (await job_of(node, job_id)).status is Status.RUNNING


async def ended(node: Node, job_id: str) -> Job:
    async with node.client as client:
        return await client.wait(job_id, timeout_s=60)


async def submit(node: Node, command: list[str], **fields: Any) -> str:
    async with node.client as client:
        return await client.submit(command, **fields)


async def has_taken_over(node: Node, job_id: str, former: str) -> bool:
    return (await attempt_of(node, job_id)).dispatcher != former


def has_let_go(node: Node) -> bool:
    """Whether the service has noticed that an attempt is somebody else's: by looking, or by a refused write."""
    return "is not ours any more" in node.log or "is another dispatcher's now" in node.log


async def unreachable_since(node: Node, job_id: str) -> object:
    return (await attempt_of(node, job_id)).unreachable_at


async def test_two_services_share_the_work_and_overshoot_no_limit(node: MakeNode, tmp_path: Path) -> None:
    first, second = node("a", slots=4), node("b", slots=4)
    await first.start()
    await second.start()
    async with first.client as client:
        await client.update_queue("narrow", max_running=3)
        jobs = [{"command": spanning(0.05), "queue": "narrow"} for _ in range(30)]
        wide = [{"command": signing(tmp_path / "ledger")} for _ in range(60)]
        job_ids = await client.submit_many([*jobs, *wide])
        done = await client.wait_many(job_ids, timeout_s=100)
        by = Counter([(await client.attempts(job.job_id))[0].dispatcher for job in done])

    assert {(job.status, job.attempt) for job in done} == {(Status.COMPLETED, 1)}
    assert most_at_once([span_of(job) for job in done[:30]]) <= 3
    assert sorted(signatures(tmp_path / "ledger")) == sorted(job_ids[30:])
    assert len(by) == 2


async def test_stalled_service_loses_what_it_runs_and_writes_nothing_more_about_it(
    node: MakeNode, tmp_path: Path
) -> None:
    first, second = node("a"), node("b")
    await first.start()
    go = tmp_path / "go"
    command = ["sh", "-c", 'while [ ! -e "$0" ]; do sleep 0.02; done; exit 3', str(go)]
    job_id = await submit(first, command)
    await eventually(lambda: is_running(first, job_id))
    before = await attempt_of(first, job_id)
    await second.start()

    first.stall()
    await eventually(lambda: has_taken_over(second, job_id, before.dispatcher))
    first.wake()
    await eventually(lambda: has_let_go(first))
    go.touch()
    job = await ended(second, job_id)

    after = await attempt_of(second, job_id)
    assert (job.status, job.exit_code, job.attempt) == (Status.FAILED, 3, 1)
    assert (after.started_at, after.number) == (before.started_at, 1)
    later = await ended(first, await submit(first, ["true"]))
    assert later.status is Status.COMPLETED


async def test_claim_of_a_stalled_service_is_released_and_never_started_by_it(
    node: MakeNode, tmp_path: Path
) -> None:
    ledger, faults = tmp_path / "ledger", tmp_path / "faults"
    faults.mkdir()
    first, second = node("a", env={"JOBMGR_FAULTS": str(faults)}), node("b")
    await first.start()
    (faults / "launch.prepared").touch()

    job_id = "claimed"
    # The stall may come before the answer.
    asked = asyncio.create_task(submit(first, signing(ledger), job_id=job_id))
    await eventually(lambda: not (faults / "launch.prepared").exists())
    await second.start()
    job = await ended(second, job_id)
    first.wake()
    await eventually(lambda: has_let_go(first))
    await asked
    later = await ended(first, await submit(first, signing(ledger)))

    async with second.client as client:
        attempts = await client.attempts(job_id)
    assert [attempt.outcome for attempt in attempts] == ["released", "completed"]
    assert signatures(ledger) == [job_id, later.job_id]
    assert (job.status, later.status) == (Status.COMPLETED, Status.COMPLETED)


async def test_killed_service_is_inherited_from_by_another_of_the_same_machine(
    node: MakeNode, tmp_path: Path
) -> None:
    first, second = node("a"), node("b")
    await first.start()
    job_id = await submit(first, ["sh", "-c", "sleep 1; exit 5"])
    await eventually(lambda: is_running(first, job_id))
    await second.start()

    first.kill()
    job = await ended(second, job_id)

    assert (job.status, job.exit_code, job.attempt) == (Status.FAILED, 5, 1)


async def test_vanished_machine_stays_visible_until_the_user_decides(node: MakeNode, tmp_path: Path) -> None:
    needs_other_machines()
    ledger = tmp_path / "ledger"
    first, second = node("a"), node("b")
    await first.start(boot_id="boot-of-a", host="machine-a")
    job_id = await submit(first, signing(ledger, 60), on_lost="retry", retry={"max_attempts": 5})
    await eventually(lambda: is_running(first, job_id))
    await second.start()

    await first.vanish()
    await eventually(lambda: unreachable_since(second, job_id))

    async with second.client as client:
        why = [reason.code for reason in await client.why(job_id)]
        with pytest.raises(IllegalTransition):
            await client.retry(job_id)
        seen = await client.get(job_id)
        retried = await client.retry(job_id, assume_dead=True)
        await eventually(lambda: is_running(second, job_id))
        events = await client.events(job_id)
        await client.cancel(job_id)
        await client.wait(job_id, timeout_s=30)
        attempts = await client.attempts(job_id)
    assert why == ["unreachable"]
    assert seen.status is Status.RUNNING
    assert retried.status in (Status.PENDING, Status.QUEUED, Status.CLAIMED)
    assert [attempt.outcome for attempt in attempts] == ["lost", "cancelled"]
    (said,) = [event for event in events if event.kind == "assumed_dead"]
    assert said.data["by"]
    assert signatures(ledger) == [job_id, job_id]


async def test_machine_that_returns_takes_up_what_it_runs(node: MakeNode, tmp_path: Path) -> None:
    needs_other_machines()
    first, second = node("a"), node("b")
    go = tmp_path / "go"
    command = ["sh", "-c", 'while [ ! -e "$0" ]; do sleep 0.02; done; exit 3', str(go)]
    await first.start(boot_id="boot-of-a", host="machine-a")
    job_id = await submit(first, command)
    await eventually(lambda: is_running(first, job_id))
    await second.start()
    first.kill()
    await eventually(lambda: unreachable_since(second, job_id))

    await first.start(boot_id="boot-of-a", host="machine-a")

    async def is_reached() -> bool:
        return await unreachable_since(second, job_id) is None

    await eventually(is_reached)
    go.touch()
    job = await ended(second, job_id)
    assert (job.status, job.exit_code, job.attempt) == (Status.FAILED, 3, 1)


async def test_machine_that_only_slept_is_reachable_again(node: MakeNode, tmp_path: Path) -> None:
    needs_other_machines()
    first, second = node("a"), node("b")
    go = tmp_path / "go"
    command = ["sh", "-c", 'while [ ! -e "$0" ]; do sleep 0.02; done; exit 3', str(go)]
    await first.start(boot_id="boot-of-a", host="machine-a")
    job_id = await submit(first, command)
    await eventually(lambda: is_running(first, job_id))
    await second.start()
    first.stall()
    await eventually(lambda: unreachable_since(second, job_id))
    dispatcher = (await attempt_of(second, job_id)).dispatcher

    first.wake()

    async def is_reached() -> bool:
        return await unreachable_since(second, job_id) is None

    await eventually(is_reached)
    go.touch()
    job = await ended(second, job_id)
    assert (job.status, job.exit_code) == (Status.FAILED, 3)
    assert (await attempt_of(second, job_id)).dispatcher == dispatcher


@pytest.mark.parametrize(("on_lost", "lines"), [("fail", 1), ("retry", 2)])
async def test_restart_of_the_machine_loses_what_ran(
    node: MakeNode, tmp_path: Path, on_lost: str, lines: int
) -> None:
    needs_other_machines()
    ledger = tmp_path / "ledger"
    first = node("a")
    await first.start(boot_id="boot-1", host="machine-a")
    retry = {"max_attempts": 2, "backoff": 0}
    job_id = await submit(first, signing(ledger, 1.0), on_lost=on_lost, retry=retry)
    await eventually(lambda: is_running(first, job_id))
    await eventually(lambda: signatures(ledger))
    await first.vanish()

    await first.start(boot_id="boot-2", host="machine-a")
    job = await ended(first, job_id)

    async with first.client as client:
        attempts = await client.attempts(job_id)
    assert signatures(ledger) == [job_id] * lines
    assert attempts[0].outcome == "lost"
    assert attempts[0].error is not None
    assert "restarted" in attempts[0].error.message
    assert job.status is (Status.FAILED if on_lost == "fail" else Status.COMPLETED)


async def test_wrong_and_jumping_clocks_change_nothing_about_ownership(
    node: MakeNode, tmp_path: Path
) -> None:
    clock = WrongClock(tmp_path)
    clock.set(-400 * 86_400)
    ledger, go = tmp_path / "ledger", tmp_path / "go"
    script = 'echo "$JOBMGR_JOB_ID" >> "$0"; while [ ! -e "$1" ]; do sleep 0.02; done'
    right, wrong = node("right", slots=1), node("wrong", env=clock.env, slots=1)
    await right.start()
    await wrong.start()
    job_ids = [await submit(right, ["sh", "-c", script, str(ledger), str(go)]) for _ in range(2)]
    await eventually(lambda: sorted(signatures(ledger)) == sorted(job_ids))
    holders = [(await attempt_of(right, job_id)).dispatcher for job_id in job_ids]

    for days in (400, -400, 3650, -1, 0):
        clock.set(days * 86_400)
        # Longer than a silence that would be noticed.
        await asyncio.sleep(1.2)
    after = [(await attempt_of(right, job_id)).dispatcher for job_id in job_ids]
    go.touch()
    done = [await ended(right, job_id) for job_id in job_ids]

    assert len(set(holders)) == 2
    assert after == holders
    assert sorted(signatures(ledger)) == sorted(job_ids)
    assert {(job.status, job.attempt) for job in done} == {(Status.COMPLETED, 1)}


class WrongClock:
    """A wall clock for processes of the test, which can be set while they run."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("needs a C compiler, to make the wrong clock")
        library = folder / "clock.so"
        source = Path(__file__).parent / "clock.c"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
        self._file = folder / "shift"
        self.set(0)
        self.env = {"LD_PRELOAD": str(library), "WRONG_CLOCK": str(self._file)}

    def set(self, shift_s: int) -> None:
        """From now on the clock is wrong by this."""
        with self._file.open("r+b" if self._file.exists() else "w+b") as file:
            file.write(struct.pack("=q", shift_s))

"""Several services at one foreign queue: who hands in what, who inherits it, and who has to leave it alone."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from jobmgr.domain.status import Status
from jobmgr.executors import gate
from tests import pretenders
from tests.ledger import signatures
from tests.node import Node, needs_other_machines
from tests.patience import eventually
from tests.service.test_several import (
    MakeNode,
    attempt_of,
    ended,
    has_taken_over,
    is_running,
    submit,
    unreachable_since,
)

Environment = dict[str, str]


class Errand:
    """A command that signs a ledger and then waits until it may end."""

    def __init__(self, folder: Path) -> None:
        self.ledger = folder / "ledger"
        self.go = folder / "go"
        script = 'echo "$JOBMGR_JOB_ID" >> "$0"; while [ ! -e "$1" ]; do sleep 0.02; done; exit 3'
        self.command = ["sh", "-c", script, str(self.ledger), str(self.go)]


@pytest.fixture
def errand(tmp_path: Path) -> Iterator[Errand]:
    errand = Errand(tmp_path)
    yield errand
    errand.go.touch()


@pytest.fixture
def scheduler(tmp_path: Path) -> Environment:
    """What lets services see a scheduler that is pretended."""
    programs = pretenders.install(tmp_path / "scheduler", "openpbs", "history")
    return {"PATH": f"{programs}:{os.environ['PATH']}"}


async def put_site(node: Node, work_dir: Path, **fields: int) -> None:
    """The queue of the scheduler that both see, with everything that is needed there."""
    async with node.client as client:
        await client.put_site("lab", kind="pbs", work_dir=str(work_dir), **fields)
        trial = await client.try_site("lab")
    assert trial.is_well, trial


async def trouble(node: Node) -> str | None:
    async with node.client as client:
        (site,) = [site for site in await client.sites() if site.name == "lab"]
    return site.trouble


async def is_served(node: Node) -> bool:
    return await trouble(node) is None


async def why(node: Node, job_id: str) -> str:
    async with node.client as client:
        reason = (await client.why(job_id))[0]
    return f"{reason.code}: {reason.message}"


async def test_what_a_killed_service_had_handed_in_is_watched_to_its_end_by_another(
    node: MakeNode, scheduler: Environment, tmp_path: Path, errand: Errand
) -> None:
    first, second = node("a", env=scheduler), node("b", env=scheduler)
    await first.start()
    await put_site(first, tmp_path / "site")
    job_id = await submit(first, errand.command, site="lab")
    await eventually(lambda: is_running(first, job_id))
    former = (await attempt_of(first, job_id)).dispatcher
    await second.start()

    first.kill()
    await eventually(lambda: has_taken_over(second, job_id, former))
    errand.go.touch()
    job = await ended(second, job_id)

    assert (job.status, job.exit_code, job.attempt) == (Status.FAILED, 3, 1)
    assert signatures(errand.ledger) == [job_id]


async def test_service_that_sees_another_directory_leaves_a_site_alone_until_it_sees_the_right_one(
    node: MakeNode, scheduler: Environment, tmp_path: Path, errand: Errand
) -> None:
    needs_other_machines()
    site, other = tmp_path / "site", tmp_path / "other"
    name = gate.make_roots(str(other))
    mounted = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    wrapper = ["unshare", "-m", "sh", "-c", mounted, "sh", str(other), str(site)]
    first, second = node("a", env=scheduler), node("b", env=scheduler, wrapper=wrapper)
    await first.start()
    await put_site(first, site, max_submitted=1)
    await second.start()
    # Nobody hears that it was taken, so no handle is stored: only the directory tells that it was handed in.
    stutter = tmp_path / "scheduler" / "stutter"
    stutter.touch()
    running = await submit(first, errand.command, site="lab")
    await eventually(lambda: signatures(errand.ledger))
    stutter.unlink()
    queued = await submit(first, errand.command, site="lab")
    before = await attempt_of(first, running)

    first.kill()
    await eventually(lambda: unreachable_since(second, running))

    assert (await attempt_of(second, running)).dispatcher == before.dispatcher
    for said in (await why(second, running), await why(second, queued), str(await trouble(second))):
        assert f"{site} is another directory ({name})" in said
    assert (await why(second, running)).startswith("unreachable: ")
    assert (await why(second, queued)).startswith("host_limit: ")
    assert list((other / "control").iterdir()) == []

    unmount = ["nsenter", "-t", str(second.pid), "-m", "umount", "-l", str(site)]
    subprocess.run(unmount, check=True)  # noqa: ASYNC221 -- a moment
    async with second.client as client:
        assert (await client.try_site("lab")).is_well
    errand.go.touch()
    jobs = [await ended(second, job_id) for job_id in (running, queued)]

    assert [(job.status, job.exit_code, job.attempt) for job in jobs] == [(Status.FAILED, 3, 1)] * 2
    assert (await attempt_of(second, running)).token == before.token
    assert signatures(errand.ledger) == [running, queued]
    assert await is_served(second)


async def test_each_service_tells_why_a_scheduler_lets_a_job_wait(
    node: MakeNode, scheduler: Environment, tmp_path: Path, errand: Errand
) -> None:
    first, second = node("a", env=scheduler), node("b", env=scheduler)
    await first.start()
    await put_site(first, tmp_path / "site")
    await second.start()
    await eventually(lambda: is_served(second))
    job_id = await submit(first, errand.command, site="lab", resources={"partition": "stopq"})

    for each in (first, second):

        async def explains(each: Node = each) -> bool:
            return "Queue not started" in await why(each, job_id)

        await eventually(explains)

    async with second.client as client:
        await client.cancel(job_id)
    assert (await ended(second, job_id)).status is Status.CANCELLED


async def test_services_share_a_site_and_do_not_overshoot_its_limit(
    node: MakeNode, scheduler: Environment, tmp_path: Path, errand: Errand
) -> None:
    first, second = node("a", env=scheduler), node("b", env=scheduler)
    await first.start()
    await put_site(first, tmp_path / "site", max_submitted=4)
    await second.start()
    await eventually(lambda: is_served(second))
    job_ids = [await submit(first, errand.command, site="lab") for _ in range(3)]
    await eventually(partial(is_running, first, job_ids[2]))

    job_ids += [await submit(second, errand.command, site="lab") for _ in range(3)]

    for job_id in job_ids[:4]:
        await eventually(partial(is_running, second, job_id))
    assert [await why(each, job_ids[5]) for each in (first, second)] == [
        "slots: the site lab has 4 slots, all in use"
    ] * 2
    async with second.client as client:
        jobs = [await client.get(job_id) for job_id in job_ids]
        assert Counter(job.status for job in jobs) == {Status.RUNNING: 4, Status.QUEUED: 2}
    errand.go.touch()
    ends = [await ended(second, job_id) for job_id in job_ids]
    assert {(job.exit_code, job.attempt) for job in ends} == {(3, 1)}
    assert sorted(signatures(errand.ledger)) == sorted(job_ids)

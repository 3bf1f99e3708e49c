"""Hold, release and priority of jobs that wait in a real SLURM: wishes in the database that the service passes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from jobmgr.domain.status import Status
from jobmgr.service import JobManager, ResourceLimits
from jobmgr.store import jobs, sites
from jobmgr.store.engine import Batch, Database
from jobmgr.store.jobs import Change
from jobmgr.wire.requests import SiteAsked
from tests.patience import eventually
from tests.slurm import Slurm

pytestmark = pytest.mark.timeout(180)

# A partition that is down: what is handed in waits there until it is moved.
_WAITING = {"memory": "10MB", "partition": "shut"}
# As somebody else, who may not.
REFUSES = 'exec setpriv --reuid=65534 --clear-groups "$real" "$@"'


class Lab:
    """A cluster, a database, and services one after the other; faults may stand before the cluster's programs."""

    def __init__(self, slurm: Slurm, database_url: str, folder: Path) -> None:
        self.slurm = slurm
        self.database_url = database_url
        self.work = folder / "work"
        self.faults = folder / "faults"
        self.faults.mkdir()

    def service(self) -> JobManager:
        return JobManager(
            ResourceLimits(max_concurrent_jobs=2), database=self.database_url, work_dir=self.work
        )

    async def between(self, batch: Batch[Any, Any], item: object) -> None:
        """Write while no service runs."""
        database = Database(self.database_url)
        await database.start()
        await database.write(batch, item)
        await database.close()

    def fault(self, program: str, script: str) -> None:
        path = self.faults / program
        path.write_text(f"#!/bin/sh\nreal={self.slurm.programs}/{program}\n{script}\n")
        path.chmod(0o755)

    async def submitted(self, manager: JobManager, **fields: Any) -> str:
        """A job that waits in the cluster."""
        await manager.put_site("lab", SiteAsked(kind="slurm"))
        job_id = await manager.submit(["sh", "-c", "exit 3"], site="lab", resources=_WAITING, **fields)
        await eventually(lambda: is_now(manager, job_id, Status.SCHEDULED), timeout_s=60)
        return job_id

    async def shows(self, handle: str | None, *words: str) -> None:
        """Wait until the cluster says this of a job."""

        async def is_so() -> bool:
            said = await asyncio.to_thread(self.slurm.say, "scontrol", "-o", "show", "job", str(handle))
            return set(words) <= set(said.split())

        await eventually(is_so, timeout_s=60)

    async def let_run(self, manager: JobManager, job_id: str) -> None:
        """Move it to where it starts, and see that it ran."""
        handle = (await manager.get(job_id)).handle
        self.slurm.say("scontrol", "update", f"jobid={handle}", "partition=debug")
        job = await manager.wait(job_id, 100)
        assert (job.exit_code, job.attempt, job.held_at) == (3, 1, None)


@pytest_asyncio.fixture
async def lab(
    slurm: Slurm, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Lab]:
    lab = Lab(slurm, database_url, tmp_path)
    monkeypatch.setenv("PATH", f"{lab.faults}:{slurm.environment['PATH']}")
    yield lab
    slurm.run(["scancel", "--me"])


async def is_now(manager: JobManager, job_id: str, status: Status) -> bool:
    return (await manager.get(job_id)).status is status


async def has_event(manager: JobManager, job_id: str, kind: str) -> bool:
    return kind in [event.kind for event in await manager.job_events(job_id)]


async def reasons(manager: JobManager, job_id: str) -> dict[str, str]:
    return {reason.code: reason.message for reason in await manager.why(job_id)}


def said(manager: JobManager, job_id: str, code: str, words: str) -> Callable[[], Any]:
    async def is_said() -> bool:
        return words in (await reasons(manager, job_id)).get(code, "")

    return is_said


async def test_held_job_stays_in_the_clusters_queue_until_it_is_released(lab: Lab) -> None:
    async with lab.service() as manager:
        job_id = await lab.submitted(manager, priority=-7)
        handle = (await manager.get(job_id)).handle
        await lab.shows(handle, "Nice=7")

        held = await manager.hold(job_id)
        await lab.shows(handle, "Reason=JobHeldAdmin")
        await eventually(lambda: has_event(manager, job_id, "held"))
        await eventually(said(manager, job_id, "held", "JobHeldAdmin"), timeout_s=60)
        why = await reasons(manager, job_id)
        await manager.set_priority(job_id, -20)
        # To SLURM it would mean a release.
        await eventually(said(manager, job_id, "not_told", "when it is released"))
        await lab.shows(handle, "Nice=7", "Priority=0")
        await manager.release(job_id)
        await lab.shows(handle, "Nice=20")
        await eventually(lambda: has_event(manager, job_id, "unheld"))
        await eventually(said(manager, job_id, "scheduled", "PartitionDown"), timeout_s=60)

        assert (held.status, held.held_at is not None) == (Status.SCHEDULED, True)
        assert set(why) == {"held"}
        await lab.let_run(manager, job_id)


async def test_wishes_made_while_no_service_runs_are_passed_on_by_the_next(lab: Lab) -> None:
    async with lab.service() as manager:
        job_id = await lab.submitted(manager)
        handle = (await manager.get(job_id)).handle
    await lab.between(jobs.update, Change(job_id, {"priority": -9}))
    async with lab.service() as manager:
        await lab.shows(handle, "Nice=9")
        await eventually(lambda: has_event(manager, job_id, "prioritised"))
    await lab.between(jobs.hold, job_id)
    async with lab.service() as manager:
        await lab.shows(handle, "Reason=JobHeldAdmin")
        await eventually(lambda: has_event(manager, job_id, "held"))
    await lab.between(jobs.release, job_id)
    async with lab.service() as manager:
        await eventually(lambda: has_event(manager, job_id, "unheld"), timeout_s=60)
        await lab.shows(handle, "Nice=9")
        await lab.let_run(manager, job_id)


async def test_wish_is_told_again_until_the_cluster_answers(lab: Lab) -> None:
    lab.fault(
        "scontrol",
        'echo "slurm_suspend error: Unable to contact slurm controller (connect failure)" >&2; exit 1',
    )
    async with lab.service() as manager:
        job_id = await lab.submitted(manager)
        await manager.hold(job_id)
        await eventually(said(manager, job_id, "not_taken", "Unable to contact"), timeout_s=60)
        (lab.faults / "scontrol").unlink()
        await eventually(lambda: has_event(manager, job_id, "held"), timeout_s=60)
        await manager.release(job_id)
        await eventually(lambda: has_event(manager, job_id, "unheld"), timeout_s=60)
        await lab.let_run(manager, job_id)


async def test_next_executor_of_a_site_cancels_what_the_last_one_could_not(lab: Lab) -> None:
    lab.fault("scancel", f"touch {lab.faults}/asked; exit 1")
    async with lab.service() as manager:
        await manager.put_site("lab", SiteAsked(kind="slurm"))
        job_id = await manager.submit(["sleep", "600"], site="lab", resources={"memory": "10MB"})
        await eventually(lambda: is_now(manager, job_id, Status.RUNNING), timeout_s=60)
        await manager.cancel(job_id)
        await eventually((lab.faults / "asked").exists, timeout_s=60)

        (there,) = [site for site in await manager.sites() if site.name == "lab"]
        await manager.database.write(sites.put, replace(there, ssh={"port": 1}))
        (lab.faults / "scancel").unlink()

        assert (await manager.wait(job_id, 60)).status is Status.CANCELLED


async def test_refused_wish_is_said_and_hinders_nothing(lab: Lab) -> None:
    lab.fault("scontrol", REFUSES)
    async with lab.service() as manager:
        job_id = await lab.submitted(manager)
        await manager.set_priority(job_id, 5)
        await eventually(said(manager, job_id, "not_taken", "priority 5"), timeout_s=60)

        assert set(await reasons(manager, job_id)) == {"scheduled", "not_taken"}
        await lab.let_run(manager, job_id)

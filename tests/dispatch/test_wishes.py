"""Hold, release and priority of jobs that wait in a real SLURM: wishes in the database that the service passes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jobmgr.domain.status import Status
from jobmgr.service import JobManager
from jobmgr.store import jobs, sites
from jobmgr.store.jobs import Change
from jobmgr.wire.requests import SiteAsked
from tests.dispatch.lab import Lab, is_now
from tests.patience import eventually

pytestmark = pytest.mark.timeout(180)

# As somebody else, who may not.
REFUSES = 'exec setpriv --reuid=65534 --clear-groups "$real" "$@"'


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
        # The installation is asked before anything is handed in.
        '[ "$1" != show ] || exec "$real" "$@"; '
        'echo "slurm_suspend error: Unable to contact slurm controller (connect failure)" >&2; exit 1',
    )
    async with lab.service() as manager:
        job_id = await lab.submitted(manager)
        await manager.hold(job_id)
        await eventually(said(manager, job_id, "not_taken", "it is told again"), timeout_s=60)
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


async def test_what_the_cluster_suspends_is_shown_and_left_alone_until_a_user_resumes_it(lab: Lab) -> None:
    lab.fault("squeue", f'echo >>{lab.faults}/looks; exec "$real" "$@"')
    lab.fault("scontrol", f'echo "$1" >>{lab.faults}/asked; exec "$real" "$@"')
    async with lab.service() as manager:
        job_id = await running(lab, manager)
        handle = str((await manager.get(job_id)).handle)

        lab.slurm.say("scontrol", "suspend", handle)
        await eventually(lambda: is_now(manager, job_id, Status.PAUSED), timeout_s=60)
        await looks(lab, 2)
        why = await reasons(manager, job_id)
        left_alone = asked(lab)
        lab.slurm.say("scontrol", "resume", handle)
        await eventually(lambda: is_now(manager, job_id, Status.RUNNING), timeout_s=60)
        lab.slurm.say("scontrol", "suspend", handle)
        await eventually(lambda: is_now(manager, job_id, Status.PAUSED), timeout_s=60)
        await manager.resume(job_id)
        await eventually(lambda: is_now(manager, job_id, Status.RUNNING), timeout_s=60)

        assert f"lab has suspended attempt 1 ({handle})" in why["paused"]
        assert "resume" not in left_alone
        assert "resume" in asked(lab)
        (lab.faults / "go").touch()
        assert (await manager.wait(job_id, 60)).exit_code == 3


async def test_what_went_on_while_no_service_ran_is_not_paused_any_more(lab: Lab) -> None:
    async with lab.service() as manager:
        job_id = await running(lab, manager)
        handle = str((await manager.get(job_id)).handle)
        lab.slurm.say("scontrol", "suspend", handle)
        await eventually(lambda: is_now(manager, job_id, Status.PAUSED), timeout_s=60)
    lab.slurm.say("scontrol", "resume", handle)
    async with lab.service() as manager:
        await eventually(lambda: is_now(manager, job_id, Status.RUNNING), timeout_s=60)
        (lab.faults / "go").touch()
        assert (await manager.wait(job_id, 60)).exit_code == 3


async def running(lab: Lab, manager: JobManager) -> str:
    """A job that runs until it is told to go."""
    await manager.put_site("lab", SiteAsked(kind="slurm"))
    command = ["sh", "-c", f"while [ ! -e {lab.faults}/go ]; do sleep 0.1; done; exit 3"]
    job_id = await manager.submit(command, site="lab", resources={"memory": "10MB"})
    await eventually(lambda: is_now(manager, job_id, Status.RUNNING), timeout_s=60)
    return job_id


async def looks(lab: Lab, number: int) -> None:
    """Wait until the cluster was looked at so often again."""
    before = (lab.faults / "looks").stat().st_size
    await eventually(lambda: (lab.faults / "looks").stat().st_size >= before + number, timeout_s=60)


def asked(lab: Lab) -> list[str]:
    """What scontrol was asked for by the service."""
    return (lab.faults / "asked").read_text().split()

"""Simulations of a real service: stored once under their ids, run again, listed with their configurations."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from jobmgr.domain.once import Once
from jobmgr.domain.queue import Tally
from jobmgr.domain.status import Status
from jobmgr.errors import (
    InvalidConfig,
    InvalidRequest,
    JobNotFound,
    KeyReused,
    NotASimulation,
    PathNotFound,
    SimulationExists,
)
from jobmgr.hfss import HFSSSimulationConfig, SchedulerType
from jobmgr.service import JobManager
from jobmgr.wire.requests import SiteAsked
from tests.hfss.installed import install
from tests.programs import Programs, become_lsf, become_slurm


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """All the programs that a service finds that is started after this."""
    found = Programs(tmp_path / "programs")
    monkeypatch.setenv("PATH", str(found.directory))
    return found


@pytest.fixture
def config(tmp_path: Path) -> HFSSSimulationConfig:
    """Of a program that writes down its arguments beside its project, and fails without a file `go` there."""
    program = install(tmp_path / "v252", 'echo "$@" >>ran; test -e go\n')
    project = tmp_path / "projects" / "a.aedt"
    project.parent.mkdir()
    project.write_text("")
    return HFSSSimulationConfig(ansys_edt_path=program, project_path=str(project), jobid="J1")


def runs(config: HFSSSimulationConfig) -> list[str]:
    """The command lines of all runs."""
    file = Path(config.project_path).with_name("ran")
    return file.read_text().splitlines() if file.exists() else []


async def test_simulation_runs_and_its_configuration_is_kept(
    manager: JobManager, config: HFSSSimulationConfig
) -> None:
    stored = await manager.simulate(config, priority=-2)
    await manager.wait(stored.job_id, 30)

    found = await manager.simulation("J1")

    assert (stored.job_id, stored.kind, stored.priority) == ("J1", "hfss", -2)
    assert found.config == config
    assert (found.job.status, found.job.exit_code) == (Status.FAILED, 1)
    (line,) = runs(config)
    assert line.startswith("-jobid J1 -machinelist list=localhost:-1:20:90% -ng -monitor -batchoptions")


async def test_same_again_is_nothing_while_it_lives(
    manager: JobManager, config: HFSSSimulationConfig
) -> None:
    await manager.update_queue("default", paused=True)
    first = await manager.simulate(config)

    again = await manager.simulate(config, priority=5)

    assert again == first


async def test_many_at_once_are_one_job(manager: JobManager, config: HFSSSimulationConfig) -> None:
    await manager.update_queue("default", paused=True)

    stored = await asyncio.gather(*(manager.simulate(config) for _ in range(8)))

    assert {(job.job_id, job.v) for job in stored} == {("J1", 1)}
    assert len((await manager.list()).jobs) == 1


async def test_same_again_after_the_end_is_another_attempt(
    manager: JobManager, config: HFSSSimulationConfig
) -> None:
    await manager.simulate(config)
    await manager.wait("J1", 30)
    Path(config.project_path).with_name("go").touch()

    again = await manager.simulate(config, priority=7)
    job = await manager.wait("J1", 30)

    assert again.priority == 7
    assert job.status is Status.COMPLETED
    assert [attempt.outcome for attempt in await manager.attempts("J1")] == ["failed", "completed"]
    assert len(runs(config)) == 2


async def test_what_runs_again_is_in_the_queue_that_is_named_then(
    manager: JobManager, config: HFSSSimulationConfig
) -> None:
    await manager.update_queue("urgent", paused=True)
    await manager.simulate(config)
    await manager.wait("J1", 30)

    await manager.simulate(config, queue="urgent")

    tallies = {queue.name: queue.counts for queue in await manager.queues()}
    assert (await manager.get("J1")).queue == "urgent"
    assert (sum(tallies["default"].values()), tallies["urgent"][Tally.QUEUED]) == (0, 1)
    await manager.update_queue("urgent", paused=False)
    assert (await manager.wait("J1", 30)).attempt == 2


async def test_what_was_to_run_again_in_a_queue_that_is_not_there_stays_as_it_ended(
    manager: JobManager, config: HFSSSimulationConfig
) -> None:
    await manager.simulate(config)
    ended = await manager.wait("J1", 30)

    with pytest.raises(InvalidRequest, match="queue: there is no queue 'urgent'"):
        await manager.simulate(config, queue="urgent")

    assert await manager.get("J1") == ended


@pytest.mark.parametrize("has_ended", [False, True])
async def test_another_configuration_under_the_id_is_refused_by_what_differs(
    manager: JobManager, config: HFSSSimulationConfig, *, has_ended: bool
) -> None:
    await manager.update_queue("default", paused=True)
    await manager.simulate(config)
    if has_ended:
        await manager.cancel("J1")
    before = await manager.get("J1")

    with pytest.raises(
        SimulationExists, match=r"jobid: .*\(design_name, user\).* choose another jobid"
    ) as caught:
        await manager.simulate(structs.replace(config, design_name="other", user="ann"))

    assert caught.value.different == ("design_name", "user")
    assert await manager.get("J1") == before


async def test_id_of_a_command_is_not_that_of_a_simulation(
    manager: JobManager, config: HFSSSimulationConfig
) -> None:
    await manager.update_queue("default", paused=True)
    await manager.submit(["true"], job_id="J1")

    with pytest.raises(SimulationExists, match="something else"):
        await manager.simulate(config)
    with pytest.raises(NotASimulation, match="submitted as a command"):
        await manager.simulation("J1")


async def test_repeated_request_changes_nothing_after_the_end_either(
    manager: JobManager, config: HFSSSimulationConfig
) -> None:
    once = Once("me", "key", "of this request")
    first = await manager.under(once).simulate(config)
    ended = await manager.wait("J1", 30)
    os.unlink(config.project_path)

    again = await manager.under(once).simulate(config)

    assert again == first
    assert await manager.get("J1") == ended
    with pytest.raises(KeyReused):
        await manager.under(replace(once, fingerprint="another")).simulate(config)


async def test_project_that_is_not_here_is_refused(manager: JobManager, config: HFSSSimulationConfig) -> None:
    with pytest.raises(PathNotFound, match="project_path: there is no"):
        await manager.simulate(structs.replace(config, project_path="/nowhere/a.aedt"))

    with pytest.raises(JobNotFound):
        await manager.get("J1")


async def test_site_of_a_scheduler_is_made_where_it_answers(
    programs: Programs, manager: JobManager, config: HFSSSimulationConfig
) -> None:
    become_slurm(programs)
    await manager.update_queue("default", paused=True)

    job = await manager.simulate(structs.replace(config, scheduler_type=SchedulerType.SLURM))
    again = await manager.ensure_site(SchedulerType.SLURM)

    assert (job.site, job.executor, job.status) == ("slurm", "batch", Status.QUEUED)
    assert [site.name for site in await manager.sites()] == ["local", "slurm"]
    assert (again.name, again.work_dir) == ("slurm", str(manager.settings.work_dir))
    await manager.cancel("J1")


@pytest.mark.usefixtures("programs")
async def test_scheduler_that_is_not_here_is_refused(
    manager: JobManager, config: HFSSSimulationConfig
) -> None:
    with pytest.raises(InvalidConfig, match="site add NAME --kind pbs") as caught:
        await manager.simulate(structs.replace(config, scheduler_type=SchedulerType.PBS))

    assert caught.value.field == "scheduler_type"
    assert [site.name for site in await manager.sites()] == ["local"]


async def test_scheduler_of_a_service_is_that_of_a_site_before_one_that_is_found(
    programs: Programs, manager: JobManager
) -> None:
    become_lsf(programs)

    found = await manager.scheduler()
    await manager.put_site("far", SiteAsked(kind="pbs"))

    assert (found, await manager.scheduler()) == (SchedulerType.LSF, SchedulerType.PBS)


async def test_portions_have_all_jobs_once(manager: JobManager, config: HFSSSimulationConfig) -> None:
    await manager.update_queue("default", paused=True)
    for number in range(3):
        await manager.simulate(structs.replace(config, jobid=f"J{number}"))
    await manager.submit(["true"], job_id="plain", priority=4)

    first, next_ = await manager.portion(0, 3)
    assert next_ is not None
    rest, end = await manager.portion(next_, 3)

    assert [job.id for job in (*first, *rest)] == ["J0", "J1", "J2", "plain"]
    assert end is None
    assert msgspec.json.decode(bytes(first[1].config))["jobid"] == "J1"
    (plain,) = rest
    assert (bytes(plain.config), plain.status, plain.priority) == (b"{}", "queued", 4)

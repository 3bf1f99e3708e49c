"""Simulations by the client, at a real service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec import structs

from jobmgr.api.server import Server
from jobmgr.client import Client
from jobmgr.errors import InvalidConfig, InvalidRequest, JobExists, JobNotFound, NotASimulation
from jobmgr.hfss import HFSSSimulationConfig, SchedulerOptions, SchedulerType
from jobmgr.service import JobManager, ResourceLimits
from tests.hfss.installed import install, make_project
from tests.programs import Programs, become_slurm


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """The only programs of this machine: none."""
    found = Programs(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(found.directory))
    return found


@pytest_asyncio.fixture
async def client(programs: Programs, sqlite_url: str, tmp_path: Path) -> AsyncIterator[Client]:
    """Of a service on a machine without schedulers."""
    del programs
    limits = ResourceLimits(max_concurrent_jobs=1)
    async with (
        JobManager(limits, database=sqlite_url, work_dir=tmp_path / "work") as manager,
        Server(manager, host="127.0.0.1", port=0, token="a-token") as server,
        Client(server.url, "a-token") as client,
    ):
        yield client


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HFSSSimulationConfig:
    """Of a project that is solved at once, by an installed program."""
    edt = install(tmp_path / "v252", "exit 0")
    monkeypatch.setenv("ANSYSEM_ROOT252", str(tmp_path / "v252"))
    project = make_project(tmp_path / "antenna.aedt")
    return HFSSSimulationConfig(ansys_edt_path=edt, project_path=project, jobid="one")


@pytest.mark.parametrize("value", ["antenna.aedt", {"project_path": "antenna.aedt"}, None])
async def test_what_is_no_configuration_is_refused_with_what_makes_one(client: Client, value: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"config.*of the type (str|dict|NoneType).*create_hfss_config"):
        await client.simulate(value)


@pytest.mark.parametrize("priority", ["high", 1.5, None, True])
async def test_a_priority_that_is_no_whole_number_is_named(
    client: Client, config: HFSSSimulationConfig, priority: Any
) -> None:
    with pytest.raises(InvalidConfig, match=r"^priority: .* no whole number"):
        await client.simulate(config, priority)


async def test_two_simulations_of_one_project_at_a_time_are_warned_of(
    client: Client, config: HFSSSimulationConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await client.update_queue("default", paused=True)
    other = make_project(tmp_path / "other" / "antenna.aedt")

    def warnings() -> list[str]:
        return [text for text in caplog.messages if text.startswith("project_path: ")]

    for job_id, project in (("one", config.project_path), ("one", config.project_path), ("two", other)):
        await client.simulate(structs.replace(config, jobid=job_id, project_path=project))
    before = warnings()
    await client.simulate(structs.replace(config, jobid="three"))
    told = warnings()
    await client.cancel("one")
    await client.cancel("three")
    await client.simulate(structs.replace(config, jobid="four"))

    assert before == []
    assert len(told) == 1
    assert f"job one, which has not ended, is of {config.project_path!r}, too" in told[0]
    assert warnings() == told


async def test_a_simulation_is_submitted_with_its_priority(
    client: Client, config: HFSSSimulationConfig
) -> None:
    job_id = await client.simulate(config, priority=-7)
    job = await client.wait(job_id, 30)

    assert (job_id, job.kind, job.priority, job.exit_code) == ("one", "hfss", -7, 0)
    assert list((await client.spec("one")).command) == config.generate_command_list()
    assert (await client.progress("one")).line == ""


async def test_a_refusal_is_the_error_that_it_was(client: Client, config: HFSSSimulationConfig) -> None:
    await client.wait(await client.simulate(config), 30)
    other = await client.submit(["true"])
    await client.wait(other, 30)

    with pytest.raises(JobExists, match=r"another configuration \(user\).*choose another jobid") as caught:
        await client.simulate(structs.replace(config, user="ann"))
    with pytest.raises(InvalidRequest, match="there is no site of the kind slurm"):
        await client.simulate(structs.replace(config, jobid="two", scheduler_type=SchedulerType.SLURM))
    with pytest.raises(InvalidRequest, match="'ansysedt' is relative") as named:
        await client.simulate(structs.replace(config, jobid="two", ansys_edt_path="ansysedt"))
    with pytest.raises(NotASimulation):
        await client.progress(other)
    with pytest.raises(JobNotFound):
        await client.progress("two")

    # As of `submit`: the sentence names it.
    assert caught.value.job_id == ""
    assert named.value.field == "config.ansys_edt_path"


async def test_the_scheduler_of_the_service_is_told(client: Client) -> None:
    assert await client.scheduler_type() is SchedulerType.NONE


async def test_a_simulation_without_a_scheduler_stays_here_whatever_its_options(
    programs: Programs, client: Client, config: HFSSSimulationConfig
) -> None:
    become_slurm(programs)
    options = SchedulerOptions(cores_per_node=4)

    job_id = await client.simulate(structs.replace(config, scheduler_options=options))

    assert await client.scheduler_type() is SchedulerType.SLURM
    assert (await client.wait(job_id, 30)).site == "local"


async def test_a_relative_project_is_one_of_the_callers_directory(
    client: Client, config: HFSSSimulationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    await client.simulate(structs.replace(config, project_path="antenna.aedt"))

    kept = await client.simulation("one")
    assert kept is not None
    assert kept.project_path == config.project_path

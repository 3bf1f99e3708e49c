"""Simulations as jobs: what is stored of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobmgr.dialects import quoting
from jobmgr.domain.resources import Resources
from jobmgr.domain.status import Status
from jobmgr.errors import InvalidConfig, InvalidRequest
from jobmgr.hfss import HFSSSimulationConfig, MachineNode, SchedulerOptions, SchedulerType, script
from jobmgr.hfss.job import KIND, configuration, new_job, payload
from jobmgr.hfss.status import JobStatus

PROGRAM = "/opt/ansys/v252/Linux64/ansysedt"


def made(**fields: object) -> HFSSSimulationConfig:
    given = {"ansys_edt_path": PROGRAM, "project_path": "/shared/it's one.aedt", "jobid": "J1", **fields}
    return HFSSSimulationConfig(**given)  # type: ignore[arg-type]


def test_run_without_a_scheduler_is_a_job_of_this_machine() -> None:
    config = made(machine_nodes=[MachineNode(cores=4)])

    new = new_job(config, priority=-3, user="me")

    assert (new.job_id, new.kind, new.name, new.user) == ("J1", KIND, "it's one.aedt", "me")
    assert (new.site, new.executor, new.priority) == ("local", None, -3)
    assert list(new.spec.command) == config.generate_command_list()
    assert new.spec.cwd == "/shared"


@pytest.mark.parametrize(
    ("time", "walltime_s"),
    [(None, 86_400), ("30", 1800), ("unlimited", None), ("0", None), ("00:00:00", None)],
)
def test_run_without_a_scheduler_has_the_time_limit_of_its_options(
    time: str | None, walltime_s: float | None
) -> None:
    """pyedb ended each local run after 24 h, which is what they say by default."""
    options = SchedulerOptions() if time is None else SchedulerOptions(time=time)

    new = new_job(made(scheduler_options=options), user="me")

    assert new.spec.resources == Resources(walltime_s=walltime_s)


def test_project_of_this_directory_is_the_same_from_any_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    new = new_job(made(project_path="one.aedt"), user="me")

    assert new.payload == new_job(made(project_path=f"{tmp_path}/one.aedt"), user="me").payload
    assert new.payload is not None
    assert new.payload["project_path"] == f"{tmp_path}/one.aedt"


@pytest.mark.parametrize(
    "scheduler", [each for each in SchedulerType if each is not SchedulerType.NONE], ids=str
)
def test_run_with_a_scheduler_is_what_its_script_says(scheduler: SchedulerType) -> None:
    options = SchedulerOptions(queue="long", nodes=2, cores_per_node=8, memory="64GB", time="2h")
    config = made(scheduler_type=scheduler, scheduler_options=options)

    new = new_job(config, user="me")

    assert (new.site, new.executor) == (None, scheduler.value)
    asked = new.spec.resources
    assert (asked.partition, asked.nodes, asked.tasks, asked.walltime_s) == ("long", 2, 16, 7200.0)
    assert asked.memory_bytes == 64 * 2**30
    order = script.order(config, scheduler)
    assert order.body == "".join(f"{line}\n" for line in (*asked.setup, quoting.words(new.spec.command)))
    assert bool(asked.setup) == (scheduler is SchedulerType.LSF)


def test_what_a_scheduler_cannot_be_told_is_refused_by_the_field() -> None:
    config = made(scheduler_type="pbs", scheduler_options={"qos": "high"})

    # Only its site's dialect knows; what is wrong for all of its kind is known here.
    with pytest.raises(InvalidConfig, match="gpus") as caught:
        new_job(made(scheduler_type="slurm", scheduler_options={"nodes": 2, "gpus": 3}), user="me")

    assert caught.value.field == "scheduler_options.gpus"
    assert new_job(config, user="me").spec.resources.qos == "high"


def test_relative_project_is_found_from_wherever_the_job_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    new = new_job(made(project_path="a.aedb"), user="me")

    assert new.spec.command[-1] == str(tmp_path / "a.aedb")
    assert new.spec.cwd == str(tmp_path)


def test_configuration_comes_back_as_it_was() -> None:
    config = made(
        machine_nodes=[MachineNode(hostname="a"), MachineNode(hostname="b", cores=2)],
        scheduler_type="lsf",
        scheduler_options={"gpus": 2, "email_notification": "a@b"},
        layout_options={"enable_gpu": True},
        user="somebody",
    )

    kept = json.loads(json.dumps(payload(config)))

    assert kept == payload(config)
    assert configuration(kept) == config
    assert not {"platform", "timestamp", "version"} & kept.keys()


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"project_path": "/shared/caf\udce9.aedt"}, "project_path"),
        ({"layout_options": {"temp_directory": "/caf\udce9"}}, "layout_options"),
    ],
)
def test_path_that_is_no_text_is_refused(fields: dict[str, object], name: str) -> None:
    with pytest.raises(InvalidConfig, match="not UTF-8") as caught:
        new_job(made(**fields), user="me")

    assert caught.value.field == name


def test_name_has_no_line_breaks() -> None:
    assert new_job(made(project_path="/a/b\nc.aedt"), user="me").name == "b?c.aedt"


def test_priority_that_no_database_holds_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="priority"):
        new_job(made(), priority=2**40, user="me")


def test_every_status_has_a_word() -> None:
    words = {status: JobStatus.of(status) for status in Status}

    assert set(words.values()) == set(JobStatus)
    assert words[Status.CLAIMED] == "queued"
    assert {status for status in Status if status.is_terminal} == {
        status for status, word in words.items() if word in {"completed", "failed", "cancelled"}
    }

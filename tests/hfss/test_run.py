"""Running simulations: here, with a stand-in of ansysedt, and in a real SLURM."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from jobmgr.dialects.lsf import Lsf
from jobmgr.dialects.lsf_order import Variant
from jobmgr.errors import InvalidConfig, PathNotFound, SubmitDoubtful, SubmitRefused
from jobmgr.hfss import HFSSSimulationConfig, SchedulerOptions, SchedulerType, create_hfss_config, script
from tests.hfss.installed import install
from tests.hpcpack import HpcPack
from tests.patience import eventually
from tests.slurm import Slurm

RECORDED = Path(__file__).resolve().parent.parent / "data"
TELL = 'printf "%s\\n" "$@"'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in a directory of its own, whose name has a blank in it."""
    file = tmp_path / "my projects" / "antenna.aedt"
    file.parent.mkdir()
    file.touch()
    return file


def make(project: Path, body: str = TELL, **fields: Any) -> HFSSSimulationConfig:
    edt = install(project.parent.parent / "v252" / "Linux64", body)
    return create_hfss_config(str(project), ansys_edt_path=edt, jobid="patch_1", **fields)


def scripts(project: Path) -> list[Path]:
    return sorted(project.parent.glob("**/*.sh"))


# Here


def test_a_run_here_answers_what_the_program_said_and_how_it_ended(project: Path) -> None:
    config = make(project, f"{TELL}; echo trouble >&2; exit 2")

    result = config.run_simulation()

    assert isinstance(result, subprocess.CompletedProcess)
    assert result.args == config.generate_command_list()
    assert result.stdout.splitlines() == config.generate_command_list()[1:]
    assert (result.returncode, result.stderr) == (2, "trouble\n")


def test_keywords_are_those_of_subprocess(project: Path, tmp_path: Path) -> None:
    config = make(project, 'pwd; [ -z "$LONG" ] || sleep 1000')

    result = config.run_simulation(cwd=tmp_path, text=False)

    assert isinstance(result, subprocess.CompletedProcess)
    assert result.stdout == f"{tmp_path}\n".encode()
    with pytest.raises(subprocess.TimeoutExpired):
        config.run_simulation(timeout=0.5, env={"LONG": "1", "PATH": os.defpath})


def test_a_project_or_program_that_is_not_there_is_said_before_or_instead_of_a_start(project: Path) -> None:
    config = make(project)
    with pytest.raises(PathNotFound, match=r"^ansys_edt_path: there is no program '/nowhere/ansysedt'"):
        structs.replace(config, ansys_edt_path="/nowhere/ansysedt").run_simulation()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        config.run_simulation(cwd="/nowhere")

    project.unlink()

    with pytest.raises(PathNotFound, match=r"^project_path: there is no "):
        config.run_simulation()


def test_describing_a_simulation_loads_nothing_that_runs_one() -> None:
    code = "import json, sys, jobmgr.hfss, jobmgr.hfss.log; print(json.dumps(sorted(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    loaded = set(json.loads(told))

    assert "jobmgr.dialects.slurm" not in loaded
    assert not {"asyncio", "subprocess", "jobmgr.compat", "jobmgr.transports", "jobmgr.executors"} & loaded


# In a scheduler


@pytest.fixture
def at_slurm(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """This process sees the SLURM of the tests."""
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm.environment[name])
    return slurm


OPTIONS = SchedulerOptions(queue="debug", time="00:05:00", memory="200MB", nodes=2, cores_per_node=2)


async def test_a_job_runs_in_slurm_with_all_that_was_asked_for(project: Path, at_slurm: Slurm) -> None:
    told = project.parent / "told"
    config = make(
        project,
        f'{TELL} >"{told}"; env',
        scheduler_type=SchedulerType.SLURM,
        scheduler_options=structs.replace(OPTIONS, gpus=4, gpu_type="a100", exclusive=True, priority="Low"),
        design_name="main",
        setup_name="Setup 1; echo no",
    )
    # In a loop that runs, as in a notebook.
    answered = config.run_simulation()

    assert isinstance(answered, str)
    id_ = answered.removeprefix("slurm_job_")
    shown = at_slurm.say("scontrol", "show", "job", id_)
    for part in (
        "JobName=patch_1", "Partition=debug", "TimeLimit=00:05:00", "MinMemoryNode=200M", "NumNodes=2", "NumTasks=4",
        "OverSubscribe=NO", "Nice=1000", "a100:", f"WorkDir={project.parent}",
    ):  # fmt: skip
        assert part in shown, shown
    output = project.parent / "patch_1.out"
    await eventually(lambda: output.exists() and "SLURM_STEP_ID=0" in output.read_text(), timeout_s=60)
    assert told.read_text().splitlines()[:3] == ["-distributed", "-machinelist", "numcores=4"]
    assert told.read_text().splitlines()[-2:] == ["main::Setup 1; echo no", str(project)]
    common = f"{Path(config.ansys_edt_path).parent}/common"
    assert f"ANSYSEM_COMMON_PREFIX={common}" in output.read_text()


async def test_how_the_program_ends_is_how_the_job_ends(project: Path, at_slurm: Slurm) -> None:
    config = make(project, "exit 9", scheduler_type=SchedulerType.SLURM, scheduler_options=OPTIONS)
    id_ = str(config.run_simulation()).removeprefix("slurm_job_")

    await eventually(
        lambda: "FAILED" in at_slurm.say("scontrol", "show", "job", id_).partition("Reason")[0], timeout_s=60
    )

    assert "ExitCode=9:0" in at_slurm.say("scontrol", "show", "job", id_)


@pytest.mark.usefixtures("at_slurm")
def test_a_refusal_is_an_error_with_the_schedulers_words(project: Path) -> None:
    options = structs.replace(OPTIONS, queue="nowhere")
    config = make(project, scheduler_type=SchedulerType.SLURM, scheduler_options=options)

    with pytest.raises(
        SubmitRefused, match=r"(?s)slurm refused the job: .*Invalid partition name specified"
    ) as caught:
        config.run_simulation()

    assert caught.value.exit_status == 1
    assert "sbatch" in caught.value.argv
    answer = config.submit_to_scheduler()
    assert (answer.returncode, "Invalid partition" in answer.stderr) == (1, True)


@pytest.mark.usefixtures("at_slurm")
def test_scripts_are_for_their_owner_only_and_each_has_a_place_of_its_own(project: Path) -> None:
    config = make(project, "exit 0", scheduler_type=SchedulerType.SLURM, scheduler_options=OPTIONS)

    config.run_simulation()
    config.run_simulation()
    config.submit_to_scheduler("own.sh")

    first, second, own = sorted(scripts(project), key=lambda file: (len(file.parts), file), reverse=True)
    assert first.parent != second.parent
    assert first.name == second.name == "patch_1_slurm.sh"
    assert own == project.parent / "own.sh"
    assert {stat.S_IMODE(file.stat().st_mode) for file in (first, second, own)} == {0o700}
    assert {stat.S_IMODE(file.parent.stat().st_mode) for file in (first, second)} == {0o700}
    assert first.read_text() == config.generate_scheduler_script()


@pytest.mark.usefixtures("at_slurm")
def test_a_link_in_the_place_of_a_script_is_not_followed(project: Path) -> None:
    config = make(project, scheduler_type=SchedulerType.SLURM, scheduler_options=OPTIONS)
    (project.parent / "own.sh").symlink_to(project)

    with pytest.raises(OSError, match=r"own\.sh"):
        config.submit_to_scheduler("own.sh")

    assert project.read_bytes() == b""


@pytest.mark.usefixtures("at_slurm")
def test_the_scheduler_that_is_here_takes_what_names_none(project: Path) -> None:
    config = make(project, "exit 0", scheduler_options=OPTIONS)

    answer = config.submit_to_scheduler()

    assert answer.returncode == 0, answer.stderr
    assert scripts(project)[0].name == "patch_1_slurm.sh"


def stand_in(directory: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    """Programs of a scheduler that is not installed here, each a shell text; nothing else is on the PATH but /bin."""
    directory.mkdir()
    for name, text in programs.items():
        (directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/bin")


def test_lsf_answers_in_its_own_form_and_is_told_what_its_version_understands(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(
        project.parent.parent / "bin",
        monkeypatch,
        bjobs=f"cat {RECORDED}/lsf/bjobs_V.txt",
        bparams=f"cat {RECORDED}/lsf/bparams_l.txt",
        bsub=f"cat >{project.parent.parent}/script; echo 'Job <4711> is submitted to queue <normal>.'",
    )
    config = make(project, scheduler_type=SchedulerType.LSF)

    assert config.run_simulation() == "lsf_job_4711"
    text = (project.parent.parent / "script").read_text()
    assert text == script.text(config, Lsf(Variant.CLASSIC))
    assert text != config.generate_scheduler_script()


def test_pbs_answers_in_its_own_form(project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(
        tmp_path / "bin",
        monkeypatch,
        qstat=f"cat {RECORDED}/pbs/qstat_B_f.txt",
        qsub='[ "$1" = --version ] && echo pbs_version = 23.06.06 || echo 123.server.example',
    )
    plain = tmp_path / "antenna.aedt"
    config = structs.replace(make(project, scheduler_type=SchedulerType.PBS), project_path=str(plain))

    assert config.run_simulation() == "pbs_job_123"


@pytest.fixture
def hpc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HpcPack]:
    """A played HPC Pack, whose commands are on the PATH."""
    played = HpcPack(tmp_path / "hpc")
    played.install()
    monkeypatch.setenv("PATH", f"{played.programs}:/bin")
    yield played
    played.remove()


async def test_a_job_runs_in_windows_hpc_with_all_that_was_asked_for(project: Path, hpc: HpcPack) -> None:
    config = make(
        project,
        scheduler_type=SchedulerType.WINDOWS_HPC,
        scheduler_options=structs.replace(OPTIONS, queue="ComputeNodes", account="lab", priority="Low"),
    )

    assert config.run_simulation() == "windows_hpc_job_35"
    await eventually(lambda: hpc.jobs()[0]["State"] == "Finished", timeout_s=60)

    (job,) = hpc.jobs("patch-1")
    asked = {
        "NodeGroups": "ComputeNodes",
        "RuntimeSeconds": "300",
        "MinMemory": "200",
        "MinNodes": "2",
        "Project": "lab",
        "Priority": "Lowest",
    }
    assert asked.items() <= job.items()
    said = (project.parent / "patch_1.out").read_text().splitlines()
    assert said[:5] == ["-jobid", "patch_1", "-distributed", "-machinelist", "numcores=4"]
    assert said[-1] == str(project)


def test_the_job_file_of_windows_hpc_is_the_one_that_is_handed_in(project: Path, hpc: HpcPack) -> None:
    config = make(project, "exit 0", scheduler_type=SchedulerType.WINDOWS_HPC)

    answer = config.submit_to_scheduler("patch_1_windows_hpc.sh")

    assert answer.returncode == 0, answer.stderr
    assert (project.parent / "job.xml").read_text() == f"{config.generate_scheduler_script()}\n"
    assert scripts(project) == [project.parent / "patch_1_windows_hpc.sh"]
    assert len(hpc.jobs()) == 1


@pytest.mark.parametrize("answer", ["exit 0", "echo 'Socket timed out' >&2; exit 1"])
def test_an_answer_that_is_none_is_an_error_of_its_own(
    answer: str, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(tmp_path / "bin", monkeypatch, sbatch=answer, scontrol="echo MaxArraySize = 1001")
    config = make(project, scheduler_type=SchedulerType.SLURM)

    with pytest.raises(SubmitDoubtful, match="look for it in the queue"):
        config.run_simulation()


def test_a_scheduler_that_is_not_installed_is_said(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(tmp_path / "bin", monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    config = make(project)

    with pytest.raises(InvalidConfig, match=r"^scheduler_type: there is no qsub on PATH"):
        structs.replace(config, scheduler_type=SchedulerType.PBS).run_simulation()
    with pytest.raises(InvalidConfig, match=r"^scheduler_type: none is named, and none is found here"):
        config.submit_to_scheduler()
    assert scripts(project) == []


def test_what_the_scheduler_cannot_be_told_is_said_before_anything_is_written(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(tmp_path / "bin", monkeypatch, sbatch="exit 1", scontrol="echo MaxArraySize = 1001")
    config = make(project, scheduler_type="slurm", scheduler_options={"queue": "a b"})

    with pytest.raises(InvalidConfig, match=r"^scheduler_options\.queue: "):
        asyncio.run(asyncio.to_thread(config.run_simulation))
    assert scripts(project) == []

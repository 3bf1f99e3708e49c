"""The stand-in for ansysedt keeps to what is known of the real one: its command line, its log, its processes."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from jobmgr.executors import process
from jobmgr.hfss import HFSSSimulationConfig, SchedulerOptions, SchedulerType, command, installation
from jobmgr.hfss.log import LogReader
from tests.ansysedt import GREETING
from tests.hfss.installed import engines_of, install_solver, log_of, make_project


@pytest.fixture
def edt(tmp_path: Path) -> str:
    return install_solver(tmp_path / "v252" / "Linux64")


def make(edt: str, project: str, **fields: Any) -> HFSSSimulationConfig:
    return HFSSSimulationConfig(ansys_edt_path=edt, project_path=project, jobid="patch_1", **fields)


def run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(argv, capture_output=True, timeout=60, check=False, **options)


def alive(pid: int) -> bool:
    stat = process.read_stat(pid)
    return stat is not None and stat.state != "Z"


def logged(project: str) -> LogReader:
    reader = LogReader()
    reader.feed(log_of(project).read_bytes())
    return reader


@pytest.mark.parametrize("name", ["antenna.aedt", "antenna.aedb"])
def test_it_solves_what_the_command_line_names_and_logs_it(edt: str, tmp_path: Path, name: str) -> None:
    project = make_project(tmp_path / "my projects" / name, passes=2, frequencies=4)
    config = make(edt, project, design_name="main")

    done = run(config.generate_command_list())

    state = logged(project).state()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(GREETING)
    assert (state["project"]["name"], state["project"]["design"]) == ("antenna", "main (HFSS 3D Layout)")
    assert "-jobid patch_1 " in state["project"]["cmd_line"]
    assert [each["converged"] for each in state["adaptive"]] == [False, True]
    assert len(state["sweep"]["solved"]) == 4
    assert state["log_parser"]["is_completed"]
    assert (tmp_path / "my projects" / "antenna.aedtresults" / "solution").is_file()
    assert not any(map(alive, engines_of(project)))


def test_the_command_line_of_a_scheduler_is_understood_too(edt: str, tmp_path: Path) -> None:
    options = SchedulerOptions(nodes=2, cores_per_node=4)
    project = make_project(tmp_path / "antenna.aedt")
    config = make(edt, project, scheduler_type=SchedulerType.SLURM, scheduler_options=options)

    assert run(command.in_step(config)).returncode == 0
    assert run(config.generate_command_list()).returncode == 0


def test_a_command_line_that_ansysedt_would_not_take_is_refused(edt: str, tmp_path: Path) -> None:
    argv = make(edt, make_project(tmp_path / "antenna.aedt")).generate_command_list()

    assert run([*argv[:-2], argv[-1], "-ng", "more"]).returncode == 2
    assert run([edt, "-machinelist", "numcores=4", *argv[-3:]]).returncode == 2
    assert run([edt, "-ng"]).returncode == 2
    assert run([*argv[:-1], str(tmp_path / "nothing.aedt")]).returncode == 1


def test_it_fails_at_the_line_that_it_is_told(edt: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "antenna.aedt", fails_at="Adaptive Pass 2", exit_code=9)

    done = run(make(edt, project).generate_command_list())

    assert done.returncode == 9
    assert logged(project).state()["log_parser"]["errors"]


def test_it_waits_for_a_signal_and_its_engines_survive_its_death(edt: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "antenna.aedt", waits_at="Adaptive Pass 2", until="/nowhere")
    argv = make(edt, project).generate_command_list()
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as solver:
        assert solver.stdout is not None
        assert any(b"Adaptive Pass 2" in line for line in solver.stdout)
        progress = logged(project).progress()
        # Its engines hold the pipe open.
        solver.stdout.close()
        solver.terminate()
        assert solver.wait(60) == -signal.SIGTERM
    left = engines_of(project)

    assert progress == "pass 2, 8,000 tetrahedra"
    assert all(map(alive, left))
    for pid in left:
        os.killpg(pid, signal.SIGKILL)


def test_its_directory_is_found_as_an_installation(edt: str) -> None:
    assert installation.find({"ANSYSEM_ROOT252": str(Path(edt).parent)}) == edt

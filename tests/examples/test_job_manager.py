"""The campaigns of simulations: the scripts run as they stand there, on a stand-in for the solver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hfss.installed import install_solver, make_project

ROOT = Path(__file__).parents[2]
CAMPAIGN = ROOT / "examples" / "job_manager"
TIMEOUT_S = 100


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """That of a user with ANSYS and this jobmgr, and nothing stored yet."""
    install_solver(tmp_path / "v252")
    command = tmp_path / "bin" / "jobmgr"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m jobmgr "$@"\n')
    command.chmod(0o755)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("JOBMGR_", "ANSYSEM_ROOT"))
    }
    return kept | {
        "ANSYSEM_ROOT252": str(tmp_path / "v252"),
        "JOBMGR_HOME": str(tmp_path / "home"),
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }


def run(environment: dict[str, str], cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def campaign(environment: dict[str, str], cwd: Path, *projects: str) -> subprocess.CompletedProcess[str]:
    always = ("--max-cpu-percent", "100", "--min-memory-gb", "0")
    return run(environment, cwd, sys.executable, str(CAMPAIGN / "campaign.py"), *always, *projects)


def test_the_script_in_python_runs_each_project_once(environment: dict[str, str], tmp_path: Path) -> None:
    projects = [make_project(tmp_path / "studies" / "a.aedt")]
    projects.append(make_project(tmp_path / "studies" / "b.aedt", fails_at="Adaptive Pass 2", exit_code=9))

    first = campaign(environment, tmp_path, *projects)
    second = campaign(environment, tmp_path, projects[0])

    told = [line.split()[:2] for line in first.stdout.splitlines()]
    assert [(job_id.rpartition("-")[0], status) for job_id, status in told] == [
        ("a", "completed"),
        ("b", "failed"),
    ]
    assert (first.returncode, second.returncode, second.stdout.split()) == (1, 0, told[0])
    assert len(list((tmp_path / "home" / "work" / "runs" / told[0][0]).iterdir())) == 1


def test_the_script_in_python_runs_projects_of_the_same_and_of_any_name(
    environment: dict[str, str], tmp_path: Path
) -> None:
    names = ("x/q", "y/q", "y/q.v2", "ä ö")
    projects = [make_project(tmp_path / "studies" / f"{name}.aedt") for name in names]

    done = campaign(environment, tmp_path, *projects)

    assert done.returncode == 0, done
    assert len(set(done.stdout.splitlines())) == len(names)
    for name in names:
        assert (tmp_path / "studies" / f"{name}.aedtresults" / "solution").exists()


def test_the_script_in_python_submits_nothing_if_a_project_is_not_there(
    environment: dict[str, str], tmp_path: Path
) -> None:
    project = make_project(tmp_path / "studies" / "a.aedt")

    done = campaign(environment, tmp_path, project, "studies/gone.aedt")

    assert done.returncode == 2
    assert "gone.aedt" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "home" / "work" / "runs").iterdir()) == []


def test_the_script_for_the_shell_runs_the_projects_of_a_folder(
    environment: dict[str, str], tmp_path: Path
) -> None:
    for name in ("a", "deep/b"):
        make_project(tmp_path / "studies" / f"{name}.aedt")
    free = ("--max-cpu-percent", "100", "--min-memory", "0", "--min-disk", "0")

    done = run(environment, tmp_path, str(CAMPAIGN / "campaign.sh"), "studies", *free)

    assert done.returncode == 0, done
    assert "2 of 2 projects were submitted" in done.stderr
    for name in ("a", "deep/b"):
        assert (tmp_path / "studies" / f"{name}.aedtresults" / "solution").exists()


def test_the_script_for_the_shell_uses_the_service_that_runs(
    environment: dict[str, str], tmp_path: Path
) -> None:
    make_project(tmp_path / "studies" / "a.aedt")
    free = ("--port", "0", "--max-cpu-percent", "100", "--min-memory", "0", "--min-disk", "0")
    service = subprocess.Popen(
        ["jobmgr", "hfss", "start", *free], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert service.stdout is not None
        service.stdout.readline()  # says where it listens

        done = run(environment, tmp_path, str(CAMPAIGN / "campaign.sh"), "studies", "--min-disk", "5")
    finally:
        service.terminate()
        service.communicate(timeout=TIMEOUT_S)

    assert (done.returncode, service.returncode) == (0, 0), done
    assert "the service that runs takes the projects; its limits hold, and not --min-disk 5" in done.stderr
    assert "1 of 1 projects were submitted" in done.stderr

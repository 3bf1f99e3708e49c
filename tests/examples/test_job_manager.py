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


def test_the_script_in_python_runs_each_project_once(environment: dict[str, str], tmp_path: Path) -> None:
    projects = [make_project(tmp_path / "studies" / "a.aedt")]
    projects.append(make_project(tmp_path / "studies" / "b.aedt", fails_at="Adaptive Pass 2", exit_code=9))
    script = (
        sys.executable,
        str(CAMPAIGN / "campaign.py"),
        "--max-cpu-percent",
        "100",
        "--min-memory-gb",
        "0",
    )

    first = run(environment, tmp_path, *script, *projects)
    second = run(environment, tmp_path, *script, projects[0])

    assert [line.split()[:2] for line in first.stdout.splitlines()] == [["a", "completed"], ["b", "failed"]]
    assert (first.returncode, second.returncode, second.stdout.split()) == (1, 0, ["a", "completed"])
    assert len(list((tmp_path / "home" / "work" / "runs" / "a").iterdir())) == 1


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

"""A script for pyedb's job manager needs one change: the module's name."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from jobmgr.compat.pyedb import programs

# Of pyedb 0.64.0, what its documents and programs import.
NAMES = {
    "job_manager_handler": "JobManagerHandler",
    "job_submission": (
        "HFSS3DLayoutBatchOptions HFSSSimulationConfig MachineNode SchedulerOptions SchedulerType create_hfss_config"
    ),
    "service": (
        "JobInfo JobManager JobPoolManager JobStatus ResourceLimits ResourceMonitor SchedulerManager main"
        " submit_job_to_manager"
    ),
}


@pytest.mark.parametrize("module", NAMES)
def test_a_module_has_the_names_of_pyedbs(module: str) -> None:
    found = import_module(f"jobmgr.compat.pyedb.{module}")
    whole = import_module("jobmgr.compat.pyedb")

    for name in NAMES[module].split():
        assert getattr(found, name) is getattr(whole, name)


def test_an_import_starts_nothing() -> None:
    script = "import threading, asyncio, jobmgr.compat.pyedb; print(threading.active_count())"

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize("module", ["service", "job_manager_handler"])
def test_a_module_is_a_program_as_pyedbs_was(module: str) -> None:
    command = [sys.executable, "-W", "error", "-m", f"jobmgr.compat.pyedb.{module}", "--help"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert "--port" in done.stdout


def test_the_package_as_a_program_says_which_programs_there_are() -> None:
    command = [sys.executable, "-W", "error", "-m", "jobmgr.compat.pyedb"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    named = {line.split()[2].removeprefix("jobmgr.compat.pyedb."): line for line in done.stdout.splitlines()}
    assert (done.returncode, done.stderr) == (0, "")
    assert set(named) == set(programs.PROGRAMS)
    assert "Submit a project" in named["submit_local_job"]

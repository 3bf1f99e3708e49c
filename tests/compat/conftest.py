"""A home of its own for what users of pyedb's classes start, and a stand-in for ANSYS."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.compat.pyedb import HFSSSimulationConfig, create_hfss_config
from tests import remnant
from tests.hfss.installed import install_solver, make_project
from tests.patience import eventually

Make = Callable[..., HFSSSimulationConfig]


@pytest_asyncio.fixture
async def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqlite_template: Path) -> AsyncIterator[Path]:
    """The state directory of this test, with an empty database; fails the test that leaves a thread or a keeper."""
    for name in tuple(os.environ):
        if name.startswith(("JOBMGR_", "ANSYSEM_ROOT")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    # To make one takes longer than most of the tests.
    await asyncio.to_thread(shutil.copyfile, sqlite_template, home / "jobs.db")
    monkeypatch.setenv("JOBMGR_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    yield home
    assert [thread for thread in threading.enumerate() if thread.name.startswith("jobmgr")] == []
    await eventually(lambda: not remnant.keepers(home / "work"))


@pytest.fixture
def edt(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of an installed ansysedt, which its environment names."""
    path = install_solver(tmp_path / "v252" / "Linux64")
    monkeypatch.setenv("ANSYSEM_ROOT252", str(Path(path).parent))
    return path


@pytest.fixture
def make(edt: str, tmp_path: Path) -> Make:
    """Makes the configuration of a simulation that goes as planned (`ansysedt.Plan`)."""
    return partial(_config, tmp_path, edt)


def _config(folder: Path, edt: str, jobid: str, /, **plan: object) -> HFSSSimulationConfig:
    project = make_project(folder / "projects" / f"{jobid}.aedt", **plan)
    return create_hfss_config(project, jobid=jobid, ansys_edt_path=edt)

"""The examples in pyedb's documents run as they stand there.

Changed are the import lines, the path of the project, the dictionary that they leave open, and `await`, which needs a
coroutine.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobmgr.client import Client
from jobmgr.compat import pyedb
from jobmgr.compat.pyedb.manager import JobManager
from jobmgr.errors import JobmgrError
from tests.compat.conftest import Make
from tests.hfss.installed import make_project
from tests.patience import eventually
from tests.slurm import Slurm

DOCUMENT = Path(__file__).resolve().parent.parent / "data" / "pyedb" / "job_manager.rst"
_PREFIX = "pyedb.workflows.job_manager.backend"


def example(number: int) -> str:
    """A Python example of the document, with the module names of jobmgr."""
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:(?:   .*)?\n)+)", DOCUMENT.read_text())
    text = textwrap.dedent(blocks[number])
    assert _PREFIX in text
    return text.replace(_PREFIX, "jobmgr.compat.pyedb")


async def permit_work() -> None:
    """Let the service start jobs although this machine may be busier than the documents' default allows."""

    async def change() -> bool:
        try:
            async with Client() as client:
                await client.update_limits(max_cpu_percent=100, min_memory_gb=0, min_disk_gb=0)
        except JobmgrError:
            return False
        return True

    await eventually(change)


def generous(slurm: Slurm, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process see a SLURM where the 16 cores of the example fit on a node, which has 4."""
    sbatch = shutil.which("sbatch", path=slurm.environment["PATH"])
    folder.mkdir()
    (folder / "sbatch").write_text(f'#!/bin/sh\nexec {sbatch} --overcommit "$@"\n')
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{slurm.environment['PATH']}")
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])


async def test_the_first_example_submits_to_slurm_and_waits(
    make: Make,
    slurm: Slurm,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    generous(slurm, tmp_path / "bin", monkeypatch)
    project = make_project(tmp_path / "antenna.aedt")
    text = "import asyncio, time\n" + example(0).replace("/path/to/antenna.aedt", project)
    # The port that is the default may be somebody else's here.
    own = partial(pyedb.JobManagerHandler, port=0)
    monkeypatch.setattr("jobmgr.compat.pyedb.job_manager_handler.JobManagerHandler", own)
    seen: dict[str, Any] = {}

    running = asyncio.create_task(asyncio.to_thread(exec, text, seen))
    await permit_work()
    await running

    job_id = seen["job_id"]
    assert capsys.readouterr().out == f"Submitted {job_id}\n"
    async with JobManager() as manager:
        info = manager.jobs[job_id]
        assert info.status == "completed", info.error
        assert info.scheduler_job_id


async def test_the_second_example_submits_with_a_priority_and_waits(make: Make, tmp_path: Path) -> None:
    config = make("patch_1")
    text = example(1).replace("{...}", "given")
    body = textwrap.indent(text, "    ")
    scope: dict[str, Any] = {"HFSSSimulationConfig": pyedb.HFSSSimulationConfig, "given": config.to_dict()}
    exec(f"async def main():\n{body}\n    return manager, job_id", scope)
    main: Callable[[], Any] = scope["main"]

    running = asyncio.create_task(main())
    await permit_work()
    manager, job_id = await running

    assert job_id == "patch_1"
    assert (manager.jobs[job_id].status, manager.jobs[job_id].priority) == ("completed", 5)
    assert manager.resource_limits.max_concurrent_jobs == 4
    manager.close()

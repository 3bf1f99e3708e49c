"""The examples in pyedb's documents run as they stand there.

Changed are the names of modules, the path of the project, the dictionary that they leave open, `await`, which needs a
coroutine, and the port, which somebody else may have on the machine that tests.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobmgr.client import Client
from jobmgr.compat import pyedb
from jobmgr.compat.pyedb.manager import JobManager
from jobmgr.errors import JobmgrError
from tests.compat.conftest import Make
from tests.compat.test_manager import USAGE
from tests.hfss.installed import make_project
from tests.patience import eventually
from tests.slurm import Slurm

DOCUMENTS = Path(__file__).resolve().parent.parent / "data" / "pyedb"
ROOT = DOCUMENTS.parents[2]
# One page leaves out the last of the names.
_PREFIX = re.compile(r"pyedb\.workflows\.job_manager(\.backend)?(?=\.)")


def examples(document: str, language: str) -> list[str]:
    """The examples of a document in a language, in their order, with the module names of jobmgr."""
    text = (DOCUMENTS / document).read_text()
    blocks = re.findall(rf"\.\. code-block:: {language}\n\n((?:(?:   .*)?\n)+)", text)
    return [_PREFIX.sub("jobmgr.compat.pyedb", textwrap.dedent(block).strip()) for block in blocks]


def example(number: int) -> str:
    """A Python example of the page on the job manager."""
    return examples("job_manager.rst", "python")[number]


async def run_in_coroutine(text: str, scope: dict[str, Any], *names: str) -> tuple[Any, ...]:
    """Run a text that awaits; answers what these names are at its end."""
    body = textwrap.indent(text, "    ")
    exec(f"async def main():\n{body}\n    return {', '.join(names)},", scope)
    main: Callable[[], Any] = scope["main"]
    found: tuple[Any, ...] = await main()
    return found


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
    scope = {"HFSSSimulationConfig": pyedb.HFSSSimulationConfig, "given": config.to_dict()}

    running = asyncio.create_task(run_in_coroutine(text, scope, "manager", "job_id"))
    await permit_work()
    manager, job_id = await running

    assert job_id == "patch_1"
    assert (manager.jobs[job_id].status, manager.jobs[job_id].priority) == ("completed", 5)
    assert manager.resource_limits.max_concurrent_jobs == 4
    manager.close()


@pytest.fixture
def started(edt: str, home: Path) -> Iterator[str]:
    """The URL of the service that the page on the module `service` starts, by its own command line."""
    alone, _ = examples("service_module.rst", "bash")
    # `python` of the text is this one.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (home / "service.log").open("wb") as log:
        service = subprocess.Popen(
            shlex.split(alone),
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=home,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "JOBMGR_PORT": "0"},
        )
    assert service.stdout is not None
    try:
        listening = service.stdout.readline().decode()
        assert listening.startswith("listening on "), (home / "service.log").read_text()
        yield listening.removeprefix("listening on ").strip()
    finally:
        service.terminate()
        service.communicate(timeout=60)
    assert service.returncode == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_examples_of_the_module_service_are_one_service_its_client_and_curl(
    started: str, make: Make, tmp_path: Path
) -> None:
    (embedded,) = examples("service_module.rst", "python")
    _, lines = examples("service_module.rst", "bash")
    posted = {"config": {**make("posted").to_dict(), "user": "ann"}}
    (tmp_path / "cfg.json").write_text(json.dumps(posted))
    await permit_work()

    (manager,) = await run_in_coroutine(embedded, {"config": make("embedded")}, "manager")
    resources, queue, answer = [
        await asked(line.replace("http://localhost:8080", started), tmp_path) for line in lines.splitlines()
    ]
    await manager.wait_until_all_done()

    assert manager.session.url == started
    assert resources.keys() == USAGE
    assert queue["max_concurrent"] == 1
    assert (answer["success"], answer["job_id"]) == (True, "posted")
    assert {job_id: (info.status, info.priority) for job_id, info in manager.jobs.items()} == {
        "embedded": ("completed", 10),
        "posted": ("completed", 0),
    }
    await asyncio.to_thread(manager.close)


async def asked(line: str, folder: Path) -> dict[str, Any]:
    """What a line of a shell that asks the service is answered."""
    done = await asyncio.to_thread(
        subprocess.run, shlex.split(line), cwd=folder, capture_output=True, timeout=60, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found

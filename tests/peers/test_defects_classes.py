"""What PyEDB's classes did wrong, and what those of the same names do here.

The numbers are those of docs/from-pyedb.md; more of the classes is in tests/compat.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobmgr.compat.pyedb import (
    HFSSSimulationConfig,
    JobManager,
    JobManagerHandler,
    ResourceLimits,
    create_hfss_config,
    submit_job_to_manager,
)
from tests.api.conftest import TIMEOUT_S, Api
from tests.hfss.recorded import CONFIGS
from tests.peers.asking import RAN, shown, times_run
from tests.peers.conftest import project

pytestmark = pytest.mark.usefixtures("ansys")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory of this user, for what is started after this."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("JOBMGR_HOME", str(path))
    return path


@pytest.fixture
def handler(home: Path) -> Iterator[JobManagerHandler]:
    """A handler that is not started, on a free port; it leaves no thread."""
    before = set(threading.enumerate())
    made = JobManagerHandler(host="127.0.0.1", port=0)
    # Those of the original would wait for a machine that is busy with tests.
    made.resource_limits.max_cpu_percent = 100
    made.resource_limits.min_memory_gb = made.resource_limits.min_disk_gb = 0
    yield made
    made.close()
    assert set(threading.enumerate()) <= before


def config(made: JobManagerHandler, file: Path) -> HFSSSimulationConfig:
    return made.create_simulation_config(str(file), scheduler_type="none", cpu_cores=2)


def test_05_a_handler_that_was_closed_starts_again(handler: JobManagerHandler, tmp_path: Path) -> None:
    known = []
    for name in ("first", "second"):
        handler.start_service()
        job_id = handler.submit_job(config(handler, project(tmp_path / f"{name}.aedt")))
        assert handler.wait_until_done(job_id, poll_every=0.05) == "completed"
        with urllib.request.urlopen(f"{handler.url}/jobs") as answer:
            known.append(len(json.load(answer)))
        handler.close()
        assert not handler.started

    assert known == [1, 2]


def test_14_what_submit_job_answers_is_an_id_with_and_without_a_loop(
    handler: JobManagerHandler, tmp_path: Path
) -> None:
    handler.start_service()
    first, second = (config(handler, project(tmp_path / f"{name}.aedt")) for name in ("a", "b"))

    plain = handler.submit_job(first)
    awaited = asyncio.run(handler.submit_job(second))

    assert (plain, awaited) == (first.jobid, second.jobid)
    assert handler.wait_until_done(awaited, poll_every=0.05) == "completed"
    handler.wait_until_all_done(poll_every=0.05)


def test_15_a_status_is_found_among_words(handler: JobManagerHandler, tmp_path: Path) -> None:
    handler.start_service()
    job_id = handler.submit_job(config(handler, project(tmp_path / "a.aedt", "exit 3")))
    handler.wait_until_all_done(poll_every=0.05)

    status = handler.manager.jobs[job_id].status

    assert status in {"completed", "failed"}
    assert status == "failed"
    assert handler.manager.jobs[job_id].return_code == 3


async def test_36_a_configuration_reaches_a_service_and_runs_there_once(api: Api, tmp_path: Path) -> None:
    made = create_hfss_config(project_path=str(project(tmp_path / "a.aedt", RAN)), jobid="patch")

    job_id = await submit_job_to_manager(made, priority=4, manager_url=api.url)
    job = await api.manager.wait(job_id, TIMEOUT_S)

    assert (job_id, job.status, times_run(tmp_path)) == ("patch", "completed", 1)
    seen = await shown(api, job_id)
    assert seen["priority"] == 4
    assert HFSSSimulationConfig.from_dict(seen["config"]) == made


@pytest.mark.parametrize("recorded", CONFIGS, ids=lambda recorded: str(recorded["name"]))
def test_36_a_dictionary_of_either_is_read_again(recorded: dict[str, dict[str, object]]) -> None:
    made = HFSSSimulationConfig.from_dict(recorded["to_dict"])

    assert HFSSSimulationConfig.from_dict(made.to_dict()) == made


def test_40_a_manager_leaves_the_logging_of_its_program_alone(home: Path) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level

    JobManager(ResourceLimits(max_concurrent_jobs=2))

    assert (list(root.handlers), root.level) == before

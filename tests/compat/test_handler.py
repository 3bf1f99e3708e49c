"""The blocking face of the job manager of pyedb: for scripts, threads and notebooks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobmgr.compat.pyedb import JobManagerHandler, ResourceLimits, SchedulerType
from jobmgr.compat.pyedb.desk import Desk
from jobmgr.errors import AddressUnavailable, InvalidConfig, JobNotFound, NotRunning, PathNotFound
from jobmgr.service import JobManager
from tests.compat.conftest import Make
from tests.hfss.installed import make_project
from tests.patience import eventually
from tests.port import free
from tests.test_sync import ends_in_order

Handler = Callable[[], JobManagerHandler]


@pytest.fixture
def handler(edt: str) -> Iterator[Handler]:
    """Makes handlers, on any port, whose limits whatever else runs here does not reach; closes them."""
    made: list[JobManagerHandler] = []

    def make() -> JobManagerHandler:
        handler = JobManagerHandler(port=0)
        limits = handler.resource_limits
        limits.max_concurrent_jobs, limits.max_cpu_percent, limits.min_memory_gb, limits.min_disk_gb = (
            2,
            100,
            0,
            0,
        )
        made.append(handler)
        return handler

    yield make
    for each in made:
        each.close()


def test_a_script_submits_waits_and_closes(handler: Handler, make: Make) -> None:
    service = handler()
    service.start_service()
    config = make("patch_1")

    job_id = service.submit_job(config, priority=2)

    assert (job_id, asyncio.run(job_id)) == ("patch_1", "patch_1")
    assert service.wait_until_done(job_id, poll_every=0.1) == "completed"
    service.wait_until_all_done()
    info = service.manager.jobs[job_id]
    assert (info.status, info.priority, info.config) == ("completed", 2, config)
    assert service.url.startswith("http://")
    service.close()
    assert not service.started


def test_a_closed_service_may_be_started_again_and_has_all_jobs(handler: Handler, make: Make) -> None:
    service = handler()
    for number in range(2):
        service.start_service()
        service.start_service()
        service.wait_until_done(service.submit_job(make(f"patch_{number}")))
        service.close()
        service.close()

    service.start_service()
    assert list(service.manager.jobs) == ["patch_0", "patch_1"]
    assert {info.status for info in service.manager.jobs.values()} == {"completed"}


def test_a_close_that_is_interrupted_has_closed(handler: Handler, make: Make, tmp_path: Path) -> None:
    go = tmp_path / "go"
    service = handler()
    service.start_service()
    job_id = service.submit_job(make("patch_1", waits_at="Adaptive Pass 2", until=str(go)))
    while service.manager.jobs[job_id].status != "running":
        pass

    interrupting = service.manager.session.call(_interrupts_once_it_drains)
    with pytest.raises(KeyboardInterrupt):
        service.close(wait=True)

    assert interrupting.done()
    assert not service.started
    go.touch()
    service.start_service()
    assert service.wait_until_done(service.submit_job(make("patch_2"))) == "completed"


async def _interrupts_once_it_drains(desk: Desk) -> asyncio.Task[None]:
    async def interrupt() -> None:
        own = desk.own
        assert own is not None
        await eventually(lambda: own.dispatcher.is_draining)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    return asyncio.create_task(interrupt())


def test_many_threads_use_one_handler(handler: Handler, make: Make) -> None:
    service = handler()
    service.start_service()
    configs = [make(f"patch_{number}", passes=1, frequencies=1) for number in range(8)]

    with ThreadPoolExecutor(6) as pool:
        ids = list(pool.map(service.submit_job, configs))
        ends = list(pool.map(service.wait_until_done, ids))

    assert ids == [config.jobid for config in configs]
    assert ends == ["completed"] * 8
    assert len(service.manager.jobs) == 8


async def test_a_handler_works_where_a_loop_runs(handler: Handler, make: Make) -> None:
    service = handler()
    service.start_service()

    job_id = await service.submit_job(make("patch_1"))
    status = service.wait_until_done(job_id)

    assert status == "completed"
    await service.stop_service()
    assert not service.started


@ends_in_order
def test_a_program_that_closes_nothing_ends_in_order(make: Make, tmp_path: Path, edt: str) -> None:
    config = make("patch_1", waits_at="Adaptive Pass 1", until=str(tmp_path / "go"))
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from jobmgr.compat.pyedb import JobManagerHandler, create_hfss_config\n"
        "handler = JobManagerHandler(port=0)\n"
        "handler.resource_limits.max_cpu_percent, handler.resource_limits.min_memory_gb = 100, 0\n"
        "handler.start_service()\n"
        f"config = create_hfss_config({config.project_path!r}, jobid='patch_1', ansys_edt_path={edt!r})\n"
        "print(handler.submit_job(config))\n"
        "while handler.manager.jobs['patch_1'].status != 'running':\n"
        "    time.sleep(0.02)\n"
    )

    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=60, check=False,
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "patch_1\n", "")
    assert not (tmp_path / "home" / "service.json").exists()
    (tmp_path / "go").touch()
    assert asyncio.run(_end("patch_1")) == "completed"


def test_a_fork_keeps_neither_the_database_nor_the_port(home: Path) -> None:
    script = """
import fcntl, os, signal, socket
from urllib.parse import urlsplit
from jobmgr.compat.pyedb import JobManagerHandler
handler = JobManagerHandler(port=0)
handler.start_service()
forked, forks = os.pipe()
child = os.fork()
if child == 0:
    os.write(forks, b"%d" % len(handler.manager.jobs))
    signal.pause()
assert os.read(forked, 1) == b"0"
where = urlsplit(handler.url)
try:
    handler.close()
    with socket.socket() as caller:
        print(caller.connect_ex((where.hostname, where.port)) != 0)
    with open(os.path.join(os.environ["JOBMGR_HOME"], "jobs.db.lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("True\n", "")


async def _end(job_id: str) -> str:
    async with JobManager() as manager:
        return str((await manager.wait(job_id, 60)).status)


def test_who_waits_is_warned_once_of_a_limit(
    handler: Handler, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    service = handler()
    service.resource_limits.min_disk_gb = 1_000_000
    service.start_service()
    job_id = service.submit_job(make("patch_1"))

    def warnings() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    with ThreadPoolExecutor(2) as pool:
        one, all_of_them = (
            pool.submit(service.wait_until_done, job_id),
            pool.submit(service.wait_until_all_done),
        )
        asyncio.run(eventually(lambda: len(warnings()) == 2))
        why = service.manager.jobs[job_id].why
        service.resource_limits.min_disk_gb = 0
        assert (one.result(), all_of_them.result()) == ("completed", None)

    assert "the limit min_disk_gb asks for 1e+06 GB" in why
    assert len(warnings()) == 2
    for text in warnings():
        assert text.startswith("patch_1 waits: ")
        assert "the limit min_disk_gb asks for 1e+06 GB" in text


def test_that_others_are_before_it_is_no_warning(
    handler: Handler, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "jobmgr.compat")
    go = tmp_path / "go"
    service = handler()
    service.resource_limits.max_concurrent_jobs = 1
    service.start_service()
    service.submit_job(make("patch_1", begins_after=str(go)))
    service.submit_job(make("patch_2"))

    def told() -> list[tuple[str, str]]:
        return [
            (record.levelname, text) for record in caplog.records if "waits" in (text := record.getMessage())
        ]

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(service.wait_until_done, "patch_2")
        asyncio.run(eventually(told))
        go.touch()
        assert done.result() == "completed"

    ((level, text),) = told()
    assert (level, text.startswith("patch_2 waits: ")) == ("INFO", True)
    assert "1 slot, all in use" in text


def test_what_is_wrong_is_raised_by_the_start(handler: Handler, edt: str, home: Path) -> None:
    first = handler()
    first.start_service()
    port = int(first.url.rpartition(":")[2])
    second = JobManagerHandler(port=port)

    # The database is not the same, and the port is.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOBMGR_HOME", str(home / "other"))
        with pytest.raises(AddressUnavailable, match=f"{port} .*choose another host or port"):
            second.start_service()

    assert not second.started
    assert first.started


def test_host_and_port_are_those_of_the_service_that_has_the_jobs(handler: Handler) -> None:
    first, second = handler(), JobManagerHandler(port=4711)
    assert (second.host, second.port, second.url) == ("localhost", 4711, "http://localhost:4711")
    first.start_service()

    second.start_service()
    host, port = second.host, second.port
    second.close()

    assert f"http://{host}:{port}" == first.url
    assert (first.port, second.port) == (port, 4711)


def test_host_and_port_may_be_set_before_the_start(handler: Handler) -> None:
    service = handler()
    (port,) = free(1)

    service.host, service.port = "127.0.0.1", port
    before = service.url
    service.start_service()

    assert before == service.url == f"http://127.0.0.1:{port}"


def test_limits_are_changed_by_a_script_without_a_loop(handler: Handler) -> None:
    service = handler()
    service.start_service()

    told = asyncio.run(service.manager.edit_concurrent_limits({"max_concurrent_jobs": 4}))

    assert told is not None
    assert (told["max_concurrent_jobs"], service.resource_limits.max_concurrent_jobs) == (4, 4)


def test_other_limits_are_set_as_a_whole(handler: Handler) -> None:
    service = handler()
    first = service.resource_limits
    service.resource_limits = ResourceLimits(max_concurrent_jobs=3, min_memory_gb=0, min_disk_gb=0)
    service.start_service()
    before = service.manager.job_pool.get_queue_stats()["max_concurrent"]

    service.resource_limits = ResourceLimits(max_concurrent_jobs=4, min_memory_gb=0, min_disk_gb=0)
    whole = service.manager.job_pool.get_queue_stats()["max_concurrent"]
    service.manager.resource_limits.max_concurrent_jobs = 5
    one = service.manager.job_pool.get_queue_stats()["max_concurrent"]
    first.max_concurrent_jobs = 9
    with pytest.raises(InvalidConfig, match="max_concurrent_jobs"):
        service.resource_limits = ResourceLimits(max_concurrent_jobs=0)

    assert (before, whole, one) == (3, 4, 5)
    assert service.manager.job_pool.get_queue_stats()["max_concurrent"] == 5
    assert service.manager.job_pool.resource_limits is service.resource_limits


def test_jobs_and_pool_say_what_they_are(handler: Handler, make: Make) -> None:
    service = handler()
    jobs, pool = service.manager.jobs, service.manager.job_pool
    assert (repr(jobs), repr(pool)) == (
        "<Records: its manager does not run>",
        "<JobPoolManager: its manager does not run>",
    )
    service.start_service()
    service.wait_until_done(service.submit_job(make("patch_1")))

    assert repr(jobs) == "<Records: 1 job>"
    assert repr(pool) == "<JobPoolManager: 0 queued, 0 running, at most 2>"


def test_without_a_service_nothing_is_submitted(handler: Handler, make: Make) -> None:
    with pytest.raises(NotRunning, match="start_service"):
        handler().submit_job(make("patch_1"))


def test_an_unknown_job_is_not_waited_for(handler: Handler) -> None:
    service = handler()
    service.start_service()

    with pytest.raises(JobNotFound):
        service.wait_until_done("nobody")


def test_a_handler_leaves_no_thread(handler: Handler) -> None:
    before = set(threading.enumerate())

    for _ in range(2):
        service = handler()
        service.start_service()
        service.close()

    assert set(threading.enumerate()) - before == set()


# Configurations


def test_a_configuration_has_what_is_not_said(handler: Handler, edt: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "my antenna.1.aedt")

    config = handler().create_simulation_config(project, scheduler_type="none", cpu_cores=16)
    other = handler().create_simulation_config(project, scheduler_type="none")

    assert config.ansys_edt_path == edt
    assert config.jobid.startswith("my_antenna_1_")
    assert config.jobid != other.jobid
    assert config.generate_machinelist_string() == "list=localhost:16:16:90%"
    assert config.user == "unknown"


def test_cores_reach_a_scheduler(handler: Handler, tmp_path: Path) -> None:
    config = handler().create_simulation_config("/there/antenna.aedt", scheduler_type="slurm", cpu_cores=16)

    assert config.scheduler_type is SchedulerType.SLURM
    assert "--ntasks=16" in config.generate_slurm_script()


@pytest.mark.parametrize("scheduler", ["slurm", "lsf", "pbs"])
def test_a_scheduler_is_asked_for_no_memory(handler: Handler, scheduler: str) -> None:
    config = handler().create_simulation_config("/there/antenna.aedt", scheduler_type=scheduler, cpu_cores=16)

    directives = [line for line in config.generate_scheduler_script().splitlines() if line.startswith("#")]
    assert [line for line in directives if "16" in line]
    assert [line for line in directives if "mem" in line.lower() or " -M " in line] == []


def test_the_scheduler_of_this_machine_is_taken_if_none_is_named(
    home: Path, edt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    here = JobManagerHandler()
    (tmp_path / "bhosts").write_text("#!/bin/sh\n")
    (tmp_path / "bhosts").chmod(0o755)
    there = JobManagerHandler()

    assert here.scheduler_type is SchedulerType.NONE
    assert there.scheduler_type is SchedulerType.LSF
    assert there.create_simulation_config("/there/antenna.aedt").scheduler_type is SchedulerType.LSF


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"project_path": ""}, "project_path"),
        ({"project_path": "antenna.txt"}, "project_path"),
        ({"scheduler_type": "sge"}, "scheduler_type"),
        ({"cpu_cores": 0}, "^cpu_cores"),
        ({"cpu_cores": "16 cores"}, "^cpu_cores"),
        ({"jobid": "a b"}, "jobid"),
    ],
)
def test_what_makes_no_sense_is_named(handler: Handler, fields: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"project_path": "/there/a.aedt", "scheduler_type": "lsf", **fields}

    with pytest.raises(ValueError, match=said):
        handler().create_simulation_config(**given)


def test_a_project_that_is_not_there_is_named(handler: Handler) -> None:
    with pytest.raises(PathNotFound, match="project_path"):
        handler().create_simulation_config("/nowhere/antenna.aedt", scheduler_type="none")


def test_the_program_is_that_of_the_edb_or_the_version_or_the_newest(
    home: Path, edt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert JobManagerHandler().ansys_path == edt
    assert JobManagerHandler(version="2025.2").ansys_path == edt
    assert (
        JobManagerHandler(edb=SimpleNamespace(base_path="/ansys/v242")).ansys_path == "/ansys/v242/ansysedt"
    )
    with pytest.raises(ValueError, match="241"):
        JobManagerHandler(version="241")

    monkeypatch.delenv("ANSYSEM_ROOT252")
    assert JobManagerHandler().ansys_path is None

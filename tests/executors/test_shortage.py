"""A system that lets nothing be started for a while: attempts are given back, said why, and run later."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobmgr.executors import process
from jobmgr.executors.protocol import Ended, Launch, NeverRan
from tests.patience import TIMEOUT_S

from .conftest import Service, Site

_CONTROLLER = Path("/sys/fs/cgroup/pids")


@contextlib.contextmanager
def no_more_processes(pid: int) -> Iterator[None]:
    """Let the process have no further children: by RLIMIT_NPROC, or for root, whom that does not bind, by a cgroup."""
    if os.getuid() != 0:
        limits = resource.prlimit(pid, resource.RLIMIT_NPROC)
        resource.prlimit(pid, resource.RLIMIT_NPROC, (1, limits[1]))
        try:
            yield
        finally:
            resource.prlimit(pid, resource.RLIMIT_NPROC, limits)
        return
    group = _CONTROLLER / f"jobmgr-test-{pid}"
    former = _group_of(pid)
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group that limits processes can be made: {error}")
    (group / "pids.max").write_text("1")
    (group / "cgroup.procs").write_text(str(pid))
    try:
        yield
    finally:
        _dissolve(group, former)


def _dissolve(group: Path, former: Path) -> None:
    # A member may have a child while it is moved, and one that ends stays for a moment.
    deadline = time.monotonic() + TIMEOUT_S
    while group.exists():
        for member in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (former / "cgroup.procs").write_text(member)
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _group_of(pid: int) -> Path:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    paths = [line.split(":", 2)[2] for line in lines if line.split(":", 2)[1] == "pids"]
    return _CONTROLLER / (paths[0] if paths else "/").lstrip("/")


async def _given_back(service: Service, launch: Launch) -> NeverRan:
    await service.executor.launch([launch])
    report = await service.final(launch)
    assert isinstance(report, NeverRan), report
    return report


async def _holder_pids(site: Site, service: Service) -> tuple[int, int]:
    """The keeper that has just worked, and its warden."""
    launch = site.shell("exit 0")
    assert (await service.run(launch)).exit_code == 0
    holder = service.holder(launch)
    return holder["pid"], holder["warden"]["pid"]


async def test_command_that_the_system_lets_nobody_start_is_postponed(site: Site, service: Service) -> None:
    keeper, _ = await _holder_pids(site, service)

    with no_more_processes(keeper):
        report = await _given_back(service, site.shell("exit 3"))

    assert report.error is None
    assert report.shortage is not None
    assert "Resource temporarily unavailable" in report.shortage
    assert "/bin/sh" in report.shortage
    again = await service.run(site.shell("exit 3"))
    assert again.exit_code == 3


async def test_warden_that_may_fork_no_keeper_postpones_and_is_replaced(site: Site, service: Service) -> None:
    _, warden = await _holder_pids(site, service)
    busy = site.shell("while [ ! -e go ]; do sleep 0.01; done")
    await service.executor.launch([busy])
    await service.started(busy)

    with no_more_processes(warden):
        report = await _given_back(service, site.shell("exit 3"))
        again = await service.run(site.shell("exit 3"))

    assert report.error is None
    assert report.shortage is not None
    assert "fork no more keepers" in report.shortage
    assert again.exit_code == 3
    (service.run_dir(busy) / "go").touch()
    assert isinstance(await service.final(busy), Ended)


async def test_warden_that_does_not_answer_is_named_as_the_reason_and_replaced(
    site: Site, service: Service
) -> None:
    _, warden = await _holder_pids(site, service)
    busy = site.shell("while [ ! -e go ]; do sleep 0.01; done")
    await service.executor.launch([busy])
    await service.started(busy)
    os.kill(warden, signal.SIGSTOP)

    try:
        report = await _given_back(service, site.shell("exit 3"))
        again = await service.run(site.shell("exit 4"))
    finally:
        os.kill(warden, signal.SIGCONT)

    assert report.shortage == "no keeper could be started by the warden: no answer within 10 s"
    assert again.exit_code == 4
    (service.run_dir(busy) / "go").touch()
    assert isinstance(await service.final(busy), Ended)


@pytest.mark.parametrize("largest_file_bytes", [0, 1000])
async def test_keeper_that_may_write_no_files_is_replaced(
    site: Site, service: Service, largest_file_bytes: int
) -> None:
    keeper, _ = await _holder_pids(site, service)
    resource.prlimit(keeper, resource.RLIMIT_FSIZE, (largest_file_bytes, largest_file_bytes))

    report = await _given_back(service, site.shell("exit 3"))

    assert report.error is None
    assert report.shortage is not None
    assert "File too large" in report.shortage
    again = site.shell("exit 3")
    assert (await service.run(again)).exit_code == 3
    assert service.holder(again)["pid"] != keeper


async def test_keeper_that_may_start_nothing_is_replaced(site: Site, service: Service) -> None:
    keeper, _ = await _holder_pids(site, service)

    with no_more_processes(keeper):
        await _given_back(service, site.shell("exit 3"))
        again = site.shell("exit 3")

        assert (await service.run(again)).exit_code == 3

    assert service.holder(again)["pid"] != keeper


# In a namespace of process ids whose first process has ended, nothing can be forked: ENOMEM. Source: pid_namespaces(7).
_WITHOUT_PROCESSES = """
import os, sys
from jobmgr.executors import command
CLONE_NEWPID = 0x20000000
import ctypes
assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWPID) == 0
first = os.fork()
if first == 0:
    os._exit(0)
os.waitpid(first, 0)
try:
    command.start(["/bin/true"], {}, "/", 1, 2)
except command.SpawnFailed as failure:
    print(failure.code, failure.message)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root may make a namespace of process ids")
def test_start_without_memory_for_a_process_is_a_shortage() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_PROCESSES], capture_output=True, text=True, check=True
    )

    assert done.stdout == "no_resources '/bin/true' could not be started: Cannot allocate memory\n"


def test_a_process_can_be_started_where_nothing_is_short() -> None:
    assert process.can_start()

"""Who belongs to a work directory, seen without disturbing anybody."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobmgr.executors import census, directories, probe, process, sockets
from jobmgr.executors.census import Holder
from jobmgr.executors.crew import socket_directory
from jobmgr.executors.directories import Budget
from tests.executors.conftest import Service, Site, eventually


def holders(site: Site) -> tuple[Holder, Holder]:
    """The warden and the keeper of a site that has one of each."""
    found = census.crowd(site.work).holders
    (warden,) = [holder for holder in found if holder.is_warden]
    (keeper,) = [holder for holder in found if not holder.is_warden]
    return warden, keeper


async def test_warden_and_keeper_are_told_apart_and_whom_they_talk_to(site: Site, service: Service) -> None:
    launch = site.shell("sleep 60")
    await service.executor.launch([launch])
    await service.started(launch)

    warden, keeper = holders(site)

    assert sorted((warden.pid, keeper.pid)) == sorted(site.holders())
    assert keeper.parent == warden.pid
    assert keeper.socket == service.holder(launch)["socket"]
    assert (warden.connections, keeper.connections) == (1, 1)
    assert (keeper.is_findable, keeper.is_stopped) == (True, False)
    assert census.crowd(site.work).deserted == ()
    await service.executor.cancel(launch.token, 1.0)
    await service.final(launch)


async def test_a_look_is_not_noticed_by_the_keeper(site: Site, service: Service) -> None:
    launch = site.shell("sleep 60")
    await service.executor.launch([launch])
    await service.started(launch)
    _, keeper = holders(site)
    before = sockets.opened_by(keeper.pid)

    for _ in range(3):
        census.crowd(site.work)

    # A connection that was accepted would have taken the place of the service's.
    await service.executor.cancel(launch.token, 1.0)
    await service.final(launch)
    assert sockets.opened_by(keeper.pid) == before


async def test_a_keeper_without_service_is_stopped_and_hidden(site: Site, service: Service) -> None:
    launch = site.shell("sleep 60")
    await service.executor.launch([launch])
    await service.started(launch)
    await service.executor.stop()
    await eventually(lambda: not any(holder.connections for holder in holders(site)))
    _, keeper = holders(site)

    os.kill(keeper.pid, signal.SIGSTOP)
    stopped = await eventually(lambda: next((one for one in holders(site) if one.is_stopped), None))
    assert keeper.socket is not None
    os.unlink(keeper.socket)
    _, hidden = holders(site)
    os.kill(keeper.pid, signal.SIGCONT)

    assert stopped.pid == keeper.pid
    assert (hidden.connections, hidden.is_findable) == (0, False)
    process.send_signals(site.commands(), signal.SIGKILL)
    await eventually(lambda: not site.commands())


async def test_sockets_of_killed_processes_are_left_over(site: Site, service: Service) -> None:
    launch = site.shell("true")
    await service.run(launch)
    warden, keeper = holders(site)

    os.kill(warden.pid, signal.SIGKILL)
    os.kill(keeper.pid, signal.SIGKILL)

    await eventually(lambda: set(census.crowd(site.work).deserted) == {warden.socket, keeper.socket})
    assert census.crowd(site.work).holders == ()


def test_nothing_is_found_where_nothing_ever_ran(tmp_path: Path) -> None:
    work = tmp_path / "work"

    assert census.crowd(work) == census.Crowd((), ())
    assert census.carriers(work) == []
    assert list(tmp_path.iterdir()) == []


def test_a_long_work_directory_has_its_sockets_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    elsewhere = socket_directory(long)
    monkeypatch.setattr(tempfile, "tempdir", str(long))

    assert socket_directory(Path("/srv/jobs")) == Path("/srv/jobs/sockets")
    assert len(os.fsencode(elsewhere)) < 85
    # Whoever looks for them may have another TMPDIR, or a long one.
    assert socket_directory(long) == elsewhere


@contextmanager
def carrier_of(work: Path) -> Iterator[None]:
    """A process that was started for an attempt in another work directory."""
    marks = {process.ATTEMPT_VARIABLE: "other", process.RUN_VARIABLE: f"{work}/runs/job/1"}
    with subprocess.Popen(["sleep", "60"], env={**os.environ, **marks}) as other:
        yield
        other.kill()


async def test_carriers_are_the_processes_of_this_work_directory_only(
    site: Site, service: Service, tmp_path: Path
) -> None:
    launch = site.shell("sleep 60 & wait")
    await service.executor.launch([launch])
    await service.started(launch)
    with carrier_of(tmp_path / "elsewhere"):
        found = await eventually(lambda: two if len(two := census.carriers(site.work)) == 2 else None)

    assert {carrier.token for carrier in found} == {launch.token}
    assert {carrier.run for carrier in found} == {str(service.run_dir(launch))}
    assert all(carrier.is_alive for carrier in found)
    await service.executor.cancel(launch.token, 1.0)
    await service.final(launch)
    await eventually(lambda: not any(carrier.is_alive for carrier in found))


def test_listening_and_connected_sockets_are_counted(tmp_path: Path) -> None:
    path = str(tmp_path / "with blank")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(path)
        bound_only = sockets.listeners()
        listener.listen()
        alone = sockets.listeners()[path]
        caller.connect(path)
        called = sockets.listeners()[path]

        assert path not in bound_only
        assert (alone.connections, called.connections) == (0, 1)
        assert alone.inode in sockets.opened_by(os.getpid())


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Run directories of three attempts, with a file of 8 KiB each, and things that are none."""
    for name in ("a/1", "a/2", "b/1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "stdout").write_bytes(b"x" * 8192)
    (tmp_path / "a" / "notes").mkdir()
    (tmp_path / "file").touch()
    return tmp_path


def test_attempts_are_read_from_directories(runs: Path) -> None:
    found = directories.scan(runs, Budget())
    extent = directories.measure(runs, found.attempts, Budget())

    assert found == directories.Found(frozenset({("a", 1), ("a", 2), ("b", 1)}))
    assert (extent.files, extent.is_cut) == (3, False)
    assert extent.size_bytes >= 3 * 8192


def test_a_look_that_costs_too_much_is_cut(runs: Path) -> None:
    assert directories.scan(runs, Budget(entries=1)).is_cut
    assert directories.scan(runs, Budget(limit_s=0.0)).is_cut
    assert directories.measure(runs, frozenset({("a", 1), ("b", 1)}), Budget(entries=1)).is_cut


def test_the_probe_of_links_leaves_nothing(tmp_path: Path) -> None:
    assert probe.decides_once(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_probe_that_cannot_write_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(NotADirectoryError):
        probe.decides_once(tmp_path / "file")

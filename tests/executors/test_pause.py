"""Pausing: the whole tree stands still, its time limit too, whoever holds it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

from jobmgr.executors import process
from jobmgr.executors.protocol import Launch, Lost, Paused, Resumed

from .conftest import Service, Site, eventually

COUNTING = "while :; do echo x; sleep 0.01; done"


async def _running(service: Service, launch: Launch) -> Launch:
    await service.executor.launch([launch])
    await service.started(launch)
    await eventually(lambda: b"x" in service.output(launch))
    return launch


async def _paused(service: Service, launch: Launch) -> None:
    await service.executor.pause(launch.token)
    await eventually(lambda: Paused(launch.token) in service.reports)


async def _resumed(service: Service, launch: Launch) -> None:
    await service.executor.resume(launch.token)
    await eventually(lambda: Resumed(launch.token) in service.reports)


async def _stands_still(service: Service, launch: Launch) -> bool:
    before = service.output(launch)
    await asyncio.sleep(0.2)
    return service.output(launch) == before


async def test_the_whole_tree_stops_and_goes_on(site: Site, service: Service) -> None:
    launch = await _running(service, site.shell(f"({COUNTING}) & setsid sh -c '{COUNTING}' & {COUNTING}"))

    await _paused(service, launch)

    # D: a shell that waits inside the kernel for its child to become a command, which is stopped before that.
    assert {stat.state for stat in site.commands()} <= {"T", "D"}
    assert len(site.commands()) >= 3
    assert await _stands_still(service, launch)
    await _resumed(service, launch)
    size = len(service.output(launch))
    await eventually(lambda: len(service.output(launch)) > size)
    await service.executor.cancel(launch.token, 5.0)
    await service.record(launch)


# A child before its exec, for which its parent waits inside the kernel: what vfork does, without sharing memory.
IN_VFORK = """
import ctypes, os, platform, signal, time
CLONE_VFORK = 0x4000
clone = {"x86_64": 56, "aarch64": 220}[platform.machine()]
print("x", flush=True)
if ctypes.CDLL(None).syscall(clone, CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0) == 0:
    while not os.path.exists("go"):
        time.sleep(0.01)
"""


async def test_a_parent_that_waits_in_vfork_for_a_stopped_child_stands_still(
    site: Site, service: Service
) -> None:
    launch = await _running(service, site.launch_of(sys.executable, "-c", IN_VFORK))
    await eventually(lambda: {stat.state for stat in site.commands()} == {"D", "S"})

    await _paused(service, launch)

    (service.run_dir(launch) / "go").touch()
    assert {stat.state for stat in site.commands()} == {"D", "T"}
    await _resumed(service, launch)
    assert (await service.record(launch)).exit_code == 0


async def test_a_tree_that_forks_all_the_time_stops(site: Site, service: Service) -> None:
    forking = "f() { while :; do sh -c : & echo x; done; }; f & f & f"
    launch = await _running(service, site.shell(forking))

    await _paused(service, launch)

    assert await _stands_still(service, launch)
    await service.executor.cancel(launch.token, 0.2)
    await service.record(launch)


async def test_walltime_stands_still_while_paused(site: Site, service: Service) -> None:
    launch = await _running(service, site.shell(f"{COUNTING} & sleep 1; exit 4", walltime_s=5.0))
    await _paused(service, launch)
    await asyncio.sleep(5.2)

    await _resumed(service, launch)

    record = await service.record(launch)
    assert (record.exit_code, record.ended_by) == (4, "self")


async def test_walltime_goes_on_after_a_pause(site: Site, service: Service) -> None:
    launch = await _running(service, site.shell(COUNTING, walltime_s=4.0))
    await _paused(service, launch)

    await _resumed(service, launch)

    assert (await service.record(launch)).ended_by == "walltime"


async def test_a_paused_tree_is_cancelled(site: Site, service: Service) -> None:
    launch = await _running(service, site.shell(f"trap 'exit 9' TERM; {COUNTING}"))
    await _paused(service, launch)

    await service.executor.cancel(launch.token, 20.0)

    record = await service.record(launch)
    assert (record.exit_code, record.ended_by) == (9, "cancel")


async def test_the_death_of_a_paused_command_is_its_end(site: Site, service: Service) -> None:
    launch = await _running(service, site.shell(f"{COUNTING} & {COUNTING}"))
    await _paused(service, launch)
    session = {stat.session for stat in site.commands()}

    os.kill(session.pop(), signal.SIGKILL)

    record = await service.record(launch)
    assert (record.signal, record.ended_by) == (signal.SIGKILL, "self")
    assert record.leftovers >= 1
    assert site.commands() == []


async def test_resume_is_answered_though_nothing_was_paused(site: Site, service: Service) -> None:
    launch = await _running(service, site.shell(COUNTING))

    await _resumed(service, launch)

    await service.executor.cancel(launch.token, 5.0)
    assert (await service.record(launch)).ended_by == "cancel"


async def test_the_next_service_is_told_and_can_resume(site: Site, service: Service) -> None:
    launch = await _running(service, site.shell(f"{COUNTING}"))
    await _paused(service, launch)
    await service.executor.stop()

    other = await site.service()
    await other.executor.recover([launch])

    await eventually(lambda: Paused(launch.token) in other.reports)
    assert await _stands_still(other, launch)
    await _resumed(other, launch)
    assert not await _stands_still(other, launch)
    await other.executor.cancel(launch.token, 5.0)
    await other.record(launch)


async def test_the_warden_keeps_paused_what_a_dead_keeper_paused(site: Site, service: Service) -> None:
    launch = await _running(service, site.shell(COUNTING, walltime_s=3600))
    await _paused(service, launch)
    service.reports.remove(Paused(launch.token))

    os.kill(service.holder(launch)["pid"], signal.SIGKILL)

    await eventually(lambda: Paused(launch.token) in service.reports)
    assert {stat.state for stat in site.commands()} == {"T"}
    await _resumed(service, launch)
    assert not await _stands_still(service, launch)
    await service.executor.cancel(launch.token, 5.0)
    assert (await service.record(launch)).ended_by == "cancel"


async def test_a_wish_that_finds_nobody_is_told_to_the_holder_reached_later(
    site: Site, service: Service, tmp_path: Path
) -> None:
    launch = await _running(service, site.shell(COUNTING))
    keeper = service.holder(launch)
    os.kill(keeper["pid"], signal.SIGSTOP)
    os.kill(keeper["pid"], signal.SIGKILL)
    await eventually(lambda: not process.is_alive(keeper["pid"], keeper["start_ticks"]))

    await service.executor.pause(launch.token)

    await eventually(lambda: Paused(launch.token) in service.reports)
    await service.executor.cancel(launch.token, 5.0)
    await service.record(launch)


def _is_gone(pid: int, ticks: int) -> bool:
    return not process.is_alive(pid, ticks)


async def _orphan(service: Service, launch: Launch) -> None:
    """Kill warden and keeper, so that nobody holds the attempt."""
    holder = service.holder(launch)
    for pid in (holder["warden"]["pid"], holder["pid"]):
        ticks = process.start_ticks(pid)
        os.kill(pid, signal.SIGKILL)
        await eventually(partial(_is_gone, pid, ticks))


async def test_what_is_paused_and_has_lost_keeper_and_warden_can_go_on(site: Site, service: Service) -> None:
    launch = await _running(service, site.shell("echo x; while [ ! -e go ]; do sleep 0.01; done"))
    await _paused(service, launch)
    (service.run_dir(launch) / "go").touch()
    await _orphan(service, launch)

    await _resumed(service, launch)

    assert isinstance(await service.final(launch), Lost)


async def test_the_next_service_is_told_of_a_pause_whose_keeper_and_warden_are_dead(
    site: Site, service: Service
) -> None:
    launch = await _running(service, site.shell(COUNTING))
    await _paused(service, launch)
    await service.executor.stop()
    await _orphan(service, launch)

    other = await site.service()
    await other.executor.recover([launch])

    await eventually(lambda: Paused(launch.token) in other.reports)
    await other.executor.cancel(launch.token, 5.0)
    assert isinstance(await other.final(launch), Lost)


async def test_a_command_without_keeper_and_warden_can_be_paused(site: Site, service: Service) -> None:
    launch = await _running(service, site.shell(f"({COUNTING}) & {COUNTING}"))
    await _orphan(service, launch)

    await _paused(service, launch)

    assert await _stands_still(service, launch)
    await _resumed(service, launch)
    assert not await _stands_still(service, launch)
    await service.executor.cancel(launch.token, 5.0)
    assert isinstance(await service.final(launch), Lost)


async def test_a_stopped_process_that_an_orphaned_command_left_is_told_of(
    site: Site, service: Service
) -> None:
    launch = await _running(
        service, site.shell("sleep 60 & kill -STOP $!; echo x; while [ ! -e go ]; do :; done")
    )
    await _orphan(service, launch)
    (service.run_dir(launch) / "go").touch()

    await eventually(lambda: Paused(launch.token) in service.reports)

    await service.executor.cancel(launch.token, 5.0)
    assert isinstance(await service.final(launch), Lost)

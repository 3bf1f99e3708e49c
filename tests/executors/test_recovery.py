"""What becomes of attempts when the service, a keeper, the warden, or all of them die."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from jobmgr.domain.job import Origin
from jobmgr.executors import evidence, gate, process
from jobmgr.executors.protocol import RAN_BEFORE, Ended, Launch, Lost, NeverRan, Paused, Started, Unreachable

from .conftest import Service, Site, eventually

WAIT_FOR_GO = "echo ready; while [ ! -e go ]; do sleep 0.02; done"
STUBBORN = "trap '' TERM; while :; do sleep 0.05; done"


async def _running(service: Service, launch: Launch) -> None:
    await service.executor.launch([launch])
    await service.started(launch)
    await eventually(lambda: b"ready" in service.output(launch))


def _go(service: Service, launch: Launch) -> None:
    (service.run_dir(launch) / "go").touch()


async def _kill(pid: int) -> None:
    """Kill a keeper, a warden or a command that the test started, and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: (stat := process.read_stat(pid)) is None or stat.state == "Z")


async def _kill_holders(service: Service, launch: Launch) -> None:
    """First the warden, so that nobody takes over."""
    holder = service.holder(launch)
    await _kill(holder["warden"]["pid"])
    await _kill(holder["pid"])


# The service goes and comes


async def test_running_attempt_is_recovered_and_followed_to_its_end(site: Site) -> None:
    first = await site.service()
    launch = site.shell(f"{WAIT_FOR_GO}; exit 3")
    await _running(first, launch)
    started = await first.started(launch)
    await first.executor.stop()
    second = await site.service()

    await second.executor.recover([launch])

    assert await second.started(launch) == started
    _go(second, launch)
    assert (await second.record(launch)).exit_code == 3
    assert first.finals() == []


async def test_attempt_that_ended_meanwhile_is_recovered_from_its_record(site: Site) -> None:
    first = await site.service()
    launch = site.shell(f"{WAIT_FOR_GO}; exit 4")
    await _running(first, launch)
    await first.executor.stop()
    _go(first, launch)
    exit_file = first.control(launch) / "exit"
    await eventually(exit_file.exists)
    second = await site.service()

    await second.executor.recover([launch])

    assert [report.token for report in second.reports] == [launch.token]
    assert (await second.record(launch)).exit_code == 4


async def test_attempt_without_a_gate_never_runs(site: Site, service: Service) -> None:
    launch = site.shell("echo ran")

    await service.executor.recover([launch])

    assert await service.final(launch) == NeverRan(launch.token, None)
    await service.executor.launch([launch])
    await eventually(lambda: len(service.finals()) == 2)
    assert service.finals()[1] == NeverRan(launch.token, None)
    assert service.output(launch) == b""


async def test_directory_without_its_token_never_runs(site: Site, service: Service) -> None:
    launch = site.shell("echo ran")
    service.control(launch).mkdir(parents=True)
    (service.control(launch) / "token").touch()

    await service.executor.recover([launch])

    assert await service.final(launch) == NeverRan(launch.token, None)


async def test_void_gate_is_recovered_as_never_ran(site: Site, service: Service) -> None:
    launch = site.shell("echo ran")
    gate.void(str(service.control(launch)), launch.token, "test")

    await service.executor.recover([launch])

    assert await service.final(launch) == NeverRan(launch.token, None)


async def test_many_attempts_are_recovered_at_once(site: Site) -> None:
    first = await site.service()
    launches = [site.shell(f"{WAIT_FOR_GO}; exit {number}") for number in range(20)]
    await first.executor.launch(launches)
    for launch in launches:
        await first.started(launch)
    await first.executor.stop()
    second = await site.service()

    await second.executor.recover(launches)

    for number, launch in enumerate(launches):
        _go(second, launch)
        assert (await second.record(launch)).exit_code == number


async def test_recovered_attempt_can_be_cancelled(site: Site) -> None:
    first = await site.service()
    launch = site.shell(f"{WAIT_FOR_GO}; exit 3")
    await _running(first, launch)
    await first.executor.stop()
    second = await site.service()
    await second.executor.recover([launch])

    await second.executor.cancel(launch.token, 20.0)

    record = await second.record(launch)
    assert (record.ended_by, record.signal) == ("cancel", signal.SIGTERM)


async def test_walltime_is_kept_without_a_service(site: Site) -> None:
    first = await site.service()
    launch = site.shell("echo ready; exec sleep 60", walltime_s=0.5)
    await _running(first, launch)

    await first.executor.stop()

    record = await eventually(lambda: gate.read_exit(str(first.control(launch))))
    assert (record["ended_by"], record["signal"]) == ("walltime", signal.SIGTERM)
    await eventually(lambda: not site.holders())


async def test_holders_end_when_the_service_goes_and_nothing_runs(site: Site) -> None:
    service = await site.service()
    await service.executor.launch([site.shell(":") for _ in range(4)])
    await eventually(lambda: len(service.finals()) == 4)

    await service.executor.stop()

    await eventually(lambda: not site.holders())
    assert list((site.work / "sockets").iterdir()) == []


async def test_newer_service_takes_an_attempt_from_an_older_one(site: Site) -> None:
    older = await site.service()
    launch = site.shell(f"{WAIT_FOR_GO}; exit 3")
    await _running(older, launch)
    newer = await site.service()

    await newer.executor.recover([launch])

    await newer.started(launch)
    _go(newer, launch)
    assert (await newer.record(launch)).exit_code == 3


async def test_own_attempt_handed_in_again_is_told_again_once(site: Site, service: Service) -> None:
    launch = site.shell(f"{WAIT_FOR_GO}; exit 3")
    await _running(service, launch)

    await service.executor.recover([launch])

    await eventually(lambda: len(service.reports) == 2)
    assert service.reports[0] == service.reports[1]
    _go(service, launch)
    assert (await service.record(launch)).exit_code == 3
    assert len(service.finals()) == 1


# A keeper dies


@pytest.mark.parametrize(
    ("end", "expected"), [("exit 6", (6, None)), ("kill -KILL $$", (None, signal.SIGKILL))]
)
async def test_true_status_is_recorded_although_the_keeper_died(
    site: Site, service: Service, end: str, expected: tuple[int | None, int | None]
) -> None:
    launch = site.shell(f"{WAIT_FOR_GO}; {end}")
    await _running(service, launch)

    await _kill(service.holder(launch)["pid"])

    _go(service, launch)
    record = await service.record(launch)
    assert (record.exit_code, record.signal) == expected
    assert record.ended_by == "self"
    assert len([report for report in service.reports if report.token == launch.token]) == 2


async def test_warden_cancels_for_a_dead_keeper(site: Site, service: Service) -> None:
    launch = site.shell("(setsid sleep 60 &); sleep 60 & echo ready; wait")
    await _running(service, launch)
    await _kill(service.holder(launch)["pid"])

    await service.executor.cancel(launch.token, 20.0)

    record = await service.record(launch)
    assert (record.ended_by, record.signal) == ("cancel", signal.SIGTERM)
    assert site.commands() == []


async def test_warden_keeps_the_time_limit_of_a_dead_keeper(site: Site, service: Service) -> None:
    launch = site.shell("echo ready; exec sleep 60", walltime_s=1.0)
    await _running(service, launch)

    await _kill(service.holder(launch)["pid"])

    record = await service.record(launch)
    assert (record.ended_by, record.signal) == ("walltime", signal.SIGTERM)


async def test_warden_bears_a_walltime_longer_than_a_poll_may_last(site: Site, service: Service) -> None:
    launch = site.shell(f"{WAIT_FOR_GO}; exit 6", walltime_s=30 * 86400.0)
    await _running(service, launch)
    await _kill(service.holder(launch)["pid"])

    await _is_told_by_the_warden(service, launch)

    _go(service, launch)
    record = await service.record(launch)
    assert (record.ended_by, record.exit_code) == ("self", 6)


async def test_warden_ends_what_the_command_of_a_dead_keeper_left(site: Site, service: Service) -> None:
    launch = site.shell(f"(setsid sh -c 'exec sleep 60' &); {WAIT_FOR_GO}; exit 2")
    await _running(service, launch)
    await _kill(service.holder(launch)["pid"])

    _go(service, launch)

    record = await service.record(launch)
    assert (record.exit_code, record.leftovers) == (2, 1)
    assert site.commands() == []


async def test_warden_continues_a_cancel_that_the_keeper_began(site: Site, service: Service) -> None:
    launch = site.shell("trap 'echo termed' TERM; echo ready; while :; do sleep 0.02; done")
    await _running(service, launch)
    await service.executor.cancel(launch.token, 1.0)
    await eventually(lambda: b"termed" in service.output(launch))

    await _kill(service.holder(launch)["pid"])

    record = await service.record(launch)
    assert (record.ended_by, record.signal) == ("cancel", signal.SIGKILL)


async def test_warden_grants_the_rest_of_the_grace_of_a_dead_keeper(site: Site, service: Service) -> None:
    launch = site.shell(
        "trap 'echo termed; while [ ! -e go ]; do sleep 0.02; done; exit 9' TERM; "
        "echo ready; while :; do sleep 0.02; done"
    )
    await _running(service, launch)
    await service.executor.cancel(launch.token, 3600.0)
    await eventually(lambda: b"termed" in service.output(launch))

    await _kill(service.holder(launch)["pid"])
    await _is_told_by_the_warden(service, launch)

    _go(service, launch)
    record = await service.record(launch)
    assert (record.ended_by, record.exit_code, record.signal) == ("cancel", 9, None)


async def _is_told_by_the_warden(service: Service, launch: Launch) -> None:
    """Have it tell of an attempt once more: it has looked for what is due by then."""
    told = len(service.reports)
    await service.executor.recover([launch])
    await eventually(lambda: service.reports[told:])


async def test_keepers_of_several_commands_die_at_once(site: Site, service: Service) -> None:
    launches = [site.shell(f"(setsid sleep 60 &); {WAIT_FOR_GO}; exit {number}") for number in range(5)]
    await service.executor.launch(launches)
    for launch in launches:
        await service.started(launch)

    for launch in launches:
        os.kill(service.holder(launch)["pid"], signal.SIGKILL)

    for number, launch in enumerate(launches):
        _go(service, launch)
        record = await service.record(launch)
        assert (record.exit_code, record.leftovers) == (number, 1)
    assert site.commands() == []


async def test_status_that_a_keeper_noted_survives_it(site: Site, service: Service) -> None:
    launch = site.shell(f"(trap '' TERM; echo ready; {STUBBORN}) & while [ ! -s stdout ]; do :; done; exit 5")
    await _running(service, launch)
    await eventually(lambda: _noted_exit_code(service, launch) == 5)

    await _kill(service.holder(launch)["pid"])

    record = await service.record(launch)
    assert (record.ended_by, record.exit_code) == ("self", 5)
    assert record.leftovers >= 1
    assert record.cpu_s is not None


def _noted_exit_code(service: Service, launch: Launch) -> int | None:
    decision = gate.read(str(service.control(launch)))
    note = gate.read_note(str(service.control(launch)), decision["nonce"]) if decision else None
    return note.get("exit_code") if note else None


async def test_service_that_comes_back_finds_the_attempt_at_the_warden(site: Site) -> None:
    first = await site.service()
    launch = site.shell(f"{WAIT_FOR_GO}; exit 3")
    await _running(first, launch)
    await first.executor.stop()
    await _kill(first.holder(launch)["pid"])
    second = await site.service()

    await second.executor.recover([launch])

    await second.started(launch)
    _go(second, launch)
    assert (await second.record(launch)).exit_code == 3


# The warden dies


async def test_keepers_go_on_without_their_warden(site: Site, service: Service) -> None:
    launch = site.shell(f"{WAIT_FOR_GO}; exit 3")
    await _running(service, launch)

    await _kill(service.holder(launch)["warden"]["pid"])

    _go(service, launch)
    assert (await service.record(launch)).exit_code == 3
    after = site.shell("exit 4")
    assert (await service.run(after)).exit_code == 4
    assert service.holder(after)["warden"]["pid"] != service.holder(launch)["warden"]["pid"]


async def test_command_without_keeper_and_warden_is_watched_and_then_lost(site: Site) -> None:
    first = await site.service()
    launch = site.shell(f"{WAIT_FOR_GO}; exit 3")
    await _running(first, launch)
    started = await first.started(launch)
    await first.executor.stop()
    await _kill_holders(first, launch)
    second = await site.service()

    await second.executor.recover([launch])

    assert await second.started(launch) == started
    assert second.finals() == []
    _go(second, launch)
    report = await second.final(launch)
    assert isinstance(report, Lost)
    assert str(first.holder(launch)["pid"]) in report.evidence


# A part of a job that has put its environment away, and the token with it.
_BARE_PART = "env -i /bin/sh -c 'while [ ! -e part ]; do /bin/sleep 0.02; done'"


async def _leave_bare_part(service: Service, launch: Launch) -> None:
    """Run it until only its bare part is left, without a holder."""
    await _running(service, launch)
    leader = int((await service.started(launch)).handle.partition("@")[0])
    await service.executor.stop()
    await _kill_holders(service, launch)
    await _kill(leader)


async def test_part_without_its_token_is_watched_to_its_end(site: Site) -> None:
    first = await site.service()
    launch = site.shell(f"{_BARE_PART} & {WAIT_FOR_GO}")
    await _leave_bare_part(first, launch)
    second = await site.service()

    await second.executor.recover([launch])

    try:
        await eventually(lambda: list(second.reports))
        assert [type(report) for report in second.reports] == [Started]
    finally:
        (second.run_dir(launch) / "part").touch()
    assert isinstance(await second.final(launch), Lost)


async def test_part_without_its_token_is_ended_by_a_cancel(site: Site) -> None:
    first = await site.service()
    launch = site.shell(f"{_BARE_PART} & echo $! > pid; {WAIT_FOR_GO}")
    await _leave_bare_part(first, launch)
    part = int((first.run_dir(launch) / "pid").read_text())
    second = await site.service()
    await second.executor.recover([launch])

    await second.executor.cancel(launch.token, 5.0)

    try:
        assert isinstance(await second.final(launch), Lost)
        assert part not in [stat.pid for stat in process.living_processes()]
    finally:
        (second.run_dir(launch) / "part").touch()


async def test_mark_of_a_keeper_at_another_attempt_is_no_evidence(site: Site, service: Service) -> None:
    former = site.shell(":")
    await service.run(former)
    (service.control(former) / "exit").unlink()
    later = site.shell(f"{_BARE_PART} & {WAIT_FOR_GO}; touch part; exit 3")
    await _running(service, later)
    assert service.holder(later)["pid"] == service.holder(former)["pid"]

    await service.executor.recover([former])

    said = await eventually(lambda: [one for one in service.reports if one.token == former.token][2:])
    assert [type(report) for report in said] == [Lost]
    _go(service, later)
    assert (await service.record(later)).exit_code == 3


async def test_command_without_keeper_and_warden_is_watched_by_the_running_service(
    site: Site, service: Service
) -> None:
    launch = site.shell(f"{WAIT_FOR_GO}; exit 3")
    await _running(service, launch)

    await _kill_holders(service, launch)

    _go(service, launch)
    assert isinstance(await service.final(launch), Lost)


async def test_command_without_keeper_and_warden_can_be_cancelled(site: Site, service: Service) -> None:
    launch = site.shell(f'sh -c "{STUBBORN}" & echo ready; {STUBBORN}')
    await _running(service, launch)
    await _kill_holders(service, launch)

    await service.executor.cancel(launch.token, 0.2)

    assert isinstance(await service.final(launch), Lost)
    assert site.commands() == []


async def test_status_noted_before_keeper_and_warden_died_is_the_outcome(site: Site) -> None:
    service = await site.service(leftover_grace_s=60.0)
    launch = site.shell(f"(trap '' TERM; echo ready; {STUBBORN}) & while [ ! -s stdout ]; do :; done; exit 5")
    await _running(service, launch)
    await eventually(lambda: _noted_exit_code(service, launch) == 5)

    await _kill_holders(service, launch)

    await service.executor.cancel(launch.token, 0.0)
    record = await service.record(launch)
    assert (record.ended_by, record.exit_code) == ("self", 5)


async def test_attempt_whose_holders_and_command_are_gone_is_lost(site: Site) -> None:
    first = await site.service()
    launch = site.shell(f"{WAIT_FOR_GO}; exit 3")
    await _running(first, launch)
    await first.executor.stop()
    await _kill_holders(first, launch)
    _go(first, launch)
    await eventually(lambda: site.commands() == [])
    second = await site.service()

    await second.executor.recover([launch])

    assert isinstance(await second.final(launch), Lost)
    assert len(second.reports) == 1


# What the control directory says


async def _after_its_end(site: Site, service: Service, **changes: Any) -> Launch:
    """An attempt with an open gate, changed as given, and no exit record."""
    launch = site.shell(":")
    await service.run(launch)
    control = service.control(launch)
    (control / "exit").unlink()
    content = json.loads((control / "gate").read_text())
    content["holder"].update(changes)
    (control / "gate").write_text(json.dumps(content))
    return launch


async def test_another_boot_proves_the_holder_dead(site: Site, service: Service) -> None:
    launch = await _after_its_end(site, service, boot_id="another")

    await service.executor.recover([launch])

    report = await eventually(lambda: [report for report in service.reports if isinstance(report, Lost)])
    assert "another" in report[0].evidence


@pytest.mark.parametrize("changes", [{"pid_ns": "pid:[1]"}, {"host": "elsewhere", "boot_id": "another"}])
async def test_holder_out_of_sight_decides_nothing(site: Site, changes: dict[str, str]) -> None:
    first = await site.service()
    launch = await _after_its_end(site, first, **changes)
    await first.executor.stop()
    second = await site.service()

    await second.executor.recover([launch])

    await _is_unreachable(second, launch, "is held ")


async def _is_unreachable(service: Service, launch: Launch, why: str) -> None:
    """Wait for it; that is all there is to say about the attempt."""
    (report,) = await eventually(lambda: list(service.reports))
    assert isinstance(report, Unreachable)
    assert report.token == launch.token
    assert why in report.why


@pytest.mark.parametrize("name", ["gate", "exit"])
@pytest.mark.parametrize("content", ["", "garbage", '{"v": 2}', '{"v": 1, "tok', "[]"])
async def test_garbled_control_file_decides_nothing(site: Site, name: str, content: str) -> None:
    first = await site.service()
    launch = site.shell(":")
    await first.run(launch)
    (first.control(launch) / "exit").unlink()
    (first.control(launch) / name).write_text(content)
    await first.executor.stop()
    second = await site.service()

    await second.executor.recover([launch])

    await _is_unreachable(second, launch, f"{name} is not a readable control file")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["token", "gate", "exit"])
async def test_fifo_in_place_of_a_control_file_hinders_nobody(site: Site, name: str) -> None:
    first = await site.service()
    spoilt, other = site.shell(f"{WAIT_FOR_GO}; exit 3"), site.shell(f"{WAIT_FOR_GO}; exit 4")
    for launch in (spoilt, other):
        await _running(first, launch)
    (first.control(spoilt) / name).unlink(missing_ok=True)
    os.mkfifo(first.control(spoilt) / name)
    await first.executor.stop()
    second = await site.service()

    await second.executor.recover([spoilt, other])
    await second.executor.cancel(spoilt.token, 5.0)

    await second.executor.cancel(other.token, 5.0)
    assert (await second.record(other)).ended_by == "cancel"
    assert [type(report) for report in second.reports if report.token == spoilt.token] == [Unreachable]
    _go(second, spoilt)
    await eventually(lambda: site.commands() == [])


@pytest.mark.timeout(30)
async def test_fifo_in_place_of_the_exit_record_keeps_no_keeper(site: Site, service: Service) -> None:
    launch = site.shell(f"{WAIT_FOR_GO}; exit 3")
    await _running(service, launch)
    os.mkfifo(service.control(launch) / "exit")

    _go(service, launch)

    assert (await service.record(launch)).exit_code == 3


@pytest.mark.parametrize("name", ["gate", "exit"])
async def test_file_that_a_power_cut_emptied_is_lost(
    site: Site, service: Service, name: str, after_boot: None
) -> None:
    launch = site.shell(":")
    await service.run(launch)
    (service.control(launch) / "exit").unlink()
    (service.control(launch) / name).write_text("")

    await service.executor.recover([launch])

    await eventually(lambda: any(isinstance(report, Lost) for report in service.reports))


@pytest.mark.parametrize("name", ["gate", "exit"])
@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        pytest.param({"boot_id": "another"}, Lost, id="restarted within a minute"),
        pytest.param({}, Unreachable, id="not restarted"),
        pytest.param({"boot_id": "another", "host": "elsewhere"}, Unreachable, id="another machine"),
    ],
)
async def test_emptied_file_is_judged_by_the_boot_of_the_claim(
    site: Site, name: str, changes: dict[str, str], finding: type
) -> None:
    first, second = await site.service(), await site.service()
    launch = site.shell(":")
    await first.run(launch)
    (first.control(launch) / "exit").unlink()
    (first.control(launch) / name).write_text("")

    await second.executor.recover([_claimed_before(launch, site.work, **changes)])

    (report,) = await eventually(lambda: list(second.reports))
    assert isinstance(report, finding)


@pytest.fixture
def after_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine starts an hour from now; the change time of a file cannot be set back."""
    booted_at = process.booted_at() + 3600.0 + time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr(process, "booted_at", lambda: booted_at)


async def test_garbled_gate_starts_nothing(site: Site, service: Service) -> None:
    launch = site.shell("echo ran")
    gate.make(str(service.control(launch)), launch.token)
    (service.control(launch) / "gate").write_text("garbage")

    await service.executor.launch([launch])

    await _is_unreachable(service, launch, "gate is not a readable control file")
    assert service.output(launch) == b""


def _claimed_before(launch: Launch, work: Path, **changes: Any) -> Launch:
    """The launch as a later service gets it."""
    work_id = gate.work_id(str(work)) or ""
    known = Origin(str(work), work_id, process.host(), process.boot_id(), has_started=False)
    return dataclasses.replace(launch, origin=dataclasses.replace(known, **changes))


async def test_attempt_without_a_gate_is_released(site: Site, service: Service) -> None:
    launch = site.shell(":")

    await service.executor.recover([_claimed_before(launch, site.work)])

    assert await service.final(launch) == NeverRan(launch.token, None)


async def test_attempt_without_a_gate_is_lost_after_another_boot(site: Site, service: Service) -> None:
    launch = site.shell(":")

    await service.executor.recover([_claimed_before(launch, site.work, boot_id="another")])

    report = await service.final(launch)
    assert isinstance(report, Lost)
    assert "restarted" in report.evidence


async def test_cancel_does_not_take_the_doubt_for_a_proof(site: Site, service: Service) -> None:
    launch = site.shell(":")
    await service.executor.recover([_claimed_before(launch, site.work, boot_id="another")])

    await service.executor.cancel(launch.token, 1.0)

    report = await service.final(launch)
    assert isinstance(report, Lost)
    assert "restarted" in report.evidence


_ELSEWHERE = {"host": "elsewhere", "boot_id": "another"}


async def test_attempt_without_a_gate_is_not_started_by_another_machine_after_it_was_lost(site: Site) -> None:
    other, here = await site.service(), await site.service()
    launch = site.shell("echo ran")
    await here.executor.recover([_claimed_before(launch, site.work, **_ELSEWHERE)])
    lost = await here.final(launch)

    await other.executor.launch([launch])

    assert isinstance(lost, Lost)
    assert "elsewhere" in lost.evidence
    assert await other.final(launch) == lost
    assert other.output(launch) == b""


async def test_attempt_that_another_machine_starts_before_its_gate_is_void_is_not_lost(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, here = await site.service(), await site.service()
    launch = site.shell(f"{WAIT_FOR_GO}; exit 3")
    adopted = _claimed_before(launch, site.work, **_ELSEWHERE)
    # What is seen first is what there was before it started.
    seen = evidence.look(str(here.control(launch)), launch.token, adopted.origin)
    await _running(other, launch)
    looks = iter([seen, seen])
    look = evidence.look
    monkeypatch.setattr(evidence, "look", lambda *arguments: next(looks, None) or look(*arguments))

    await here.executor.recover([adopted])

    await here.started(launch)
    _go(here, launch)
    assert (await here.record(launch)).exit_code == 3


async def test_doubt_about_an_attempt_outlives_who_voided_its_gate(site: Site, service: Service) -> None:
    launch = site.shell(":")
    gate.void(str(service.control(launch)), launch.token, "recovered", doubt="it may have run")

    await service.executor.recover([launch])

    assert await service.final(launch) == Lost(launch.token, "it may have run")


async def test_attempt_that_ran_on_another_machine_and_has_no_files_is_not_lost(
    site: Site, service: Service
) -> None:
    launch = site.shell(":")

    await service.executor.recover([_claimed_before(launch, site.work, **_ELSEWHERE, has_started=True)])

    await _is_unreachable(service, launch, "on the machine elsewhere")


async def test_attempt_is_looked_for_where_its_service_kept_its_files(tmp_path: Path) -> None:
    old, new = Site(tmp_path / "old"), Site(tmp_path / "new")
    first, second = await old.service(), await new.service()
    launch = old.shell("sleep 0.5; exit 7")
    await first.executor.launch([launch])
    await first.started(launch)
    await first.executor.stop()

    await second.executor.recover([_claimed_before(launch, old.work, has_started=True)])

    assert (await second.record(launch)).exit_code == 7
    await new.close()
    await old.close()


@pytest.mark.parametrize("instead", [None, "another"])
async def test_work_directory_that_is_not_there_decides_nothing(
    site: Site, tmp_path: Path, instead: str | None
) -> None:
    gone = tmp_path / "gone"
    if instead is not None:
        gate.make_roots(str(gone))
    service = await site.service()
    launch = site.shell(":")

    await service.executor.recover([_claimed_before(launch, gone, work_id="the one it was")])

    await _is_unreachable(service, launch, "gone is not there")


async def test_running_command_whose_control_files_were_deleted_is_watched_to_its_end(
    site: Site,
) -> None:
    first = await site.service()
    launch = site.shell("echo ready; sleep 1")
    await first.executor.launch([launch])
    await first.started(launch)
    shutil.rmtree(first.control(launch))
    await first.executor.stop()
    second = await site.service()

    await second.executor.recover([_claimed_before(launch, site.work, has_started=True)])

    report = await second.final(launch)
    assert isinstance(report, Lost)
    assert "are gone" in report.evidence
    assert site.commands() == []
    assert first.output(launch) == b"ready\n"


async def test_forgotten_attempt_is_left_alone(site: Site, service: Service) -> None:
    launch = site.shell("echo ready; sleep 0.5; echo done")
    await service.executor.launch([launch])
    await service.started(launch)

    await service.executor.forget(launch.token)

    await eventually(lambda: gate.read_exit(str(service.control(launch))))
    assert service.output(launch) == b"ready\ndone\n"
    assert service.finals() == []


async def test_other_token_is_an_older_database(site: Site, service: Service) -> None:
    launch = site.shell(":")
    await service.run(launch)
    restored = dataclasses.replace(launch, token="another")

    await service.executor.recover([restored])

    assert await service.final(restored) == Lost("another", RAN_BEFORE)


async def test_record_is_told_although_the_control_directory_was_deleted(
    site: Site, service: Service
) -> None:
    launch = site.shell(f"{WAIT_FOR_GO}; exit 3")
    await _running(service, launch)
    shutil.rmtree(service.control(launch))

    _go(service, launch)

    report = await service.final(launch)
    assert isinstance(report, Ended)
    assert report.record.exit_code == 3


async def test_sockets_of_killed_holders_are_removed(site: Site, service: Service) -> None:
    stale = site.work / "sockets" / "k-stale"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stale))
    os.utime(stale, (0, 0))

    await site.service()

    assert not stale.exists()


async def _run_without_holder(
    service: Service, launch: Launch, started_at: str
) -> tuple[asyncio.subprocess.Process, gate.ExitSpace, dict[str, Any]]:
    """A command as a dead keeper and warden would have left it, which noted this time of its start."""
    control = str(service.control(launch))
    gone = {"pid": 2**30, "start_ticks": 1, "socket": "/nowhere"}
    here = {"host": process.host(), "boot_id": process.boot_id(), "pid_ns": process.pid_namespace()}
    gate.make(control, launch.token)
    assert gate.pass_gate(control, launch.token, "nonce", {**here, **gone, "warden": gone})
    command = await asyncio.create_subprocess_exec(
        "sleep", "60", env={process.ATTEMPT_VARIABLE: launch.token}, start_new_session=True
    )
    ticks = process.start_ticks(command.pid)
    note = {"v": 1, "token": launch.token, "pid": command.pid, "start_ticks": ticks, "boot_id": "b"}
    space = gate.ExitSpace(control, "nonce")
    space.note({**note, "started_at": started_at})
    return command, space, note


async def test_clock_that_is_set_forward_ends_no_watched_command(site: Site, service: Service) -> None:
    launch = site.shell(":", walltime_s=3600.0)
    two_hours_ago = gate.utc(time.time_ns() - 7200 * 10**9)
    command, _, _ = await _run_without_holder(service, launch, two_hours_ago)

    await service.executor.recover([launch])
    await service.started(launch)
    await service.executor.pause(launch.token)

    # A watched command that is being ended is not paused any more.
    await eventually(lambda: any(isinstance(report, Paused | Lost) for report in service.reports))
    # What is watched may be seen stopped, and told of, more than once.
    assert {type(report) for report in service.reports} == {Started, Paused}
    await service.executor.cancel(launch.token, 1.0)
    await command.wait()
    await service.final(launch)


async def test_watched_command_is_ended_for_its_walltime_and_that_is_said(
    site: Site, service: Service
) -> None:
    launch = site.shell("echo ready; exec sleep 60", walltime_s=1.5)
    await _running(service, launch)

    await _kill_holders(service, launch)

    report = await service.final(launch)
    assert isinstance(report, Lost)
    assert "its walltime was over" in report.evidence
    assert site.commands() == []


async def test_attempt_that_could_not_be_followed_once_is_followed_again(
    site: Site, service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = site.shell(":")
    command, _, _ = await _run_without_holder(service, launch, "2026-01-01T00:00:00Z")

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", _refuse)
        await service.executor.recover([launch])
        await eventually(lambda: "cannot be followed" in caplog.text)

    assert (await service.started(launch)).handle.startswith(f"{command.pid}@")
    await service.executor.cancel(launch.token, 1.0)
    await command.wait()
    await service.final(launch)


def _refuse(*_arguments: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def test_note_that_makes_no_sense_is_not_believed(site: Site, service: Service) -> None:
    launch = site.shell(":")
    command, _, _ = await _run_without_holder(service, launch, "nonsense")

    await service.executor.recover([launch])

    assert (await service.started(launch)).handle.startswith(f"{command.pid}@")
    await service.executor.cancel(launch.token, 1.0)
    await command.wait()
    await service.final(launch)

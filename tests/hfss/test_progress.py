"""How far simulations are, told from the logs of their own runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from jobmgr.domain.status import Status
from jobmgr.errors import NotASimulation, SiteSilent
from jobmgr.hfss import HFSSSimulationConfig
from jobmgr.hfss.log import LogReader
from jobmgr.manager.reading import KEEP_S, Reading, Readings
from jobmgr.service import JobManager, ResourceLimits
from jobmgr.transports.local_directory import LocalDirectory
from tests import remnant
from tests.hfss.installed import install, install_solver, log_of, make_project
from tests.hfss.recorded import DIRECTORY
from tests.patience import eventually

CONVERGED = (DIRECTORY / "converged.log").read_bytes()
A, B = (("a", datetime(2026, 1, 1, tzinfo=UTC)), ("b", datetime(2026, 1, 1, tzinfo=UTC)))
DONE = "converged after 3 passes, 24,000 tetrahedra, delta S 0.04, sweep 3/3"


@pytest_asyncio.fixture
async def manager(sqlite_url: str, tmp_path: Path) -> AsyncIterator[JobManager]:
    """A service with two slots. Nothing of this differs between databases."""
    work = tmp_path / "work"
    async with JobManager(
        ResourceLimits(max_concurrent_jobs=2), database=sqlite_url, work_dir=work
    ) as manager:
        yield manager
    left = remnant.commands(work)
    remnant.kill(left)
    assert left == [], "the test left jobs running"


@pytest.fixture
def edt(tmp_path: Path) -> str:
    return install_solver(tmp_path / "v252" / "Linux64")


def config(edt: str, project: str, jobid: str, **fields: Any) -> HFSSSimulationConfig:
    return HFSSSimulationConfig(ansys_edt_path=edt, project_path=project, jobid=jobid, **fields)


async def line(manager: JobManager, job_id: str) -> str:
    found = await manager.progress(job_id)
    return "" if found is None else found.line


async def shows(manager: JobManager, job_id: str, wanted: str) -> bool:
    return await line(manager, job_id) == wanted


async def done(manager: JobManager, job_id: str) -> None:
    job = await manager.wait(job_id, 60)
    assert job.status is Status.COMPLETED, job


@pytest.mark.parametrize("name", ["[a]* b/antenna.aedt", "antenna.aedb"])
async def test_progress_is_told_while_a_simulation_runs(
    manager: JobManager, edt: str, tmp_path: Path, name: str
) -> None:
    go = tmp_path / "go"
    project = make_project(tmp_path / name, waits_at="Max Mag. Delta S", until=str(go))
    job_id = (await manager.simulate(config(edt, project, "one"))).job_id

    await eventually(lambda: shows(manager, job_id, "pass 2, 16,000 tetrahedra, delta S 0.08"))
    go.touch()
    await done(manager, job_id)

    found = await manager.progress(job_id)
    assert found is not None
    assert (found.line, found.log) == (DONE, str(log_of(project)))
    assert found.state["log_parser"]["is_completed"]
    assert found.state["project"]["file"] == project


async def test_each_job_has_the_log_of_its_own_run(manager: JobManager, edt: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "antenna.aedt")
    first = (await manager.simulate(config(edt, project, "first"))).job_id
    await done(manager, first)
    go = tmp_path / "go"
    make_project(tmp_path / "antenna.aedt", waits_at="Adaptive Pass 1", until=str(go))
    second = (await manager.simulate(config(edt, project, "second"))).job_id
    await eventually(lambda: shows(manager, second, "pass 1"))

    assert await line(manager, first) == DONE
    # Also for who asks for the first time, when the newest log is the other's.
    manager.parts.readings = Readings()
    assert await line(manager, first) == DONE
    go.touch()
    await done(manager, second)


async def test_another_attempt_does_not_show_the_log_of_the_one_before(
    manager: JobManager, edt: str, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "antenna.aedt")
    job_id = (await manager.simulate(config(edt, project, "one"))).job_id
    await done(manager, job_id)
    go = tmp_path / "go"
    make_project(tmp_path / "antenna.aedt", begins_after=str(go))

    await manager.simulate(config(edt, project, "one"))
    await eventually(lambda: runs(manager, job_id))

    assert await manager.progress(job_id) is None
    go.touch()
    await done(manager, job_id)
    assert await line(manager, job_id) == DONE


async def runs(manager: JobManager, job_id: str) -> bool:
    return (await manager.get(job_id)).status is Status.RUNNING


async def test_a_log_that_names_no_job_is_of_the_run_that_wrote_it(
    manager: JobManager, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "antenna.aedt")
    folder = tmp_path / "antenna.aedb.batchinfo.1"
    unnamed = tmp_path / "unnamed.log"
    unnamed.write_bytes(CONVERGED.replace(b"-jobid patch_1 ", b""))
    edt = install(tmp_path / "v252", f'mkdir -p "{folder}"; cp "{unnamed}" "{folder}/a.log"')
    job_id = (await manager.simulate(config(edt, project, "one"))).job_id
    await done(manager, job_id)
    assert "13,731" in await line(manager, job_id)

    later = tmp_path / "antenna.aedb.batchinfo.2"
    later.mkdir()
    (later / "a.log").write_bytes(unnamed.read_bytes().replace(b"13731", b"99999"))

    assert "13,731" in await line(manager, job_id)


async def test_without_a_log_what_it_prints_is_read(manager: JobManager, tmp_path: Path) -> None:
    project = make_project(tmp_path / "antenna.aedt")
    edt = install(tmp_path / "v252", f'cat "{DIRECTORY / "converged.log"}"')
    job_id = (await manager.simulate(config(edt, project, "one"))).job_id
    await done(manager, job_id)

    found = await manager.progress(job_id)

    assert found is not None
    assert (found.log, found.state["init_mesh"]["tetrahedra"]) == ("stdout", 8123)


async def test_a_job_does_not_show_the_log_of_a_deleted_one_of_its_id(
    manager: JobManager, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "antenna.aedt")
    edt = install(tmp_path / "v252", f'cat "{DIRECTORY / "converged.log"}"')
    await manager.simulate(config(edt, project, "one"))
    await done(manager, "one")
    assert await manager.progress("one") is not None
    await manager.delete("one")
    # Longer, so that it is not taken for another log by that.
    write(Path(edt), b"#!/bin/sh\nhead -c %d /dev/zero | tr '\\0' '\\n'\n" % (2 * len(CONVERGED)))
    await manager.simulate(config(edt, project, "one"))
    await done(manager, "one")

    assert await manager.progress("one") is None


async def test_what_says_nothing_has_no_progress(manager: JobManager, tmp_path: Path) -> None:
    project = make_project(tmp_path / "antenna.aedt")
    silent = install(tmp_path / "v252", "exit 0")
    job_id = (await manager.simulate(config(silent, project, "one"))).job_id
    other = await manager.submit(["true"])
    await done(manager, job_id)
    await done(manager, other)

    assert await manager.progress(job_id) is None
    with pytest.raises(NotASimulation):
        await manager.progress(other)


# How a log is read


async def read(reading: Reading, file: Path, windows: int = 64) -> Reading:
    opened = await LocalDirectory(str(file.parent)).open(file.name)
    await reading.read_on(opened, windows)
    await opened.aclose()
    return reading


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "run" / "a.log"
    found.parent.mkdir()
    found.write_bytes(CONVERGED[:1500])
    return found


def write(file: Path, data: bytes) -> None:
    file.write_bytes(data)


async def test_each_piece_of_a_log_is_read_once(file: Path) -> None:
    reading = await read(Reading(), file)
    # What was read already is changed: who read it again would see it.
    write(file, b"x" * 1500 + CONVERGED[1500:])
    await read(reading, file)

    expected = LogReader()
    expected.feed(CONVERGED)
    assert reading.reader.state() == expected.state()
    assert reading.job == "patch_1"


async def test_a_log_that_became_shorter_is_another_one(file: Path) -> None:
    reading = await read(Reading(), file)
    write(file, CONVERGED[: CONVERGED.index(b"[PROFILE]   Importing")].replace(b"patch_1", b"other"))
    await read(reading, file)

    assert reading.job == "other"
    assert reading.reader.progress() == "initial mesh"


async def test_of_a_log_without_end_only_so_much_is_read_at_once(file: Path) -> None:
    write(file, b"a line\n" * 300_000 + CONVERGED)
    reading = await read(Reading(), file, windows=1)

    assert reading.reader.progress() == ""
    await read(reading, file)
    assert "sweep" in reading.reader.progress()


def test_logs_that_nobody_asks_for_are_forgotten() -> None:
    readings = Readings()
    first = readings.of(A, 1, "log")
    for number in range(255):
        readings.of(A, 1, str(number))

    assert readings.of(A, 1, "log") is first
    for number in range(256):
        readings.of(B, 1, str(number))
    assert readings.of(A, 1, "log") is not first


async def test_many_who_ask_a_site_are_one_question() -> None:
    now, looks = 100.0, 0
    asked, answer = asyncio.Event(), asyncio.Event()
    readings = Readings(lambda: now)

    async def look() -> int:
        nonlocal looks
        looks += 1
        asked.set()
        await answer.wait()
        return looks

    first = asyncio.create_task(readings.lately(A, 1, look))
    second = asyncio.create_task(readings.lately(A, 1, look))
    await asked.wait()
    answer.set()

    assert (await first, await second) == (1, 1)
    assert await readings.lately(A, 2, look) == 2
    now += 1.0
    assert await readings.lately(A, 1, look) == 3


async def test_a_site_that_did_not_answer_is_asked_again() -> None:
    now = 100.0
    readings = Readings(lambda: now)

    async def fails() -> str:
        raise SiteSilent("far", "no answer")

    async def answers() -> str:
        return "here"

    with pytest.raises(SiteSilent):
        await readings.lately(A, 1, fails)
    now += KEEP_S

    assert await readings.lately(A, 1, answers) == "here"

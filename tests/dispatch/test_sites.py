"""What a service had in foreign queues, when it is gone with its machine, and directories that are not their own."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from jobmgr import settings as settings_module
from jobmgr.dispatch.admission import choose
from jobmgr.domain.site import Site
from jobmgr.executors import gate
from jobmgr.service import JobManager
from jobmgr.store import claims, dispatchers, sites
from jobmgr.store.claims import Claim, Room
from jobmgr.store.engine import Database
from jobmgr.store.sites import Named
from jobmgr.wire.requests import SiteAsked
from tests.patience import eventually
from tests.store.worker import Worker

HEARTBEAT_S = 0.1


async def elsewhere(database: Database) -> Worker:
    """A dispatcher of another machine that never says anything again."""
    identity = dispatchers.Identity("far", "far away", "boot", "namespace", 1, 1, heartbeat_s=HEARTBEAT_S)
    await database.write(dispatchers.register, identity)
    return Worker(database, "far")


async def test_next_service_takes_up_what_a_lost_machine_had_in_a_queue(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    worker = await elsewhere(database)
    await database.write(sites.put, Site("host", dialect="shell", work_dir=str(work)))
    there, here = await worker.add("there", site="host"), await worker.add("here")
    await worker.claim()
    await database.write(claims.claim, Claim(worker.id, "host", Room.elsewhere(1), choose))
    assert [await worker.status(job) for job in (there, here)] == ["claimed", "claimed"]
    await database.close()

    flags = {"database": database_url, "work_dir": work, "heartbeat_s": HEARTBEAT_S}
    async with JobManager(settings=settings_module.load(flags, {})) as manager:
        assert (await manager.wait(there, 60)).status == "completed"
        assert len(await manager.attempts(there)) == 1
        # What ran on that machine itself is another matter; with a file there is no other machine.
        if not manager.database.is_sqlite:
            await eventually(lambda: manager.why(here))
            assert [reason.code for reason in await manager.why(here)] == ["unreachable"]


async def test_adoption_that_the_file_refused_at_first_is_repeated(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work = tmp_path / "work"
    database = Database(sqlite_url)
    await database.start()
    worker = await elsewhere(database)
    await database.write(sites.put, Site("host", dialect="shell", work_dir=str(work)))
    there = await worker.add("there", site="host")
    await database.write(claims.claim, Claim(worker.id, "host", Room.elsewhere(1), choose))
    await database.close()
    with contextlib.closing(sqlite3.connect(database.sqlite_file)) as file:
        file.execute(_REFUSES_ADOPTION)

    flags = {"database": sqlite_url, "work_dir": work, "heartbeat_s": HEARTBEAT_S}
    async with JobManager(settings=settings_module.load(flags, {})) as manager:
        await eventually(lambda: "not now" in caplog.text)
        with contextlib.closing(sqlite3.connect(database.sqlite_file)) as file:
            file.execute("DROP TRIGGER refuses")
        assert (await manager.wait(there, 30)).status == "completed"


_REFUSES_ADOPTION = """CREATE TRIGGER refuses BEFORE UPDATE OF dispatcher ON attempts
BEGIN SELECT RAISE(ABORT, 'not now'); END"""


async def test_what_lies_in_another_directory_at_the_sites_path_is_left_alone_until_the_right_one_is_there(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    far, away = tmp_path / "far", tmp_path / "away"
    site = Site("host", dialect="shell", work_dir=str(far), max_submitted=1)
    work_id = gate.make_roots(str(far))
    worker = await elsewhere(database)
    await database.write(sites.put, site)
    await database.write(sites.name_directories, Named(site, work_id))
    there, waiting = await worker.add("there", site="host"), await worker.add("waiting", site="host")
    await database.write(claims.claim, Claim(worker.id, "host", Room.elsewhere(1), choose, work_id=work_id))
    await database.close()
    far.rename(away)
    other = gate.make_roots(str(far))

    flags = {"database": database_url, "work_dir": tmp_path / "work", "heartbeat_s": HEARTBEAT_S}
    async with JobManager(settings=settings_module.load(flags, {})) as manager:
        await eventually(lambda: is_said(manager, there, "unreachable", other))
        await eventually(lambda: is_said(manager, waiting, "host_limit", other))
        stored = replace(site, work_id=work_id)
        assert f"{far} is another directory ({other})" in manager.site_trouble(stored)
        steps = await manager.try_site("host")
        assert [step.name for step in steps if not step.is_well] == ["work directory"]
        assert [await status_of(manager, job) for job in (there, waiting)] == ["claimed", "queued"]
        assert list((far / "control").iterdir()) == []

        shutil.rmtree(far)
        away.rename(far)
        assert (await manager.try_site("host"))[3].said == f"{far}, whose name is {work_id}"
        assert [job.status for job in await manager.wait_many([there, waiting], 60)] == ["completed"] * 2
        assert [len(await manager.attempts(job)) for job in (there, waiting)] == [1, 1]
        assert manager.site_trouble(stored) == ""


async def is_said(manager: JobManager, job_id: str, code: str, word: str) -> bool:
    return any(reason.code == code and word in reason.message for reason in await manager.why(job_id))


async def status_of(manager: JobManager, job_id: str) -> str:
    return (await manager.get(job_id)).status


async def test_directory_that_is_replaced_while_it_is_served_gets_nothing_until_it_is_back(
    database_url: str, tmp_path: Path
) -> None:
    far, away = tmp_path / "far", tmp_path / "away"
    gate.make_roots(str(far))
    flags = {"database": database_url, "work_dir": tmp_path / "work"}
    async with JobManager(settings=settings_module.load(flags, {})) as manager:
        await manager.put_site("host", SiteAsked(kind="shell", work_dir=str(far)))
        first = await manager.submit(["true"], site="host")
        assert (await manager.wait(first, 60)).status == "completed"
        far.rename(away)
        other = gate.make_roots(str(far))

        # Nobody knows before it is used; what was claimed until then waits at its gate.
        claimed = await manager.submit(["true"], site="host")
        await eventually(lambda: is_said(manager, claimed, "claimed", other))
        queued = await manager.submit(["true"], site="host")
        await eventually(lambda: is_said(manager, queued, "host_limit", other))
        assert list((far / "control").iterdir()) == []

        shutil.rmtree(far)
        away.rename(far)
        await manager.try_site("host")
        assert [job.status for job in await manager.wait_many([claimed, queued], 60)] == ["completed"] * 2

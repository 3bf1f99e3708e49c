"""What a service does before it is one."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from jobmgr import settings as settings_module
from jobmgr.domain.job import JobSpec
from jobmgr.domain.status import Status
from jobmgr.errors import AddressUnavailable
from jobmgr.service import serving
from jobmgr.store.engine import Database
from tests.store.worker import Worker


async def test_service_that_nobody_could_reach_starts_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = settings_module.load({"home": str(tmp_path / "home"), "port": port}, {}, tmp_path)
        settings.home.mkdir()
        database = Database(settings.database)
        await database.start()
        await database.upgrade()
        worker = await Worker.register(database)
        job_id = await worker.add(spec=JobSpec(command=("touch", str(tmp_path / "ran"))))

        with pytest.raises(AddressUnavailable, match=str(port)):
            async with serving(settings):
                pass

    assert await worker.status(job_id) is Status.QUEUED
    assert not (tmp_path / "ran").exists()
    await database.close()


async def test_job_that_waited_for_a_service_knows_where_that_is(tmp_path: Path) -> None:
    settings = settings_module.load({"home": str(tmp_path / "home"), "port": 0}, {}, tmp_path)
    settings.home.mkdir()
    database = Database(settings.database)
    await database.start()
    await database.upgrade()
    worker = await Worker.register(database)
    told = 'echo "$JOBMGR_URL"; test -s "$JOBMGR_JOB_TOKEN_FILE"'
    job_id = await worker.add(spec=JobSpec(command=("sh", "-c", told)))
    await database.close()

    async with serving(settings) as manager:
        job = await manager.wait(job_id, 30)
        file = await manager.log_file(job_id, "stdout")
        written = (await file.read(0, 1000)).data.decode()
        await file.aclose()

        assert (job.status, written) == (Status.COMPLETED, f"{manager.url}\n")

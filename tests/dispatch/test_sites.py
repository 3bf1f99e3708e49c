"""What a service had in foreign queues, when it is gone with its machine."""

from __future__ import annotations

from pathlib import Path

from jobmgr import settings as settings_module
from jobmgr.dispatch.admission import choose
from jobmgr.domain.site import Site
from jobmgr.service import JobManager
from jobmgr.store import claims, dispatchers, sites
from jobmgr.store.claims import Claim, Room
from jobmgr.store.engine import Database
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

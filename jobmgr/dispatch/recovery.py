"""Takes up what an earlier service left: adopts its live attempts and re-enters each where it really is."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from jobmgr.dispatch.roster import Roster
from jobmgr.executors import process
from jobmgr.executors.protocol import Executor, Launch
from jobmgr.store import attempts, dispatchers
from jobmgr.store.claims import Claimed
from jobmgr.store.dispatchers import Identity
from jobmgr.store.engine import Database

logger = logging.getLogger(__name__)


def launch_of(claimed: Claimed) -> Launch:
    """What an executor needs of a claimed attempt."""
    return Launch(
        job_id=claimed.job_id,
        number=claimed.number,
        token=claimed.token,
        command=claimed.command,
        env=claimed.env,
        cwd=claimed.cwd,
        walltime_s=claimed.walltime_s,
        gpus=claimed.gpus,
    )


async def adopt_former(
    database: Database, identity: Identity, roster: Roster, executors: Mapping[str, Executor]
) -> int:
    """Adopt the live attempts of dispatchers that are gone; answers how many.

    Gone means: stopped by itself, or its process is proven dead on this boot of this machine. An SQLite file has
    one service at a time, which its lock proves, so there every other dispatcher is gone.
    """
    host = None if database.is_sqlite else identity.host
    former = await database.read(dispatchers.former, host)
    gone = [
        other.id
        for other, has_stopped in former
        if other.id != identity.id and (has_stopped or database.is_sqlite or is_gone(other))
    ]
    if not gone:
        return 0
    return await _recover(await database.write(attempts.adopt, (identity.id, gone)), roster, executors)


async def recover_own(
    database: Database, identity: Identity, roster: Roster, executors: Mapping[str, Executor]
) -> int:
    """Take up rows that are ours but not in memory: the answer to a COMMIT was lost."""
    tokens = await database.read(attempts.of_dispatcher, identity.id)
    unknown = [token for token in tokens if token not in roster]
    if not unknown:
        return 0
    return await _recover(await database.write(attempts.reclaim, unknown), roster, executors)


async def _recover(adopted: Sequence[Claimed], roster: Roster, executors: Mapping[str, Executor]) -> int:
    for claimed in adopted:
        roster.add(claimed)
    if adopted:
        logger.info("taking up %d attempts of an earlier service", len(adopted))
        await executors["local"].recover([launch_of(claimed) for claimed in adopted])
    return len(adopted)


def is_gone(other: Identity) -> bool:
    """Whether a dispatcher of this host is proven dead: its boot is over, or its process is."""
    if other.boot_id != process.boot_id():
        return True
    if other.pid_namespace != process.pid_namespace():
        return False
    return not process.is_alive(other.pid, other.start_ticks)

"""A dispatcher without processes: it claims, starts and ends by the statements of the store alone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime

from jobmgr.dispatch.admission import choose
from jobmgr.dispatch.roster import key_of
from jobmgr.domain.outcome import End, decide
from jobmgr.store import attempts, claims, dispatchers
from jobmgr.store.attempts import Finish, Start
from jobmgr.store.claims import Claim, Claimed, Room
from jobmgr.store.dispatchers import Identity
from jobmgr.store.engine import Database

_RUN_DIR = "/srv/jobmgr/runs"


class Worker:
    """It says goodbye when it leaves, and must have ended by then what it claimed."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name

    async def claim(self, slots: int) -> list[Claimed]:
        """Up to `slots` queued jobs, whatever they ask for besides GPUs."""
        room = Room(slots=slots, cpus=2**20, memory_bytes=2**50, gpus=())
        return await self._database.write(claims.claim, Claim(self._name, "local", room, choose))

    async def end(
        self, claimed: Sequence[Claimed], exit_code: Callable[[Claimed], int] = lambda _: 0
    ) -> None:
        """Start these and end them: two transactions for all."""
        now = datetime.now(UTC)
        started = [Start(key_of(one), "keeper/12345", now, _run_dir(one)) for one in claimed]
        await self._database.write_all(attempts.start, started)
        ended = [_finish(one, End(exit_code(one)), now) for one in claimed]
        await self._database.write_all(attempts.finish, ended)


@contextlib.asynccontextmanager
async def working(database: Database, name: str) -> AsyncIterator[Worker]:
    """A worker of this name, which no other worker of the database ever had."""
    await database.write(dispatchers.register, Identity(name, "benchmark", "boot", "namespace", 1, 1))
    yield Worker(database, name)
    await database.write(dispatchers.stop, name)


def _finish(claimed: Claimed, end: End, at: datetime) -> Finish:
    return Finish(
        key=key_of(claimed),
        end=end,
        decide=lambda rules, now: decide(end, rules, (), now, 0.5),
        started_at=at,
        finished_at=at,
        work_dir=_run_dir(claimed),
        cpu_s=0.01,
        peak_memory_bytes=10_000_000,
    )


def _run_dir(claimed: Claimed) -> str:
    return f"{_RUN_DIR}/{claimed.job_id}/{claimed.number}"

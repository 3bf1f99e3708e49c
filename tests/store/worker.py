"""The store as a dispatcher and as a front door use it, in one line each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import sqlalchemy as sa

from jobmgr.dispatch.admission import choose
from jobmgr.dispatch.roster import key_of
from jobmgr.domain.job import Dependency, Job, JobError, JobFilter, JobSpec, NewJob, When
from jobmgr.domain.outcome import End, Outcome, Rules, decide
from jobmgr.domain.queue import Tally
from jobmgr.domain.retry import Retry
from jobmgr.domain.status import Status
from jobmgr.store import attempts, claims, dispatchers, jobs, listing, queues, submissions
from jobmgr.store.attempts import Finish, Start
from jobmgr.store.claims import Claim, Claimed, Room
from jobmgr.store.engine import Database
from jobmgr.store.jobs import Change
from jobmgr.store.tables import Job as JobRow
from jobmgr.store.tables import Site
from jobmgr.store.transaction import Transaction

RUN = JobSpec(command=("/bin/true",))
PLENTY = Room(slots=10_000, cpus=1000, memory_bytes=2**50, gpus=tuple(str(number) for number in range(100)))
_NUMBERS = itertools.count(1)


def now() -> datetime:
    return datetime.now(UTC)


def new_job(job_id: str | None = None, **fields: Any) -> NewJob:
    """A job to insert. `max_attempts` and `backoff_s` go into its spec; `after` names parents it needs."""
    retry = Retry(fields.pop("max_attempts", 1), fields.pop("backoff_s", 30.0))
    after: Sequence[str] = fields.pop("after", ())
    depends_on = fields.pop("depends_on", tuple(Dependency(parent) for parent in after))
    spec = replace(fields.pop("spec", RUN), retry=retry, depends_on=depends_on)
    return NewJob(job_id or f"j{next(_NUMBERS)}", spec, **fields)


def unfinished(connection: sa.Connection) -> list[str]:
    """The ids of all jobs that have not ended."""
    return list(connection.execute(sa.select(JobRow.job_id).where(JobRow.finished_at.is_(None))).scalars())


def child_of(parent: str, when: When, job_id: str | None = None) -> NewJob:
    return new_job(job_id, depends_on=(Dependency(parent, when),))


class Worker:
    """A registered dispatcher, together with the verbs of a front door on the same database."""

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self.id = name

    @classmethod
    async def register(cls, database: Database, name: str = "worker") -> Self:
        identity = dispatchers.Identity(name, "host", "boot", "namespace", 1, 1)
        await database.write(dispatchers.register, identity)
        return cls(database, name)

    async def insert(self, *new: NewJob) -> list[str]:
        """Store jobs as one bulk; answers their ids."""
        return [stored.job_id for stored in await self.database.write(submissions.insert, new)]

    async def add(self, job_id: str | None = None, **fields: Any) -> str:
        (stored,) = await self.insert(new_job(job_id, **fields))
        return stored

    async def claim(self, slots: int = 10_000, **room: Any) -> list[Claimed]:
        wish = Claim(self.id, "local", replace(PLENTY, slots=slots, **room), choose)
        return await self.database.write(claims.claim, wish)

    async def claim_one(self) -> Claimed:
        (claimed,) = await self.claim(slots=1)
        return claimed

    async def start(self, claimed: Claimed) -> bool:
        return await self.database.write(attempts.start, begun(claimed))

    async def finish(self, claimed: Claimed, exit_code: int | None = 0, **end: Any) -> Outcome | None:
        return await self.database.write(attempts.finish, ending(claimed, End(exit_code, **end)))

    async def release(self, claimed: Claimed) -> Outcome | None:
        """The attempt's gate is void: it never ran."""
        return await self.database.write(attempts.finish, ending(claimed, End(), started=False))

    async def lose(self, claimed: Claimed) -> Outcome | None:
        end = End(error=JobError("lost", "nobody knows"), lost=True)
        return await self.database.write(attempts.finish, ending(claimed, end, started=False))

    async def run(self, job_id: str, exit_code: int = 0) -> Outcome | None:
        """Claim everything there is, finish this job, release the others."""
        outcome = None
        for claimed in await self.claim():
            if claimed.job_id == job_id:
                outcome = await self.finish(claimed, exit_code)
            else:
                await self.release(claimed)
        return outcome

    async def get(self, job_id: str) -> Job:
        (job,) = await self.database.read(listing.get, [job_id])
        return job

    async def status(self, job_id: str) -> Status:
        return (await self.get(job_id)).status

    async def all(self, wanted: JobFilter | None = None, order: str = "created") -> list[Job]:
        page = await self.database.read(listing.page, wanted or JobFilter(), order, 1000, None)
        return page.jobs

    async def cancel(self, job_id: str) -> None:
        await self.database.write(jobs.cancel, job_id)

    async def retry(self, job_id: str) -> None:
        await self.database.write(jobs.retry, job_id)

    async def hold(self, job_id: str) -> None:
        await self.database.write(jobs.hold, job_id)

    async def unhold(self, job_id: str) -> None:
        await self.database.write(jobs.release, job_id)

    async def update(self, job_id: str, **values: Any) -> None:
        await self.database.write(jobs.update, Change(job_id, values))

    async def queue(self, name: str, **values: Any) -> None:
        """Make or change a queue."""
        await self.database.write(queues.change, queues.QueueChange(name, values))

    async def site(self, name: str, executor: str, dialect: str | None = None) -> None:
        """Make a site."""

        def make(tx: Transaction, _: object) -> list[None]:
            tx.connection.execute(sa.insert(Site).values(name=name, executor=executor, dialect=dialect))
            return [None]

        await self.database.write(make, None)

    async def counts(self, queue: str = "default") -> dict[Tally, int]:
        """What the tallies of a queue say, without zeros."""
        found = await self.database.read(queues.get, queue)
        return {tally: count for tally, count in found.counts.items() if count}


def begun(claimed: Claimed) -> Start:
    """The start of a claimed attempt."""
    return Start(key_of(claimed), "handle", now(), "/run")


def ending(claimed: Claimed, end: End, *, started: bool = True) -> Finish:
    """The end of an attempt, decided by the real rules without jitter."""

    def by_rules(rules: Rules, at: datetime) -> Outcome:
        return decide(end, rules, (), at, jitter=0.5)

    return Finish(
        key=key_of(claimed),
        end=end,
        decide=by_rules,
        started_at=now() - timedelta(seconds=1) if started else None,
        finished_at=now(),
        work_dir="/run",
        handle="handle" if started else None,
    )


def real_counts(connection: sa.Connection) -> dict[tuple[str, Tally], int]:
    """How many jobs there are per queue and tally, counted one by one."""
    rows = connection.execute(sa.select(JobRow.queue, JobRow.status))
    found: dict[tuple[str, Tally], int] = {}
    for row in rows:
        place = row.queue, Tally.of(Status(row.status))
        found[place] = found.get(place, 0) + 1
    return found


def kept_counts(connection: sa.Connection) -> dict[tuple[str, Tally], int]:
    """The same as the tallies have it."""
    return {
        (queue.name, tally): count
        for queue in queues.listing(connection)
        for tally, count in queue.counts.items()
        if count
    }

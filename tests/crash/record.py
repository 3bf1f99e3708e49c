"""What the database says at the end: all rows that a judgement needs, read on one consistent state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from jobmgr.store.engine import Database
from jobmgr.store.tables import Attempt, Event, Job, Queue

Row = Any  # a row with the columns of its table


@dataclass(frozen=True, slots=True)
class Record:
    """Jobs by id, the attempts and events of each in their order, all events, and the queues' rows."""

    jobs: dict[str, Row]
    attempts: dict[str, list[Row]]
    events: list[Row]
    queues: list[Row]

    def events_of(self) -> dict[str, list[Row]]:
        """The events about each job, in order."""
        found: dict[str, list[Row]] = {job_id: [] for job_id in self.jobs}
        for event in self.events:
            if event.job_id is not None:
                found.setdefault(event.job_id, []).append(event)
        return found


async def read(url: str) -> Record:
    """Everything there is in the database."""
    database = Database(url)
    await database.start()
    try:
        return await database.read(_read)
    finally:
        await database.close()


def _read(connection: sa.Connection) -> Record:
    jobs = {row.job_id: row for row in connection.execute(sa.select(*Job.__table__.c).order_by(Job.id))}
    attempts: dict[str, list[Row]] = {job_id: [] for job_id in jobs}
    statement = sa.select(*Attempt.__table__.c, Job.job_id).join(Job, Job.id == Attempt.job)
    for row in connection.execute(statement.order_by(Attempt.job, Attempt.number)):
        attempts[row.job_id].append(row)
    return Record(
        jobs,
        attempts,
        list(connection.execute(sa.select(*Event.__table__.c).order_by(Event.seq))),
        list(connection.execute(sa.select(*Queue.__table__.c))),
    )

"""Reading the event log: pages in the order of commits, resumable by position."""

from __future__ import annotations

import sqlalchemy as sa

from jobmgr.domain.job import Event as EventView
from jobmgr.domain.job import EventPosition
from jobmgr.errors import EventsGone
from jobmgr.store.prepared import Prepared
from jobmgr.store.tables import Event, Installation
from jobmgr.store.transaction import AnyRow

_EPOCH = sa.select(Installation.epoch, Installation.pruned_seq)
_LAST = sa.select(sa.func.max(Event.seq))
# There is one row; PostgreSQL without statistics expects a thousand, and of whatever stands beside them too.
POSITION = sa.select(
    Installation.epoch,
    sa.func.coalesce(_LAST.scalar_subquery(), Installation.pruned_seq).label("seq"),
).limit(1)
_POSITION = Prepared(POSITION)
_PAGE = (
    sa.select(Event.seq, Event.at, Event.kind, Event.job_id, Event.user, Event.v, Event.data)
    .where(Event.seq > sa.bindparam("after"))
    .order_by(Event.seq)
    .limit(sa.bindparam("at_most"))
)


def position(connection: sa.Connection) -> EventPosition:
    """The position after the last event of this read transaction."""
    (row,) = _POSITION.rows(connection, {})
    return EventPosition(row.epoch, row.seq)


def page(connection: sa.Connection, after: EventPosition | None, limit: int) -> list[EventView]:
    """At most `limit` events after `after` (None: from the first kept one).

    Raises EventsGone if `after` is of another epoch, pruned, or ahead of the log.
    """
    installation = connection.execute(_EPOCH).one()
    seq = installation.pruned_seq
    if after is not None:
        _check(connection, after, installation)
        seq = after.seq
    return tail(connection, seq, limit)


def tail(connection: sa.Connection, seq: int, limit: int) -> list[EventView]:
    """At most `limit` events after number `seq`."""
    return [EventView(**row._mapping) for row in connection.execute(_PAGE, {"after": seq, "at_most": limit})]


def _check(connection: sa.Connection, after: EventPosition, installation: AnyRow) -> None:
    last = connection.execute(_LAST).scalar() or installation.pruned_seq
    reason = None
    if after.epoch != installation.epoch:
        reason = "the position is of another database"
    elif after.seq < installation.pruned_seq:
        reason = "events after that position were pruned"
    elif after.seq > last:
        reason = "the position is ahead of the log"
    if reason is not None:
        raise EventsGone(reason, epoch=installation.epoch, seq=last)


def of_job(connection: sa.Connection, job: int, after: int, limit: int) -> list[EventView]:
    """Events of one job after number `after`."""
    statement = _PAGE.where(Event.job == sa.bindparam("of_job"))
    rows = connection.execute(statement, {"after": after, "at_most": limit, "of_job": job})
    return [EventView(**row._mapping) for row in rows]

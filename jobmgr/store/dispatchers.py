"""Statements on dispatchers: register, beat, stop, and who is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from jobmgr.store.tables import Attempt, Dispatcher
from jobmgr.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Identity:
    """A dispatcher process: a random id, and where it lives, so that others can tell whether it is gone."""

    id: str
    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    start_ticks: int


def register(tx: Transaction, identities: Sequence[Identity]) -> list[None]:
    """Store new dispatchers."""
    tx.connection.execute(
        sa.insert(Dispatcher), [{**asdict(identity), "started_at": tx.now} for identity in identities]
    )
    return [None] * len(identities)


def beat(tx: Transaction, ids: Sequence[str]) -> list[None]:
    """Raise the heartbeat counters."""
    tx.connection.execute(
        sa.update(Dispatcher).where(Dispatcher.id.in_(ids)).values(heartbeat=Dispatcher.heartbeat + 1)
    )
    return [None] * len(ids)


def stop(tx: Transaction, ids: Sequence[str]) -> list[None]:
    """Mark dispatchers as stopped: others may adopt what they held."""
    tx.connection.execute(sa.update(Dispatcher).where(Dispatcher.id.in_(ids)).values(stopped_at=tx.now))
    return [None] * len(ids)


def former(connection: sa.Connection, host: str | None) -> list[tuple[Identity, bool]]:
    """Dispatchers that still hold attempts, of this host or (None) of any, and whether each stopped by itself."""
    holds = sa.exists().where(Attempt.dispatcher == Dispatcher.id, Attempt.finished_at.is_(None))
    statement = (
        sa.select(*Dispatcher.__table__.c)
        .where(holds if host is None else sa.and_(holds, Dispatcher.host == host))
        .order_by(Dispatcher.started_at)
    )
    return [
        (
            Identity(row.id, row.host, row.boot_id, row.pid_namespace, row.pid, row.start_ticks),
            row.stopped_at is not None,
        )
        for row in connection.execute(statement)
    ]

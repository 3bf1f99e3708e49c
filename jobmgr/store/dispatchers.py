"""Statements on dispatchers: register, beat, stop, and who is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import sqlalchemy as sa

from jobmgr.store.tables import Attempt, Dispatcher
from jobmgr.store.transaction import AnyRow, Transaction


@dataclass(frozen=True, slots=True)
class Identity:
    """A dispatcher process: a random id, and where it lives, so that others can tell whether it is gone.

    `work_id` names its work directory whatever its path is; `heartbeat_s` says how often it shows that it lives.
    """

    id: str
    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    start_ticks: int
    work_dir: str = ""
    work_id: str = ""
    heartbeat_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Another dispatcher that holds live attempts: its counter, and whether it stopped by itself."""

    identity: Identity
    heartbeat: int
    has_stopped: bool


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


_HOLDING = (
    sa.select(*Dispatcher.__table__.c)
    .where(sa.exists().where(Attempt.dispatcher == Dispatcher.id, Attempt.finished_at.is_(None)))
    .order_by(Dispatcher.started_at)
)


def peers(connection: sa.Connection, own_id: str) -> list[Peer]:
    """The other dispatchers that hold live attempts, oldest first."""
    return [
        Peer(identity_of(row), row.heartbeat, row.stopped_at is not None)
        for row in connection.execute(_HOLDING)
        if row.id != own_id
    ]


def identity_of(row: AnyRow) -> Identity:
    """The process whose row this is; it may have other columns beside."""
    return Identity(**{field.name: getattr(row, field.name) for field in fields(Identity)})

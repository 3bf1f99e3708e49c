"""What a PostgreSQL server says about itself."""

from __future__ import annotations

import time
from dataclasses import dataclass

import sqlalchemy as sa

from jobmgr.errors import StoreError
from jobmgr.store import durability


@dataclass(frozen=True, slots=True)
class Server:
    """`number` is the version as PostgreSQL counts it (170002); `forgets` says why confirmed jobs may be lost.

    `ahead_s` is how far its clock is ahead of ours, to within `uncertainty_s`.
    """

    version: str
    number: int
    forgets: str | None
    is_read_only: bool
    may_write: bool
    max_connections: int
    used_connections: int
    ahead_s: float
    uncertainty_s: float


def look(connection: sa.Connection) -> Server:
    """Ask the server; its answers are as of now."""
    before = time.time()
    now = float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())
    after = time.time()
    return Server(
        version=str(connection.exec_driver_sql("SHOW server_version").scalar_one()).partition(" ")[0],
        number=int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()),
        forgets=_forgets(connection),
        is_read_only=_is_read_only(connection),
        may_write=_may_write(connection),
        # The rest is kept for administrators.
        max_connections=_setting(connection, "max_connections")
        - _setting(connection, "superuser_reserved_connections"),
        used_connections=int(connection.exec_driver_sql(_USED).scalar_one()),
        ahead_s=now - (before + after) / 2,
        uncertainty_s=(after - before) / 2,
    )


_USED = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"


def _setting(connection: sa.Connection, name: str) -> int:
    return int(connection.exec_driver_sql(f"SHOW {name}").scalar_one())


def _forgets(connection: sa.Connection) -> str | None:
    try:
        durability.check_server(connection)
    except StoreError as error:
        return str(error)
    return None


def _is_read_only(connection: sa.Connection) -> bool:
    # Our own transaction is read-only by our wish, so the default tells what others get.
    default = connection.exec_driver_sql("SHOW default_transaction_read_only").scalar_one()
    return default == "on" or bool(connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one())


def _may_write(connection: sa.Connection) -> bool:
    if not sa.inspect(connection).has_table("jobs"):
        return True
    return bool(
        connection.exec_driver_sql("SELECT has_table_privilege('jobs', 'INSERT, UPDATE')").scalar_one()
    )

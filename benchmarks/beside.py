"""Further databases of a run, of the same kind as that of its service and as near to it: kept until it ends."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import asyncpg
import sqlalchemy as sa

from benchmarks.service import Service


async def database(service: Service, name: str) -> tuple[str, bool]:
    """The URL of the database `name`, and whether it is new: then it is empty.

    On PostgreSQL the user of the service's database must be allowed to create others.
    """
    if service.engine == "SQLite":
        file = service.home / f"{name}.db"
        return f"sqlite:///{file}", not file.exists()
    own = f"{service.home.name}-{name}"
    async with _connected(service) as connection:
        is_new = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", own) is None
        if is_new:
            await connection.execute(f'CREATE DATABASE "{own}" TEMPLATE template0')
    url = sa.make_url(_server(service)).set(database=own)
    return url.render_as_string(hide_password=False), is_new


async def drop_all(service: Service) -> None:
    """Drop what `database` made; files go with their directory."""
    if service.engine == "SQLite":
        return
    async with _connected(service) as connection:
        ours = "SELECT datname FROM pg_database WHERE starts_with(datname, $1)"
        for row in await connection.fetch(ours, f"{service.home.name}-"):
            await connection.execute(f'DROP DATABASE "{row["datname"]}" WITH (FORCE)')


@contextlib.asynccontextmanager
async def _connected(service: Service) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(_server(service))
    try:
        yield connection
    finally:
        await connection.close()


def _server(service: Service) -> str:
    assert service.database is not None
    return service.database

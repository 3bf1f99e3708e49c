"""Databases of one measurement, and row changes through the bare driver of each: as durable as ours, nothing else."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any, Protocol

import asyncpg
import sqlalchemy as sa

from benchmarks import scratch

# One transaction: its statements that change rows, each with its parameters, many of them or one set.
Transaction = list[tuple[str, Any, bool]]
Fill = Callable[[str], Awaitable[None]]

_DONE = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM jobs WHERE status = 'completed')"


class Bare(Protocol):
    """A kind of database without us."""

    driver: str

    async def copies(self, fill: Fill, names: Sequence[str]) -> list[str]:
        """The URLs of databases that are alike: `fill` has filled one, the others are copies of it."""
        ...

    async def replay(self, url: str, transactions: Sequence[Transaction]) -> float:
        """Seconds that the driver takes for these transactions."""
        ...

    async def done(self, url: str) -> tuple[int, ...]:
        """How many events there are, and how many completed jobs."""
        ...


class BareSqlite:
    """Files in a directory of the run."""

    driver = "sqlite3"

    async def copies(self, fill: Fill, names: Sequence[str]) -> list[str]:
        directory = scratch.new_directory()
        await fill(f"sqlite:///{directory / 'template.db'}")
        for name in names:
            shutil.copy(directory / "template.db", directory / f"{name}.db")
        return [f"sqlite:///{directory / name}.db" for name in names]

    async def replay(self, url: str, transactions: Sequence[Transaction]) -> float:
        return await asyncio.to_thread(_replay_sqlite, _file(url), transactions)

    async def done(self, url: str) -> tuple[int, ...]:
        with closing(sqlite3.connect(_file(url))) as connection:
            found: tuple[int, ...] = connection.execute(_DONE).fetchone()
            return found


def _file(url: str) -> str:
    return url.removeprefix("sqlite:///")


def _replay_sqlite(file: str, transactions: Sequence[Transaction]) -> float:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -32768")
        began = time.perf_counter()
        for statements in transactions:
            connection.execute("BEGIN IMMEDIATE")
            for text, values, many in statements:
                (connection.executemany if many else connection.execute)(text, values).fetchall()
            connection.execute("COMMIT")
        return time.perf_counter() - began


class BarePostgresql:
    """Databases on the server of another one, whose URL is given."""

    driver = "asyncpg"

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url)

    async def copies(self, fill: Fill, names: Sequence[str]) -> list[str]:
        unique = scratch.new_directory().name
        template, *others = [f"{unique}-{name}" for name in ("template", *names)]
        await self._create(template, "template1")
        await fill(self._of(template))
        for name in others:
            await self._create(name, template)
        return [self._of(name) for name in others]

    async def replay(self, url: str, transactions: Sequence[Transaction]) -> float:
        async with _connected(url) as connection:
            began = time.perf_counter()
            for statements in transactions:
                async with connection.transaction():
                    for text, values, many in statements:
                        await (
                            connection.executemany(text, values) if many else connection.fetch(text, *values)
                        )
            return time.perf_counter() - began

    async def done(self, url: str) -> tuple[int, ...]:
        async with _connected(url) as connection:
            found = await connection.fetchrow(_DONE)
            assert found is not None
            return tuple(found)

    async def _create(self, name: str, template: str) -> None:
        async with _connected(self._url.render_as_string(hide_password=False)) as connection:
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    def _of(self, name: str) -> str:
        return self._url.set(database=name).render_as_string(hide_password=False)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()

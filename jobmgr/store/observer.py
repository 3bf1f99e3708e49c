"""A look at a database that leaves no trace: nothing is made, changed, or tidied up, whoever looks."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

import msgspec
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from jobmgr.errors import StoreError, StoreUnavailable
from jobmgr.store import address
from jobmgr.store.backend import json_text
from jobmgr.store.postgresql import Postgresql, TimeLimits
from jobmgr.store.sqlite import translate_sqlite

P = ParamSpec("P")
T = TypeVar("T")


class Observer:
    """Reads only. An answer that takes longer than `timeout_s` is given up; an SQLite file waits so long for locks."""

    def __init__(self, url: str, timeout_s: float, password: str | None = None) -> None:
        self.url = address.parse(url, password)
        self._timeout_s = timeout_s
        self._server = (
            None
            if self.is_sqlite
            else Postgresql(self.url, TimeLimits(answer_s=timeout_s, connect_s=timeout_s, pool_s=timeout_s))
        )

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def file(self) -> Path:
        """The SQLite file itself, which its log and locks lie beside, even if the URL names a link to it."""
        return Path(self.url.database or "").resolve()

    async def close(self) -> None:
        """Release the connections to a server; a file is closed after each read."""
        if self._server is not None:
            await self._server.close()

    async def read(
        self, statements: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `statements(connection, …)` on one consistent state. Raises StoreError, StoreUnavailable."""

        def work(connection: sa.Connection) -> T:
            return statements(connection, *args, **kwargs)

        if self._server is None:
            return await asyncio.to_thread(_read_file, self.file, self._timeout_s, work)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._server.read(work)
        except TimeoutError:
            raise StoreUnavailable(f"PostgreSQL did not answer within {self._timeout_s:g} s") from None
        except sa.exc.DBAPIError as error:
            raise StoreError(f"PostgreSQL: {error.orig}") from error


def _read_file(file: Path, timeout_s: float, work: Callable[[sa.Connection], T]) -> T:
    def connect() -> sqlite3.Connection:
        uri = f"file:{quote(str(file))}?mode=ro{'&immutable=1' if _is_at_rest(file) else ''}"
        return sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None)

    engine = sa.create_engine(
        "sqlite+pysqlite://",
        creator=connect,
        poolclass=NullPool,
        json_serializer=json_text,
        json_deserializer=msgspec.json.decode,
    )
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            return work(connection)
    except sa.exc.DBAPIError as error:
        known = translate_sqlite(error, str(file))
        raise StoreError(f"{file}: {error.orig}") if known is error else known from error
    finally:
        engine.dispose()


def _is_at_rest(file: Path) -> bool:
    # In WAL mode even a reader makes `-wal` and `-shm` when they are not there, and they stay, belonging to whoever
    # looked. Without them nobody has the database open and nothing waits in a log, so the file is all there is.
    return not any(file.with_name(file.name + suffix).exists() for suffix in ("-wal", "-journal"))

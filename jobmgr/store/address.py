"""Where the database is: the URL that users write, and what of it may be shown."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from jobmgr.errors import InvalidRequest

BUSY_TIMEOUT_S = 15.0


def parse(text: str, password: str | None = None) -> sa.URL:
    """The address as SQLAlchemy needs it, a file's path made absolute. Raises InvalidRequest."""
    try:
        text.encode()
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise InvalidRequest(
            "database", f"{_hidden(text)!r} is not a database URL; write sqlite:///jobs.db"
        ) from None
    match url.get_backend_name():
        case "sqlite":
            if not url.database or url.database == ":memory:":
                raise InvalidRequest("database", "a job database needs a file; write sqlite:///jobs.db")
            if password is not None:
                raise InvalidRequest("database_password", "an SQLite file has no password; leave it out")
            file = str(Path(url.database).absolute())
            patience = {"timeout": str(BUSY_TIMEOUT_S), **url.query}
            return url.set(drivername="sqlite+pysqlite", database=file, query=patience)
        case "postgresql" | "postgres":
            return _for_asyncpg(url if password is None else url.set(password=password))
        case other:
            raise InvalidRequest("database", f"{other} is not supported; use sqlite or postgresql")


def shown(url: sa.URL) -> str:
    """The address without its password and without options that may hold one."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database}"
    host = url.query.get("host", "")
    return url.set(drivername="postgresql", query={"host": host} if host else {}).render_as_string()


def _hidden(text: str) -> str:
    return text if "@" not in text else "…@" + text.rpartition("@")[2]


def _for_asyncpg(url: sa.URL) -> sa.URL:
    query = dict(url.query)
    if "sslmode" in query:  # libpq's name for what asyncpg calls ssl
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)

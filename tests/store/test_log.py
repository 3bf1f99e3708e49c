"""SQLite's log (`-wal`): it grows while somebody reads or nobody tidies up, and is cut back afterwards."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa

from jobmgr.store import address
from jobmgr.store.sqlite import LOG_KEPT_BYTES, Sqlite

_MUCH = LOG_KEPT_BYTES + 1024 * 1024
_FILL = "INSERT INTO blobs VALUES (zeroblob(?))"
# Leaves a log that no checkpoint has tidied up, and waits to be killed.
_STRANGER = f"""
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA wal_autocheckpoint = 0")
connection.execute("{_FILL}", ({_MUCH},))
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database in WAL mode with an empty table."""
    path = tmp_path / "jobs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE blobs (content BLOB)")
    return path


@pytest_asyncio.fixture
async def backend(file: Path) -> AsyncIterator[Sqlite]:
    """Connections to `file` as a service has them."""
    backend = Sqlite(address.parse(f"sqlite:///{file}"))
    yield backend
    await backend.close()


async def _store(backend: Sqlite, size_bytes: int) -> None:
    await backend.write(lambda connection: connection.exec_driver_sql(_FILL, (size_bytes,)))


async def _stored_bytes(backend: Sqlite) -> list[int]:
    query = sa.text("SELECT length(content) FROM blobs")
    return await backend.read(lambda connection: list(connection.execute(query).scalars()))


def _log_bytes(file: Path) -> int:
    return file.with_name(f"{file.name}-wal").stat().st_size


def _leave_log(file: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _STRANGER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.kill()


async def test_log_is_cut_back_after_a_long_reader(file: Path, backend: Sqlite) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM blobs").fetchall()
        await _store(backend, _MUCH)
        grown_bytes = _log_bytes(file)

    # The first commit without a reader empties the log, the next one begins it anew.
    await _store(backend, 1)
    await _store(backend, 1)

    assert grown_bytes > LOG_KEPT_BYTES
    assert _log_bytes(file) <= LOG_KEPT_BYTES


async def test_log_that_a_killed_process_left_is_read_and_cut_back(file: Path, backend: Sqlite) -> None:
    _leave_log(file)
    grown_bytes = _log_bytes(file)

    await _store(backend, 1)
    await _store(backend, 1)

    assert grown_bytes > LOG_KEPT_BYTES
    assert await _stored_bytes(backend) == [_MUCH, 1, 1]
    assert _log_bytes(file) <= LOG_KEPT_BYTES

"""SQLite files that cannot be used: each gets a sentence that says what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

import jobmgr
from jobmgr.errors import (
    DatabaseInUse,
    InvalidRequest,
    JobExists,
    JobmgrError,
    NotADatabase,
    StoreError,
    StoreUnavailable,
)
from jobmgr.store import listing, submissions
from jobmgr.store.engine import Database
from jobmgr.store.lock import FileLock, make_file
from jobmgr.store.sqlite import Sqlite
from tests.postgresql import Cluster
from tests.store.worker import new_job, unfinished


@pytest.mark.parametrize(
    "content",
    [b"not a database at all\n" * 100, b"SQLite format 3\0" + b"\xff" * 4096],
    ids=["text", "damaged"],
)
async def test_file_that_is_no_database_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "jobs.db"
    file.write_bytes(content)
    database = Database(f"sqlite:///{file}")

    with pytest.raises(NotADatabase, match="is not an SQLite database or is damaged"):
        await database.upgrade()
    await database.close()

    assert file.read_bytes() == content


async def test_missing_directory_is_named(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/nowhere/jobs.db")

    with pytest.raises(StoreError, match="does its directory exist"):
        await database.upgrade()
    await database.close()


async def test_directory_instead_of_a_file_is_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}")

    with pytest.raises(StoreError, match="cannot be opened"):
        await database.upgrade()
    await database.close()


# What runs below is loaded before root's rights are given up: root may write where nobody may.
_INSERT_AS_NOBODY = """
import asyncio, os, sys
from jobmgr.domain.job import JobSpec, NewJob
from jobmgr.errors import StoreError
from jobmgr.store import submissions
from jobmgr.store.engine import Database

async def insert():
    await database.start()
    try:
        await database.write(submissions.insert, [NewJob("a", JobSpec(("true",)))])
    except StoreError as error:
        print(error)
    await database.close()

database = Database(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
asyncio.run(insert())
"""


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="jobmgr-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.parametrize("mode", [0o444, 0o644], ids=["file", "directory"])
def test_read_only_database_is_named(public_folder: Path, sqlite_template: Path, mode: int) -> None:
    directory = public_folder / "place"
    directory.mkdir()
    file = directory / "jobs.db"
    file.write_bytes(sqlite_template.read_bytes())
    file.chmod(mode)
    directory.chmod(0o555)

    done = subprocess.run(
        [sys.executable, "-c", _INSERT_AS_NOBODY, f"sqlite:///{file}"],
        env={"PYTHONPATH": str(Path(jobmgr.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert f"{file} or its directory is read-only; make it writable" in done.stdout, done.stderr


async def test_database_locked_by_another_program_is_said_to_be_busy(sqlite_url: str) -> None:
    file = sqlite_url.removeprefix("sqlite:///")
    database = Database(sqlite_url + "?timeout=0.2")
    await database.start()
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(
        StoreUnavailable, match="is busy, out of space, or takes too long: database is locked"
    ):
        await database.write(submissions.insert, [new_job("a")])
    readable = await database.read(unfinished)
    holder.execute("COMMIT")
    holder.close()
    stored = await database.write(submissions.insert, [new_job("a")])
    await database.close()

    assert readable == []
    assert [job.job_id for job in stored] == ["a"]


async def test_writer_waits_for_another_program_that_writes(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    await database.start()
    holder = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    holder.execute("UPDATE queues SET max_running = 7")
    writing = asyncio.create_task(database.write(submissions.insert, [new_job("a")]))
    await asyncio.wait([writing], timeout=0.1)
    waited = not writing.done()

    holder.execute("COMMIT")
    holder.close()
    stored = await writing
    await database.close()

    assert waited
    assert [job.job_id for job in stored] == ["a"]


async def test_other_program_may_write_while_the_service_runs(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    await database.start()
    await database.write(submissions.insert, [new_job("a")])

    with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as program:
        program.execute("UPDATE jobs SET name = 'from outside'")
        program.commit()

    (job,) = await database.read(listing.get, ["a"])
    await database.close()
    assert job.name == "from outside"


async def test_refused_bulk_does_not_lock_the_service_out(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    await database.start()
    bulk = [new_job("a"), new_job("b"), new_job("c")]
    await database.write(submissions.insert, bulk)
    with pytest.raises(JobExists):
        await database.write(submissions.insert, bulk)

    with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as program:
        program.execute("UPDATE jobs SET name = 'from outside'")
        program.commit()
    stored = await database.write(submissions.insert, [new_job("d")])
    await database.close()

    assert [job.job_id for job in stored] == ["d"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "jobs.db",
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://host/db",
        "oracle://u:secret@host/db",
        "://",
        "\0",
    ],
)
def test_url_that_is_no_database_of_ours_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Database(url)

    assert refused.value.field == "database"
    assert "secret" not in str(refused.value)


async def test_server_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    database = Database(f"postgresql://user@/db?host={tmp_path}")

    with pytest.raises(StoreUnavailable, match="PostgreSQL cannot be reached"):
        await database.read(unfinished)
    await database.close()


async def test_missing_database_on_a_server_is_told(postgresql: Cluster) -> None:
    database = Database(postgresql.url("nowhere"))

    with pytest.raises(JobmgrError, match="nowhere"):
        await database.read(unfinished)
    await database.close()


def test_second_service_on_one_file_is_refused(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "jobs.db"), FileLock(tmp_path / "jobs.db")
    first.acquire()

    with pytest.raises(DatabaseInUse, match=str(os.getpid())):
        second.acquire()
    first.release()

    second.acquire()
    second.release()


def test_second_service_that_names_the_file_by_a_link_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "jobs.db")
    first, second = FileLock(tmp_path / "jobs.db"), FileLock(link)
    first.acquire()

    with pytest.raises(DatabaseInUse):
        second.acquire()
    first.release()

    second.acquire()
    second.release()


_TRY_TO_LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 512, 0x40000000)
    except BlockingIOError:
        sys.exit(7)
"""


async def test_second_service_in_one_process_does_not_drop_the_locks_of_the_first(sqlite_url: str) -> None:
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    lock = FileLock(file)
    lock.acquire()
    database = Database(sqlite_url)
    await database.start()
    await database.write(submissions.insert, [new_job("a")])

    with pytest.raises(DatabaseInUse):
        FileLock(file).acquire()
    make_file(file)

    another = await asyncio.create_subprocess_exec(sys.executable, "-c", _TRY_TO_LOCK, str(file))
    assert await another.wait() == 7, "another program can take the file for unused"
    await database.close()
    lock.release()


def test_lock_is_free_again_after_its_holder_was_killed(tmp_path: Path) -> None:
    hold = "import sys; from pathlib import Path; from jobmgr.store.lock import FileLock\n"
    hold += "lock = FileLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    file = tmp_path / "jobs.db"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(file)],
        env={"PYTHONPATH": str(Path(jobmgr.__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(DatabaseInUse, match=str(holder.pid)):
            FileLock(file).acquire()
        holder.kill()

    lock = FileLock(file)
    lock.acquire()
    lock.release()


async def test_outage_is_warned_of_once_and_its_end_is_said(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(sqlite_url + "?timeout=0.01")
    await database.start()
    holder = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with caplog.at_level(logging.INFO, "jobmgr.store"):
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await database.write(submissions.insert, [new_job("a")])
            await database.read(unfinished)
        holder.execute("COMMIT")
        holder.close()
        await database.write(submissions.insert, [new_job("a")])
    await database.close()

    warning, end = caplog.messages
    assert warning.startswith("the database does not answer, writing waits: ")
    assert end == "writing works again"


async def test_close_lets_a_transaction_end_whose_caller_gave_up(tmp_path: Path) -> None:
    """As an upgrade that is interrupted: none of it, or all of it."""
    file = tmp_path / "jobs.db"
    backend = Sqlite(sa.make_url(f"sqlite:///{file}"))
    begun, go_on = threading.Event(), threading.Event()

    def work(connection: sa.Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE first (x)")
        begun.set()
        go_on.wait(30)
        connection.exec_driver_sql("CREATE TABLE second (x)")

    writing = asyncio.create_task(backend.write(work))
    await asyncio.to_thread(begun.wait, 30)
    writing.cancel()
    closing = asyncio.create_task(backend.close())
    await asyncio.sleep(0.2)  # In which a close that does not wait would have rolled the first half back.
    go_on.set()
    await closing

    with contextlib.closing(sqlite3.connect(file)) as program:
        rows = program.execute("SELECT name FROM sqlite_master WHERE name IN ('first', 'second')").fetchall()
    assert len(rows) == 2

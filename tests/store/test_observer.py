"""Looking at a database: nothing is changed by it, whatever state the database is in."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from jobmgr.errors import NotADatabase, StoreError, StoreUnavailable
from jobmgr.store import census, file, integrity, locking, schema, server
from jobmgr.store.engine import Database
from jobmgr.store.file import Content
from jobmgr.store.observer import Observer
from tests.store.worker import Worker

_HOLD = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
_TELL = "; print(flush=True); sys.stdin.read()"
WRITING = _HOLD + "c.execute('BEGIN IMMEDIATE')" + _TELL
OCCUPYING = _HOLD + "c.execute('PRAGMA locking_mode = EXCLUSIVE'); c.execute('BEGIN IMMEDIATE')" + _TELL
CRASHING = "import os; " + _HOLD + "c.execute('UPDATE queues SET paused = 1'); os._exit(0)"


@contextmanager
def other_process(program: str, database: Path) -> Iterator[int]:
    """A process that keeps something of the database locked; its id."""
    argv = [sys.executable, "-c", program, str(database)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


def traces(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    """All files with what would change if somebody wrote them.

    `-shm` is memory that all who have the file open share; every reader leaves marks in it.
    """
    stats = {path.name: path.stat() for path in folder.iterdir()}
    return {
        name: (one.st_ino, one.st_size, 0 if name.endswith("-shm") else one.st_mtime_ns, one.st_mode)
        for name, one in stats.items()
    }


def crash(database: Path) -> None:
    """Leave the database as a process does that is killed after a commit."""
    subprocess.run([sys.executable, "-c", CRASHING, str(database)], check=True)
    assert database.with_name("jobs.db-wal").stat().st_size > 0


def in_wal_mode(url: str) -> Path:
    """The file of an SQLite URL, used once and closed in order."""
    database = Path(url.removeprefix("sqlite:///"))
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    return database


async def count_queues(observer: Observer) -> int:
    def count(connection: sa.Connection) -> int:
        return int(connection.exec_driver_sql("SELECT count(*) FROM queues").scalar_one())

    return await observer.read(count)


@pytest.mark.parametrize("state", ["at rest", "crashed", "in use"])
async def test_a_look_at_a_file_leaves_no_trace(sqlite_url: str, tmp_path: Path, state: str) -> None:
    database = in_wal_mode(sqlite_url)
    connection = sqlite3.connect(database) if state == "in use" else None
    if connection is not None:
        connection.execute("UPDATE queues SET paused = 1")
        connection.commit()
    if state == "crashed":
        crash(database)
    before = traces(tmp_path)

    found = await count_queues(Observer(sqlite_url, 1.0))

    assert found == 1
    assert traces(tmp_path) == before
    if connection is not None:
        connection.close()


async def test_a_link_leads_to_what_is_in_the_log_of_the_file(sqlite_url: str, tmp_path: Path) -> None:
    database = in_wal_mode(sqlite_url)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "jobs.db").symlink_to(database)
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO queues (name) VALUES ('in the log')")

    found = await count_queues(Observer(f"sqlite:///{tmp_path}/link/jobs.db", 1.0))

    connection.close()
    assert found == 2


async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    observer = Observer(f"sqlite:///{tmp_path}/none.db", 1.0)

    with pytest.raises(StoreError):
        await count_queues(observer)

    assert traces(tmp_path) == {}


async def test_an_observer_writes_nothing_even_if_told_to(database_url: str) -> None:
    observer = Observer(database_url, 5.0)

    with pytest.raises((StoreError, StoreUnavailable), match=r"read-only|readonly"):
        await observer.read(lambda connection: connection.exec_driver_sql("DELETE FROM queues"))

    assert await count_queues(observer) == 1
    await observer.close()


async def test_a_locked_file_is_given_up_in_time_and_the_occupant_named(sqlite_url: str) -> None:
    database = in_wal_mode(sqlite_url)
    with other_process(OCCUPYING, database) as pid:
        occupant = locking.occupant(database)
        with pytest.raises(StoreUnavailable, match="locked"):
            await count_queues(Observer(sqlite_url, 0.3))

    assert occupant == pid
    assert locking.occupant(database) is None


async def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        observer = Observer(f"postgresql://ada:secret@127.0.0.1:{silent.getsockname()[1]}/jobs", 0.5)

        with pytest.raises(StoreUnavailable, match=r"within 0\.5 s"):
            await observer.read(server.look)

        await observer.close()


async def test_a_database_without_our_tables_is_an_error_of_the_store(empty_database_url: str) -> None:
    observer = Observer(empty_database_url, 5.0)

    with pytest.raises(StoreError):
        await observer.read(census.registered)

    await observer.close()


@pytest.mark.parametrize("database_name", ["no_such_database", "postgres"])
async def test_a_database_that_is_not_ours_is_told(postgresql_url: str, database_name: str) -> None:
    url = sa.make_url(postgresql_url).set(database=database_name).render_as_string()
    observer = Observer(url, 5.0)

    if database_name == "postgres":
        assert (await observer.read(schema.standing)).revision is None
    else:
        with pytest.raises((StoreError, StoreUnavailable), match="no_such_database"):
            await observer.read(schema.standing)

    await observer.close()


def test_a_writer_is_seen_only_if_it_does_not_let_go(sqlite_url: str) -> None:
    database = in_wal_mode(sqlite_url)
    with other_process(WRITING, database) as pid:
        found = locking.writer(database, 0.2)
    afterwards = locking.writer(database, 0.2)

    assert found == pid
    assert afterwards is None


def test_locks_hold_on_a_local_disk_and_the_probe_is_removed(tmp_path: Path) -> None:
    assert locking.failures(tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_without_room_for_a_probe_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        locking.failures(tmp_path / "none")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, Content.MISSING),
        (b"", Content.EMPTY),
        (b"hello " * 50, Content.OTHER),
        (b"SQLite", Content.OTHER),
    ],
)
def test_what_is_no_database_shows_from_outside(
    tmp_path: Path, content: bytes | None, expected: Content
) -> None:
    path = tmp_path / "jobs.db"
    if content is not None:
        path.write_bytes(content)

    assert file.look(path).content is expected


def test_the_journal_mode_shows_from_outside(sqlite_url: str) -> None:
    database = in_wal_mode(sqlite_url)
    in_wal = file.look(database)
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    rolled = file.look(database)

    assert (in_wal.content, rolled.content) == (Content.WAL, Content.ROLLBACK)
    assert in_wal.is_database
    assert in_wal.may_write
    assert in_wal.owner == os.geteuid()


def test_the_size_of_the_log_shows_from_outside(sqlite_url: str) -> None:
    database = in_wal_mode(sqlite_url)
    without_log = file.look(database)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE ballast (id INTEGER PRIMARY KEY)")

        with_log = file.look(database)

    assert without_log.log_bytes == 0
    assert with_log.log_bytes > 4096


def _large(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE ballast (id INTEGER PRIMARY KEY, text TEXT)")
        connection.execute("CREATE INDEX ix_ballast ON ballast (text)")
        rows = ((number, f"{number:08d}" * 20) for number in range(20_000))
        connection.executemany("INSERT INTO ballast VALUES (?, ?)", rows)
    connection.close()


@pytest.mark.parametrize("limit_s", [60.0, None])
async def test_damage_in_the_middle_of_a_file_is_found(sqlite_url: str, limit_s: float | None) -> None:
    database = in_wal_mode(sqlite_url)
    _large(database)
    sound = await Observer(sqlite_url, 1.0).read(integrity.check, limit_s)
    with database.open("r+b") as damaged:
        damaged.seek(database.stat().st_size // 2)
        damaged.write(b"\xff" * 4096)

    try:
        found = await Observer(sqlite_url, 1.0).read(integrity.check, limit_s)
        complaints = found.complaints
    except NotADatabase as error:
        complaints = (str(error),)

    assert sound == integrity.Integrity((), is_complete=True)
    assert complaints


async def test_a_check_ends_when_its_time_is_up(sqlite_url: str) -> None:
    database = in_wal_mode(sqlite_url)
    _large(database)

    found = await Observer(sqlite_url, 1.0).read(integrity.check, 0.0)

    assert found == integrity.Integrity((), is_complete=False)


async def test_a_server_tells_about_itself(postgresql_url: str) -> None:
    observer = Observer(postgresql_url, 5.0)
    before = await observer.read(server.look)
    other = Observer(postgresql_url, 5.0)
    await other.read(schema.standing)
    after = await observer.read(server.look)
    await other.close()
    await observer.close()

    assert before.number >= 130_000
    assert (before.forgets, before.is_read_only, before.may_write) == (None, False, True)
    assert after.used_connections == before.used_connections + 1
    assert abs(before.ahead_s) <= 1.0 + before.uncertainty_s


async def test_a_census_tells_who_holds_what(database: Database, database_url: str, worker: Worker) -> None:
    ended, live = await worker.add("ended"), await worker.add("live")
    claims = {claimed.job_id: claimed for claimed in await worker.claim()}
    await worker.start(claims[ended])
    await worker.finish(claims[ended])
    observer = Observer(database_url, 5.0)

    taken = await observer.read(
        census.take,
        [claims[ended].token, claims[live].token, "unknown"],
        {("ended", 1), ("ended", 2), ("x", 1)},
    )

    assert [(one.identity.id, one.has_stopped, one.live) for one in taken.registered] == [
        ("worker", False, 1)
    ]
    assert [(one.job_id, one.number, one.token) for one in taken.live] == [("live", 1, claims[live].token)]
    assert taken.ended == {claims[ended].token: True, claims[live].token: False}
    assert taken.known == {("ended", 1)}
    assert taken.newest_event is not None
    await observer.close()

"""An SQLite file that is deleted or replaced while it is open."""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.errors import DatabaseMoved, NotADatabase
from jobmgr.store.engine import Database
from tests.patience import eventually
from tests.store.worker import Worker, new_job, unfinished


@pytest.fixture
def file(sqlite_url: str) -> Path:
    return Path(sqlite_url.removeprefix("sqlite:///"))


@pytest_asyncio.fixture
async def worker(sqlite_url: str) -> AsyncIterator[Worker]:
    database = Database(sqlite_url)
    await database.start()
    yield await Worker.register(database)
    await database.close()


def delete(file: Path) -> None:
    file.unlink()


def replace(file: Path) -> None:
    other = file.with_name("other.db")
    shutil.copyfile(file, other)
    other.replace(file)


def delete_log(file: Path) -> None:
    file.with_name(f"{file.name}-wal").unlink()


@pytest.mark.parametrize("remove", [delete, replace, delete_log])
async def test_nothing_is_written_or_read_once_the_file_is_gone(
    worker: Worker, file: Path, remove: Callable[[Path], None]
) -> None:
    await worker.add("a")
    remove(file)

    with pytest.raises(DatabaseMoved, match=r"jobs\.db or its -wal was deleted or replaced"):
        await worker.add("b")
    with pytest.raises(DatabaseMoved):
        await worker.get("a")


async def test_file_that_is_put_back_is_used_again(worker: Worker, file: Path) -> None:
    away = file.rename(file.with_name("away.db"))  # noqa: ASYNC240
    with pytest.raises(DatabaseMoved):
        await worker.add("a")
    away.rename(file)

    await worker.add("a")

    assert [job.job_id for job in await worker.all()] == ["a"]


@pytest.mark.parametrize("remove", [delete, replace, delete_log])
async def test_what_was_in_it_is_saved_beside_it_once(
    worker: Worker, file: Path, remove: Callable[[Path], None]
) -> None:
    await worker.insert(*(new_job() for _ in range(100)))
    remove(file)

    async with asyncio.TaskGroup() as group:
        noticing = group.create_task(worker.database.notice_others(0.01))
        said = await eventually(lambda: refusal(worker, "is saved"))
        (copy,) = file.parent.glob("jobs.db.rescued-*")
        saved = Database(f"sqlite:///{copy}")
        await saved.start()
        assert len(await saved.read(unfinished)) == 100
        await saved.close()
        noticing.cancel()

    assert f"`mv {copy} {file}`" in said
    assert copy.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.glob("jobs.db.rescued-*[0-9]")) == [copy]


async def test_what_is_told_to_be_done_brings_everything_back(sqlite_url: str, file: Path) -> None:
    database = Database(sqlite_url)
    await database.start()
    worker = await Worker.register(database)
    names = await worker.insert(*(new_job() for _ in range(300)))
    # What stands in the file and what stands in its log differ by many pages, so they must not be mixed.
    for name in names[:150]:
        await worker.update(name, description="x" * 1000)
    delete(file)
    said = await saved(worker)
    await database.close()

    for command in re.findall("`([^`]*)`", said):
        subprocess.run(["sh", "-c", command], check=True)  # noqa: ASYNC221 -- a moment
    again = Database(sqlite_url)
    await again.start()
    left = await again.read(unfinished)
    sound = await again.read(lambda connection: connection.exec_driver_sql("PRAGMA integrity_check").scalar())
    await again.close()

    assert (len(left), sound) == (300, "ok")


async def test_file_that_is_deleted_again_after_it_was_put_back_is_saved_again(
    worker: Worker, file: Path
) -> None:
    await worker.add("before")
    away = file.rename(file.with_name("away.db"))  # noqa: ASYNC240
    first = await saved(worker)
    away.rename(file)
    await worker.add("after")
    delete(file)

    second = await saved(worker)

    assert second != first
    latest = max(file.parent.glob("jobs.db.rescued-*[0-9]"), key=lambda copy: copy.name)
    assert str(latest) in second
    with closing(sqlite3.connect(latest)) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (2,)


async def test_a_file_that_is_found_damaged_is_not_written_to_any_more(worker: Worker, file: Path) -> None:
    await worker.insert(*(new_job(description="x" * 1000) for _ in range(1000)))
    await worker.database.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar())
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with file.open("r+b") as content:
        content.seek(4096)
        content.write(b"\xff" * (file.stat().st_size - 4096))  # noqa: ASYNC240

    with pytest.raises(NotADatabase, match="damaged"):
        await worker.database.read(
            lambda connection: connection.exec_driver_sql(
                "SELECT sum(length(description)) FROM jobs"
            ).scalar()
        )
    with pytest.raises(NotADatabase, match="put a sound copy in its place"):
        await worker.add("a")


async def saved(worker: Worker) -> str:
    """What is said once a copy was made."""
    async with asyncio.TaskGroup() as group:
        noticing = group.create_task(worker.database.notice_others(0.01))
        said = await eventually(lambda: refusal(worker, "is saved"))
        noticing.cancel()
    return str(said)


async def test_copy_that_cannot_be_made_is_said_with_its_reason(worker: Worker, file: Path) -> None:
    folder = file.parent
    folder.rename(folder.with_name("elsewhere"))

    async with asyncio.TaskGroup() as group:
        noticing = group.create_task(worker.database.notice_others(0.01))
        said = await eventually(lambda: refusal(worker, "a copy, which failed"))
        folder.with_name("elsewhere").rename(folder)
        noticing.cancel()

    assert "No such file or directory" in said
    await worker.add("a")


async def refusal(worker: Worker, part: str) -> str | None:
    with pytest.raises(DatabaseMoved) as moved:
        await worker.all()
    return str(moved.value) if part in str(moved.value) else None

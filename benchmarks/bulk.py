"""Submitting many jobs in one request, beside the same rows inserted by the bare driver."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import aiohttp

from benchmarks import backlog, scratch
from benchmarks.service import Service
from benchmarks.spawn import NOTHING
from benchmarks.table import Figure, Goal
from jobmgr.domain.job import JobSpec, NewJob
from jobmgr.store import submissions
from jobmgr.store.engine import Database

_GOAL = Goal("≥", 0.3)
_TABLES = ("jobs", "specs", "events")


async def measure(service: Service, count: int) -> list[Figure]:
    """Jobs per second, from the first byte sent to the answer, which follows the commit."""
    async with aiohttp.ClientSession(service.url) as session:
        body = backlog.lines(await backlog.new_queue(session, paused=True), count)
        before = time.perf_counter()
        await backlog.post_lines(session, body)
        ours_per_s = count / (time.perf_counter() - before)
    bare_per_s = await _bare(count)
    limit_name = "bare sqlite3 inserts of the same rows, one commit"
    return [Figure("submit in bulk, NDJSON", "/s", ours_per_s, bare_per_s, limit_name, _GOAL)]


async def _bare(count: int) -> float:
    file = scratch.new_directory() / "bare.db"
    await _store_template(file)
    return await asyncio.to_thread(_insert, file, count)


async def _store_template(file: Path) -> None:
    """A database of ours with one job in it, whose rows are what a job costs."""
    database = Database(f"sqlite:///{file}")
    await database.start()
    try:
        await database.upgrade()
        await database.write(submissions.insert, [NewJob("template", JobSpec((NOTHING,)), name="job 0")])
    finally:
        await database.close()


def _insert(file: Path, count: int) -> float:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        rows = {table: _rows(connection, table, count) for table in _TABLES}
        before = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        for table, copies in rows.items():
            marks = ", ".join("?" * len(copies[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", copies)
        connection.execute("COMMIT")
        return count / (time.perf_counter() - before)


def _rows(connection: sqlite3.Connection, table: str, count: int) -> list[tuple[object, ...]]:
    """Copies of the template's row that differ in the ids: of the job, and of the row."""
    cursor = connection.execute(f"SELECT * FROM {table}")
    columns = [column[0] for column in cursor.description]
    template = dict(zip(columns, cursor.fetchone(), strict=True))
    copies = []
    for number in range(2, count + 2):
        changes = {"id": number, "job": number, "seq": number, "job_id": f"job{number:017}"}
        copies.append(tuple(changes.get(name, template[name]) for name in columns))
    return copies

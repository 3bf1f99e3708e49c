"""Submitting many jobs in one request, beside the same rows inserted by the bare driver."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import aiohttp
import asyncpg
import sqlalchemy as sa

from benchmarks import backlog, beside
from benchmarks.service import Service, forget_peak, peak_mb, resident_mb
from benchmarks.spawn import NOTHING
from benchmarks.table import Figure, Goal
from jobmgr.domain.job import JobSpec, NewJob
from jobmgr.store import submissions
from jobmgr.store.engine import Database

_MOST_MB = 100.0
_RATE_GOAL = Goal("≥", 0.3)
_MEMORY_GOAL = Goal("<", 1)
_TABLES = ("jobs", "specs", "events")


async def measure(service: Service, count: int) -> list[Figure]:
    """Jobs per second, from the first byte sent to the answer, which follows the commit; what memory that takes."""
    bare_before = await _bare(service, count)
    async with aiohttp.ClientSession(service.url) as session:
        queue = await backlog.new_queue(session, paused=True)
        body = backlog.lines(queue, count)
        forget_peak(service.pid)
        used_mb = resident_mb(service.pid)
        before = time.perf_counter()
        await backlog.post_lines(session, body)
        ours_per_s = count / (time.perf_counter() - before)
        grown_mb = peak_mb(service.pid) - used_mb
        stored = (await backlog.count_statuses(session, queue))["queued"]
    assert stored == count, f"{stored} of {count} jobs are stored"
    # Before and after, because the machine's other work comes and goes.
    bare_per_s = (bare_before + await _bare(service, count)) / 2
    driver = "asyncpg" if service.engine == "PostgreSQL" else "sqlite3"
    name = f"submit {count:,} jobs in bulk, NDJSON, {service.engine}"
    return [
        Figure(
            name,
            "/s",
            ours_per_s,
            bare_per_s,
            f"bare {driver} inserts of the same rows, one commit",
            _RATE_GOAL,
        ),
        Figure(
            f"{name}, memory of the service meanwhile",
            "MB more",
            grown_mb,
            _MOST_MB,
            "what was promised",
            _MEMORY_GOAL,
        ),
    ]


async def _bare(service: Service, count: int) -> float:
    url, _ = await beside.database(service, f"bulk-{secrets.token_hex(4)}")
    await _store_template(url)
    if service.engine == "PostgreSQL":
        return await _insert_postgresql(url, count)
    return await asyncio.to_thread(_insert_sqlite, url, count)


async def _store_template(url: str) -> None:
    """Make the schema, and one job in it, whose rows are what a job costs."""
    database = Database(url)
    await database.start()
    try:
        await database.upgrade()
        await database.write(submissions.insert, [NewJob("template", JobSpec((NOTHING,)), name="job 0")])
    finally:
        await database.close()


def _insert_sqlite(url: str, count: int) -> float:
    with closing(sqlite3.connect(sa.make_url(url).database or "", isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.row_factory = sqlite3.Row
        templates = {name: dict(connection.execute(f"SELECT * FROM {name}").fetchone()) for name in _TABLES}
        rows = {name: list(_copies(template, count)) for name, template in templates.items()}
        before = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        for name, template in templates.items():
            marks = ", ".join("?" * len(template))
            connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows[name])
        connection.execute("COMMIT")
        return count / (time.perf_counter() - before)


async def _insert_postgresql(url: str, count: int) -> float:
    connection = await asyncpg.connect(url)
    try:
        templates: dict[str, dict[str, Any]] = {
            name: dict(*await connection.fetch(f"SELECT * FROM {name}")) for name in _TABLES
        }
        rows = {name: list(_copies(template, count)) for name, template in templates.items()}
        before = time.perf_counter()
        async with connection.transaction():
            for name, template in templates.items():
                marks = ", ".join(f"${number}" for number in range(1, len(template) + 1))
                await connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows[name])
        return count / (time.perf_counter() - before)
    finally:
        await connection.close()


def _copies(template: dict[str, Any], count: int) -> Iterator[tuple[object, ...]]:
    """Copies of the template's row that differ in the ids: of the job, and of the row."""
    for number in range(2, count + 2):
        changes = {"id": number, "job": number, "seq": number, "job_id": f"job{number:017}"}
        yield tuple((template | changes)[name] for name in template)

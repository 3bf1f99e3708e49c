"""A process that asks a database for a report again and again, as an administrator's own client would.

`python -m benchmarks.reporting URL` says `ready` when it has connected, and asks until its input ends; then it says
how many reports it got. Instead of a URL `nothing` makes it compute all the time and ask nobody.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from contextlib import closing

import asyncpg

NOBODY = "nothing"
_SQLITE = "sqlite:///"
# Everything of everything: nothing narrows it, so all three tables are read as a whole.
_REPORT = """
SELECT jobs.queue, jobs.status, attempts.outcome, events.kind,
       count(*), count(DISTINCT jobs.id), sum(attempts.cpu_s), max(events.at)
FROM jobs
JOIN events ON events.job = jobs.id
LEFT JOIN attempts ON attempts.job = jobs.id
GROUP BY jobs.queue, jobs.status, attempts.outcome, events.kind
ORDER BY count(*) DESC
"""


def _ask_sqlite(file: str, ended: threading.Event) -> int:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        print("ready", flush=True)
        reports = 0
        while not ended.is_set():
            assert connection.execute(_REPORT).fetchall()
            reports += 1
        return reports


async def _ask_postgresql(url: str, ended: threading.Event) -> int:
    connection = await asyncpg.connect(url)
    print("ready", flush=True)
    reports = 0
    while not ended.is_set():
        assert await connection.fetch(_REPORT)
        reports += 1
    await connection.close()
    return reports


def _compute(ended: threading.Event) -> int:
    print("ready", flush=True)
    rounds = 0
    while not ended.is_set():
        rounds += sum(range(10_000)) > 0
    return rounds


def _ask(url: str) -> int:
    ended = threading.Event()

    def await_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=await_end, daemon=True).start()
    if url == NOBODY:
        return _compute(ended)
    if url.startswith(_SQLITE):
        return _ask_sqlite(url.removeprefix(_SQLITE), ended)
    return asyncio.run(_ask_postgresql(url, ended))


if __name__ == "__main__":
    print(_ask(sys.argv[1]), flush=True)

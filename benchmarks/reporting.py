"""A process that asks a database for a report again and again, as an administrator's own client would.

`python -m benchmarks.reporting URL` says `ready` when it has connected, and asks until its input ends; then it says
how many reports it got. Instead of a URL `nothing` makes it compute all the time and ask nobody. With `yielding`
behind the URL whoever works for it gives way to all others first; it says why if that cannot be, and ends.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
from contextlib import closing

import asyncpg

from benchmarks import yielding

NOBODY = "nothing"
YIELDING = "yielding"
READY = "ready"
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


# Only of a server on this machine; on others no process may be touched that has the same number.
_OWN_BACKEND = "SELECT pg_backend_pid() WHERE inet_server_addr() IS NULL"


def _ask_sqlite(file: str, ended: threading.Event, *, yields: bool) -> int:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        if yields:
            yielding.give_way(os.getpid())
        print(READY, flush=True)
        reports = 0
        while not ended.is_set():
            assert connection.execute(_REPORT).fetchall()
            reports += 1
        return reports


async def _ask_postgresql(url: str, ended: threading.Event, *, yields: bool) -> int:
    connection = await asyncpg.connect(url)
    if yields:
        await _let_server_give_way(connection)
    print(READY, flush=True)
    reports = 0
    while not ended.is_set():
        assert await connection.fetch(_REPORT)
        reports += 1
    await connection.close()
    return reports


async def _let_server_give_way(connection: asyncpg.Connection) -> None:
    backend = await connection.fetchval(_OWN_BACKEND)
    if backend is None:
        sys.exit("the server is not reached by a Unix socket, so its processes cannot be told to give way")
    # Its helpers would be processes of their own, which do not give way.
    await connection.execute("SET max_parallel_workers_per_gather = 0")
    try:
        yielding.give_way(backend)
    except OSError as error:
        sys.exit(f"the server's process cannot be told to give way: {error}")


def _compute(ended: threading.Event) -> int:
    print(READY, flush=True)
    rounds = 0
    while not ended.is_set():
        rounds += sum(range(10_000)) > 0
    return rounds


def _ask(url: str, *, yields: bool) -> int:
    ended = threading.Event()

    def await_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=await_end, daemon=True).start()
    if url == NOBODY:
        return _compute(ended)
    if url.startswith(_SQLITE):
        return _ask_sqlite(url.removeprefix(_SQLITE), ended, yields=yields)
    return asyncio.run(_ask_postgresql(url, ended, yields=yields))


if __name__ == "__main__":
    print(_ask(sys.argv[1], yields=YIELDING in sys.argv[2:]), flush=True)

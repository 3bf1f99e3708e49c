from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import asyncpg
import pytest

from benchmarks import postgresql, reporting, yielding
from benchmarks.service import environment, python
from benchmarks.skip import Skipped

# A table for each one that the report reads, with a row in it for the report to show.
_TABLES = """
CREATE TABLE jobs (id integer, queue text, status text);
CREATE TABLE events (job integer, kind text, at integer);
CREATE TABLE attempts (job integer, outcome text, cpu_s real);
INSERT INTO jobs VALUES (1, 'q', 'completed');
INSERT INTO events VALUES (1, 'submitted', 1);
"""

_OTHER_BACKEND = (
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


def _niceness(pid: int) -> tuple[int, str]:
    session = Path(f"/proc/{pid}/autogroup")
    told = session.read_text().split()[-1] if session.exists() else "19"
    return os.getpriority(os.PRIO_PROCESS, pid), told


def test_process_that_gives_way_has_the_lowest_priority_in_a_session_of_the_lowest() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as process:
        yielding.give_way(process.pid)
        niceness = _niceness(process.pid)

        process.communicate(b"")

    assert niceness == (19, "19")


async def test_reporting_query_that_gives_way_does_so_in_the_server() -> None:
    try:
        with postgresql.server() as url:
            client = await asyncpg.connect(url)
            await client.execute(_TABLES)
            reader = await asyncio.create_subprocess_exec(
                *python("benchmarks.reporting", url, reporting.YIELDING),
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert reader.stdout is not None
            assert (await reader.stdout.readline()).decode().strip() == reporting.READY

            niceness = _niceness(await client.fetchval(_OTHER_BACKEND))

            await reader.communicate(b"")
            await client.close()
    except Skipped as reason:
        pytest.skip(str(reason))

    assert niceness == (19, "19")
    assert reader.returncode == 0

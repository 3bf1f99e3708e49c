"""Procrastinate on a private PostgreSQL server, one worker with WIDTH slots; a task runs one command."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from benchmarks import postgresql
from benchmarks.peers import program
from benchmarks.peers.peer import Peer
from benchmarks.service import WIDTH
from benchmarks.spawn import NOTHING


async def _rate(interpreter: Path, count: int) -> float:
    # Our server: its files stay until the run ends.
    with postgresql.server() as url:
        return await program.rate("benchmarks.peers.procrastinate", interpreter, count, url)


PEER = Peer(
    title="Procrastinate",
    keeps="PostgreSQL",
    package="procrastinate",
    installs=(("procrastinate", "psycopg[binary]"),),
    rate=_rate,
    engine="PostgreSQL",
)


async def _work(count: int, url: str) -> float:
    from procrastinate import App, PsycopgConnector  # noqa: PLC0415 -- installed in the peer's environment only

    app = App(connector=PsycopgConnector(conninfo=url))

    @app.task  # type: ignore[untyped-decorator]
    async def run_one() -> None:
        process = await asyncio.create_subprocess_exec(NOTHING)
        assert await process.wait() == 0

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        before = time.perf_counter()
        await run_one.batch_defer_async(*[{}] * count)
        await app.run_worker_async(concurrency=WIDTH, wait=False)
        rate = count / (time.perf_counter() - before)
        done = list(await app.job_manager.list_jobs_async(status="succeeded"))
    assert len(done) == count, f"{len(done)} of {count} jobs succeeded"
    return rate


def _measure(count: int, url: str) -> float:
    return asyncio.run(_work(count, url))


if __name__ == "__main__":
    program.answer(_measure)

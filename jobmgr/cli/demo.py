"""`demo`: a small campaign on a service of its own, without anything else installed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from jobmgr.cli import output, table, wording
from jobmgr.cli.main import DONE, JOB_FAILED
from jobmgr.client import Client
from jobmgr.domain.job import Job
from jobmgr.domain.status import Status
from jobmgr.errors import StoreError

SAMPLES = 53
EXPECTED = {Status.COMPLETED: 56, Status.FAILED: 3, Status.CANCELLED: 1}
TERMINATED = 128 + signal.SIGTERM
START_S = 30.0
STOP_S = 30.0

_PI = """
import random, sys
draw = random.Random(int(sys.argv[1])).random
print(4 * sum(draw() ** 2 + draw() ** 2 < 1 for _ in range(100_000)) / 100_000)
"""
_FLAKY = "import os, sys; sys.exit('a licence was missing' if os.environ['JOBMGR_ATTEMPT'] == '1' else 0)"


@click.command()
@click.option("--keep", is_flag=True, help="Leave the service running.")
def demo(*, keep: bool) -> int:
    """Run a small campaign on a service of its own: 60 jobs, a few of which fail on purpose."""
    try:
        return asyncio.run(_demo(keep=keep))
    except asyncio.CancelledError:
        return TERMINATED


async def _demo(*, keep: bool) -> int:
    task = asyncio.current_task()
    assert task is not None
    # Whoever ends the demo ends its service with it.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    home = Path(tempfile.mkdtemp(prefix="jobmgr-demo-"))
    async with _service(home, keep=keep) as (url, pid):
        async with Client(url, (home / "token").read_text(encoding="ascii").strip()) as client:
            output.line(f"the service runs at {url}; submitting {len(campaign())} jobs")
            job_ids = await client.submit_many(campaign())
            with output.progress("running") as progress:
                jobs = await client.wait_many(job_ids, progress, timeout_s=300)
            await _report(client, jobs)
        _tell_where(home, url, pid if keep else None)
    return DONE if Counter(job.status for job in jobs) == EXPECTED else JOB_FAILED


def campaign() -> list[dict[str, Any]]:
    """The jobs: samples that complete, one that needs a second try, failures on purpose, and dependants."""
    python = [sys.executable, "-c"]
    samples = [
        {"name": f"sample {seed}", "command": [*python, _PI, str(seed)]} for seed in range(1, SAMPLES + 1)
    ]
    samples[0]["job_id"] = "sample-1"
    return [
        *samples,
        {"name": "succeeds at the second try", "command": [*python, _FLAKY],
         "retry": {"max_attempts": 2, "backoff": "1s"}},
        {"name": "fails on purpose", "command": [*python, "raise SystemExit('bad geometry')"], "job_id": "bad"},
        {"name": "a program that is not there", "command": ["/no/such/solver"]},
        {"name": "takes too long", "command": ["sleep", "60"], "resources": {"walltime": "1s"}},
        {"name": "runs after sample 1", "command": ["echo", "sample 1 is there"],
         "depends_on": [{"job_id": "sample-1"}]},
        {"name": "runs because another failed", "command": ["echo", "cleaning up"],
         "depends_on": [{"job_id": "bad", "when": "failure"}]},
        {"name": "never runs, because another failed", "command": ["echo", "never"],
         "depends_on": [{"job_id": "bad"}]},
    ]  # fmt: skip


@asynccontextmanager
async def _service(home: Path, *, keep: bool) -> AsyncIterator[tuple[str, int]]:
    """A service with `home` as its state directory on a free port: its URL and process id."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBMGR_")}
    with (home / "service.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "jobmgr", "serve", "--port", "0"),
            cwd=home,
            env=environment | {"JOBMGR_HOME": str(home)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            # Ctrl-C is for the demo, which then stops the service in its own way.
            start_new_session=True,
        )
    try:
        yield await _url_of(process, home), process.pid
    except BaseException:
        await _stop(process)
        raise
    if not keep:
        await _stop(process)


async def _url_of(process: asyncio.subprocess.Process, home: Path) -> str:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            line = (await process.stdout.readline()).decode().strip()
    except TimeoutError:
        line = ""
    if not line.startswith("listening on "):
        raise StoreError(f"the service of the demo did not start; {home / 'service.log'} says why")
    return line.removeprefix("listening on ")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _report(client: Client, jobs: Sequence[Job]) -> None:
    samples = [job for job in jobs if job.name.startswith("sample ") and job.status is Status.COMPLETED]
    logs = await asyncio.gather(*(client.log(job.job_id) for job in samples))
    output.show(table.jobs_table(jobs[SAMPLES:], wording.utc_now()))
    output.line("")
    counts = Counter(job.status for job in jobs)
    output.line(", ".join(f"{count} {status}" for status, count in counts.items()))
    if logs:
        mean = sum(float(log.data) for log in logs) / len(logs)
        output.line(f"pi is about {mean:.4f}, from {len(logs)} samples")


def _tell_where(home: Path, url: str, pid: int | None) -> None:
    if pid is not None:
        output.line(
            f"the service still runs at {url}; look with `jobmgr --url {url} ls`, stop it with `kill {pid}`"
        )
    else:
        output.line(f"to look at the jobs again: `JOBMGR_HOME={home} jobmgr serve`")
    output.line(f"database, logs and run directories are in {home}")

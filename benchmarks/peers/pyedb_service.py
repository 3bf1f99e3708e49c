"""The PyEDB manager as a service for one run, in the peer's environment, and what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec

from benchmarks import scratch, submit
from benchmarks.service import environment, python
from benchmarks.skip import Skipped, last_lines

PATH = "/jobs/submit"
LOOK_S = 0.05


class Manager(NamedTuple):
    """Where it answers, a directory for what its jobs need, and its process."""

    url: str
    home: Path
    pid: int


@contextlib.contextmanager
def serving(interpreter: Path, width: int) -> Iterator[Manager]:
    """A manager that has run nothing yet.

    Raises Skipped if it does not start, or does not answer as it should to what is done meanwhile.
    """
    home = scratch.new_directory()
    (home / "project.aedt").touch()
    command = python("benchmarks.peers.pyedb_server", str(width), interpreter=interpreter)
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=home, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise Skipped(f"its manager did not start: {last_lines((home / 'log').read_text())}")
        yield Manager(url, home, process.pid)
    except aiohttp.ClientError as error:
        raise Skipped(f"its manager gave up: {error!r}") from error
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextlib.asynccontextmanager
async def slot_held(url: str, home: Path) -> AsyncIterator[None]:
    """Its only slot is held by a job that waits until the end of the block."""
    fifo = home / "fifo"
    os.mkfifo(fifo)
    # Open for both, so that neither this nor the job's `cat` waits for the other; it ends when this is closed.
    descriptor = os.open(fifo, os.O_RDWR)
    try:
        async with submit.session(url) as session:
            waiter = script(home / "waiter", f"exec cat '{fifo}'")
            await submit.post_all(session, PATH, [body(home, waiter, "waiter")])
            await await_queue(session, queued=0, running=1)
        yield
    finally:
        os.close(descriptor)


def body(home: Path, program: Path | str, name: str) -> bytes:
    """What is posted to PATH: a simulation whose solver is `program`."""
    config = {
        "jobid": name,
        "user": "benchmark",
        "ansys_edt_path": str(program),
        "project_path": str(home / "project.aedt"),
    }
    return msgspec.json.encode({"config": config})


def script(file: Path, text: str) -> Path:
    """A program that does what this text for a shell says."""
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o700)
    return file


async def await_queue(session: aiohttp.ClientSession, *, queued: int, running: int) -> None:
    """Return once so many jobs are queued and running."""
    while await queue(session) != (queued, running):  # noqa: ASYNC110 -- it tells nobody
        await asyncio.sleep(LOOK_S)


async def queue(session: aiohttp.ClientSession) -> tuple[int, int]:
    """How many jobs are queued and running."""
    async with session.get("/queue") as answer:
        answer.raise_for_status()
        found = await answer.json()
    return found["total_queued"], found["running_jobs"]

"""A peer's module as a program in the peer's environment: `python -m MODULE COUNT …`, which prints jobs per second."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import scratch
from benchmarks.peers.peer import Rate
from benchmarks.service import environment, python
from benchmarks.skip import Skipped, last_lines


def runs(module: str) -> Rate:
    """How to measure a peer: run its module, in an empty directory."""

    async def of_module(interpreter: Path, count: int) -> float:
        return await rate(module, interpreter, count)

    return of_module


async def rate(module: str, interpreter: Path, count: int, *arguments: str) -> float:
    """What the module prints last, as a program of the peer's Python. Raises Skipped if it fails."""
    command = python(module, str(count), *arguments, interpreter=interpreter)
    return float((await _output(command)).splitlines()[-1])


def answer(measure: Callable[..., float]) -> None:
    """The other side, in the peer's environment: measure as many jobs as were asked for, and print the rate."""
    print(measure(int(sys.argv[1]), *sys.argv[2:]))


async def _output(command: list[str]) -> str:
    log = scratch.new_directory() / "log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=log.parent, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=stderr
        )
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
    if process.returncode != 0:
        raise Skipped(f"`{' '.join(command)}` failed: {last_lines(log.read_text(errors='replace'))}")
    return output.decode()

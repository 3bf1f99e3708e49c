"""A local executor with real keepers, and the eyes to see what it did."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from jobmgr.executors import process
from jobmgr.executors.local import LocalExecutor
from jobmgr.executors.protocol import Ended, ExitRecord, Launch, Lost, NeverRan, Report, Started

TIMEOUT_S = 30.0


async def eventually(holds: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
    """The first true answer of `holds`; fails the test if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (answer := holds()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {holds}"
        await asyncio.sleep(0.01)
    return answer


def arguments_of(pid: int) -> bytes:
    """The command line of a process, with NUL bytes; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class Service:
    """One life of a service: an executor and the reports it made."""

    def __init__(self, work: Path, base_env: Mapping[str, str] | None = None, **options: Any) -> None:
        self.work = work
        self.reports: list[Report] = []
        self._news = asyncio.Event()
        options = {"leftover_grace_s": 1.0, "walltime_grace_s": 1.0, **options}
        base_env = {"PATH": os.environ["PATH"]} if base_env is None else base_env
        self.executor = LocalExecutor(work, self._report, base_env=base_env, **options)

    def _report(self, report: Report) -> None:
        self.reports.append(report)
        self._news.set()

    async def started(self, launch: Launch) -> Started:
        found = await self._wait(launch, (Started,))
        assert isinstance(found, Started)
        return found

    async def final(self, launch: Launch) -> Report:
        return await self._wait(launch, (Ended, NeverRan, Lost))

    async def record(self, launch: Launch) -> ExitRecord:
        report = await self.final(launch)
        assert isinstance(report, Ended), report
        return report.record

    async def run(self, launch: Launch) -> ExitRecord:
        await self.executor.launch([launch])
        return await self.record(launch)

    async def _wait(self, launch: Launch, kinds: tuple[type, ...]) -> Report:
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for report in self.reports:
                    if report.token == launch.token and isinstance(report, kinds):
                        return report
                self._news.clear()
                await self._news.wait()

    def finals(self) -> list[Report]:
        return [report for report in self.reports if not isinstance(report, Started)]

    def output(self, launch: Launch, name: str = "stdout") -> bytes:
        return (self.run_dir(launch) / name).read_bytes()

    def run_dir(self, launch: Launch) -> Path:
        return self.work / "runs" / launch.job_id / str(launch.number)

    def control(self, launch: Launch) -> Path:
        return self.work / "control" / launch.job_id / str(launch.number)

    def holder(self, launch: Launch) -> dict[str, Any]:
        """The holder that stands in the gate."""
        found: dict[str, Any] = json.loads((self.control(launch) / "gate").read_text())["holder"]
        return found


class Site:
    """A work directory, its services one after another, and the processes it must not leave behind."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.tokens: list[str] = []
        self._numbers = itertools.count(1)
        self._services: list[Service] = []

    def launch_of(self, *command: str, **fields: Any) -> Launch:
        token = os.urandom(16).hex()
        self.tokens.append(token)
        job_id = fields.pop("job_id", f"job-{next(self._numbers)}")
        return Launch(job_id=job_id, number=fields.pop("number", 1), token=token, command=command, **fields)

    def shell(self, script: str, **fields: Any) -> Launch:
        return self.launch_of("/bin/sh", "-c", script, **fields)

    async def service(self, **options: Any) -> Service:
        service = Service(self.work, **options)
        await service.executor.start()
        self._services.append(service)
        return service

    def holders(self) -> list[int]:
        """The living keepers and wardens of this work directory."""
        found = []
        for stat in process.living_processes():
            try:
                log = Path(f"/proc/{stat.pid}/fd/2").readlink()
            except OSError:
                continue
            if b"jobmgr.executors.warden" in arguments_of(stat.pid) and log == self.work / "keepers.log":
                found.append(stat.pid)
        return found

    def commands(self) -> list[process.ProcessStat]:
        """The living processes of all attempts."""
        return [stat for stat in process.living_processes() if process.token_of(stat.pid) in self.tokens]

    async def close(self) -> None:
        for service in self._services:
            await service.executor.stop()
        left = self.commands()
        process.send_signals(left, signal.SIGCONT, signal.SIGKILL)
        await eventually(lambda: not self.holders())
        assert left == [], "the test left commands running"


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path / "work")
    yield site
    await site.close()


@pytest_asyncio.fixture
async def service(site: Site) -> Service:
    return await site.service()


@pytest.fixture
def is_root() -> bool:
    return os.geteuid() == 0

"""All jobs in one answer, `GET /jobs`, as the clients of PyEDB's job manager ask for them: beside its bytes.

`--peers pyedb` asks that manager for as many, in turns with ours.
"""

from __future__ import annotations

import http.client
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from benchmarks import beside, handler_of_bytes, scratch
from benchmarks.service import WIDTH, Service, cpu_s, serving
from benchmarks.spawn import NOTHING
from benchmarks.table import Figure
from jobmgr.hfss import HFSSSimulationConfig
from jobmgr.hfss.job import new_job
from jobmgr.store import queues, submissions
from jobmgr.store.engine import Database
from jobmgr.store.queues import QueueChange

PATH = "/jobs"
TIMES = 5
_BULK = 1000
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one answer, in ms: its first and its last bytes, the service's processor time, the longest wait of another."""

    first_ms: float
    whole_ms: float
    used_ms: float
    other_ms: float


async def measure(service: Service, stored: int) -> list[Figure]:
    """Milliseconds, with so many simulations."""
    home = scratch.new_directory()
    with serving(home, await filled(service, home / "project.aedt", stored), WIDTH) as running:
        seen = [await ask(running.url, running.pid, stored) for _ in range(TIMES)]
        page_ms = [await _ms(running.url, f"{PATH}?limit={_PAGE}", _PAGE) for _ in range(TIMES)]
        body = await _read(running.url, PATH)
    with handler_of_bytes.running(PATH, body) as url:
        bare_ms = statistics.median([await _ms(url, PATH, stored) for _ in range(TIMES)])
    whole_ms = statistics.median(answer.whole_ms for answer in seen)
    what = title(stored, service)
    return [
        Figure(what, "ms", whole_ms, bare_ms, "an aiohttp handler that has the same bytes"),
        Figure(
            f"{what}, longest wait of another request", "ms", _longest_ms(seen), whole_ms, "the whole answer"
        ),
        Figure(f"{what}, a page of {_PAGE}", "ms", statistics.median(page_ms), whole_ms, "the whole answer"),
    ]


def title(stored: int, service: Service) -> str:
    """What is measured."""
    return f"GET {PATH} of {stored:,} simulations, {service.engine}"


def _longest_ms(seen: Sequence[Answer]) -> float:
    return statistics.median(answer.other_ms for answer in seen)


async def filled(service: Service, project: Path, stored: int) -> str:
    """The URL of this run's database with so many simulations, in a paused queue; of the same kind as the service's."""
    url, is_new = await beside.database(service, f"simulations-{stored}")
    if is_new:
        database = Database(url)
        await database.start()
        try:
            await database.upgrade()
            await database.write(queues.change, QueueChange("default", {"paused": True}))
            for first in range(0, stored, _BULK):
                numbers = range(first, min(first + _BULK, stored))
                new = [new_job(_config(project, number), user="benchmark") for number in numbers]
                await database.write(submissions.insert, new)
        finally:
            await database.close()
    return url


def _config(project: Path, number: int) -> HFSSSimulationConfig:
    return HFSSSimulationConfig(
        jobid=name(number), user="benchmark", ansys_edt_path=NOTHING, project_path=str(project)
    )


def name(number: int) -> str:
    """The id of one of the simulations."""
    return f"job-{number}"


async def ask(url: str, pid: int, jobs: int) -> Answer:
    """Ask for all jobs once, beside somebody who asks for the queue."""
    with _Other(url) as other:
        async with aiohttp.ClientSession(url) as session:
            used_s, before = cpu_s(pid), time.perf_counter()
            async with session.get(PATH) as answer:
                answer.raise_for_status()
                parts = [await answer.content.readany()]
                first = time.perf_counter()
                parts.append(await answer.content.read())
            whole, used_s = time.perf_counter(), cpu_s(pid) - used_s
    _check(b"".join(parts), jobs)
    return Answer(1000 * (first - before), 1000 * (whole - before), 1000 * used_s, other.longest_ms)


async def _ms(url: str, path: str, jobs: int) -> float:
    before = time.perf_counter()
    body = await _read(url, path)
    taken_ms = 1000 * (time.perf_counter() - before)
    _check(body, jobs)
    return taken_ms


async def _read(url: str, path: str) -> bytes:
    async with aiohttp.ClientSession(url) as session, session.get(path) as answer:
        answer.raise_for_status()
        return await answer.read()


def _check(body: bytes, jobs: int) -> None:
    assert body.count(b'"id":') == jobs, f"not {jobs} jobs"


class _Other:
    """Somebody who asks for the queue, over and over, until the end of the block; in a thread of his own.

    How long he waits at most is how long an answer keeps everybody else waiting.
    """

    def __init__(self, url: str) -> None:
        self.longest_ms = 0.0
        self._address = urlsplit(url).netloc
        self._has_begun, self._ends = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> _Other:
        self._thread.start()
        self._has_begun.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(self._address)
        while not self._ends.is_set():
            before = time.perf_counter()
            connection.request("GET", "/queue")
            connection.getresponse().read()
            taken_ms = 1000 * (time.perf_counter() - before)
            if self._has_begun.is_set():
                self.longest_ms = max(self.longest_ms, taken_ms)
            self._has_begun.set()
            # So that he is no load by himself.
            self._ends.wait(0.01)
        connection.close()

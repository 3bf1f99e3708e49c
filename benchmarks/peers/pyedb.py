"""The job manager of PyEDB 0.64.0: REST like ours, all in memory. It was removed from the package after 0.65.

Its environment holds the package and only what the manager imports of its requirements, because all of them
are a simulator's: see `pyedb_server.py`. It cannot submit many jobs in one request. Each job names its own
program, which is started as `PROGRAM -jobid ID ...`; that is how ours is asked to start it, too.

The manager has no paused queue: while submissions are measured, its only slot is held by a job that waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from benchmarks import scratch, submit
from benchmarks.parser import PATH as OUR_PATH
from benchmarks.peers import pyedb_listing, pyedb_service
from benchmarks.peers.peer import Peer
from benchmarks.service import WIDTH, Service
from benchmarks.skip import Skipped
from benchmarks.spawn import NOTHING
from benchmarks.table import Figure, Goal, quantile

_SETTLE_S = 0.05
_WARM_UP = 3
_SINGLE_SHARE = 20  # of so many jobs one is submitted alone, because each of these waits for its end
_LISTED = 10  # times as many are listed
_RATE_GOAL = Goal("≥", 1.2)
_START_GOAL = Goal("<", 1)

Submit = Callable[[Path, str], Awaitable[None]]


async def _rate(interpreter: Path, count: int) -> float:
    with pyedb_service.serving(interpreter, WIDTH) as (url, home, _):
        bodies = [
            pyedb_service.body(home, NOTHING, f"job-{number}") for number in range(submit.WARM_UP + count)
        ]
        async with submit.session(url) as session:
            # In its first seconds its monitor blocks all of it, which is not what is compared here.
            await submit.post_all(session, pyedb_service.PATH, bodies[: submit.WARM_UP])
            await pyedb_service.await_queue(session, queued=0, running=0)
            before = time.perf_counter()
            await submit.post_all(session, pyedb_service.PATH, bodies[submit.WARM_UP :])
            await pyedb_service.await_queue(session, queued=0, running=0)
            rate = count / (time.perf_counter() - before)
            async with session.get("/api/jobs") as answer:
                statuses = [job["status"] for job in await answer.json()]
    completed = statuses.count("completed")
    if not completed == len(statuses) == len(bodies):
        raise Skipped(f"{completed} of its {len(bodies)} jobs completed")
    return rate


async def _compare(title: str, interpreter: Path, service: Service, count: int) -> list[Figure]:
    return [
        *await _compare_submissions(title, interpreter, service, count),
        *await _compare_starts(title, interpreter, service, max(count // _SINGLE_SHARE, 1)),
        *await pyedb_listing.compare(title, interpreter, service, count * _LISTED),
    ]


async def _compare_submissions(title: str, interpreter: Path, service: Service, count: int) -> list[Figure]:
    before = await submit.load_ours(service, *await submit.prepare(service, count))
    theirs = await _their_load(interpreter, count)
    after = await submit.load_ours(service, *await submit.prepare(service, count))
    ours = submit.mean(before, after)
    name = f"submit one by one, {submit.CONNECTIONS} connections, beside PyEDB"
    return [
        Figure(name, "/s", ours.per_s, theirs.per_s, title, _RATE_GOAL),
        Figure(f"{name}, p50", "ms", ours.answer_ms(0.5), theirs.answer_ms(0.5), title),
        Figure(f"{name}, p99", "ms", ours.answer_ms(0.99), theirs.answer_ms(0.99), title),
    ]


async def _their_load(interpreter: Path, count: int) -> submit.Load:
    with pyedb_service.serving(interpreter, 1) as (url, home, _):
        bodies = [
            pyedb_service.body(home, NOTHING, f"job-{number}") for number in range(submit.WARM_UP + count)
        ]
        async with pyedb_service.slot_held(url, home):
            seen = await submit.load(url, pyedb_service.PATH, bodies)
            async with submit.session(url) as session:
                queued, _ = await pyedb_service.queue(session)
    if queued != len(bodies):
        raise Skipped(f"{queued} of {len(bodies)} jobs are in its queue")
    return seen


async def _compare_starts(title: str, interpreter: Path, service: Service, count: int) -> list[Figure]:
    before = await _our_starts(service, count)
    theirs = await _their_starts(interpreter, count)
    ours = [*before, *await _our_starts(service, count)]
    name = "submit to start, idle service, beside PyEDB, p50"
    return [Figure(name, "ms", quantile(ours, 0.5), quantile(theirs, 0.5), title, _START_GOAL)]


async def _our_starts(service: Service, count: int) -> list[float]:
    async with submit.session(service.url) as session:

        async def post(program: Path, name: str) -> None:
            body = msgspec.json.encode({"command": [str(program), "-jobid", name]})
            await submit.post_all(session, OUR_PATH, [body])

        return await _starts_ms(scratch.new_directory(), post, count)


async def _their_starts(interpreter: Path, count: int) -> list[float]:
    with pyedb_service.serving(interpreter, WIDTH) as (url, home, _):
        async with submit.session(url) as session:

            async def post(program: Path, name: str) -> None:
                await submit.post_all(session, pyedb_service.PATH, [pyedb_service.body(home, program, name)])

            return await _starts_ms(home, post, count)


async def _starts_ms(directory: Path, post: Submit, count: int) -> list[float]:
    """Milliseconds from the request to the program's own look at the clock, one job at a time."""
    # Renamed when it is complete; its second argument is the job's name.
    clock = pyedb_service.script(
        directory / "clock", f'cd \'{directory}\'; date +%s%N > "$2.part"; exec mv "$2.part" "$2"'
    )
    starts_ms = []
    for number in range(_WARM_UP + count):
        name = f"start-{number}"
        before_ns = time.time_ns()
        await post(clock, name)
        while not (directory / name).exists():  # noqa: ASYNC110 -- another process makes it
            await asyncio.sleep(pyedb_service.LOOK_S)
        starts_ms.append((int((directory / name).read_text()) - before_ns) / 1e6)
        # Its end is recorded meanwhile: the service is idle again.
        await asyncio.sleep(_SETTLE_S)
    return starts_ms[_WARM_UP:]


PEER = Peer(
    title="PyEDB manager",
    keeps="in memory",
    package="pyedb",
    installs=(
        ("--no-deps", "pyedb==0.64.0"),
        ("aiohttp>=3.8", "python-socketio>=5.10", "pydantic>=2.6.4,<2.13", "psutil", "requests>=2.32,<3"),
    ),
    rate=_rate,
    compare=_compare,
)

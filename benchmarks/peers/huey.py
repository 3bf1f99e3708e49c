"""Huey on an SQLite file, its consumer with WIDTH threads in the same process; a task runs one command.

The queue is on disk (`synchronous=FULL`), but a task is taken from it before it runs: a crash loses it.
"""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from typing import Any

from benchmarks.peers import program
from benchmarks.peers.peer import Peer
from benchmarks.service import WIDTH
from benchmarks.spawn import NOTHING

PEER = Peer(
    title="Huey",
    keeps="SQLite, at most once",
    package="huey",
    installs=(("huey",),),
    rate=program.runs("benchmarks.peers.huey"),
)


def _measure(count: int) -> float:
    from huey import SqliteHuey  # noqa: PLC0415 -- installed in the peer's environment only
    from huey.signals import SIGNAL_COMPLETE  # noqa: PLC0415

    logging.basicConfig(level=logging.WARNING)
    huey = SqliteHuey(filename="huey.db", fsync=True, results=False)
    ended = threading.Semaphore(0)

    @huey.task()  # type: ignore[untyped-decorator]
    def run_one() -> None:
        subprocess.run([NOTHING], check=True)

    @huey.signal(SIGNAL_COMPLETE)  # type: ignore[untyped-decorator]
    def note(_signal: str, _task: Any) -> None:
        ended.release()

    consumer = huey.create_consumer(workers=WIDTH, periodic=False, initial_delay=0.01, max_delay=0.1)
    consumer.start()
    before = time.perf_counter()
    for _ in range(count):
        run_one()
    for _ in range(count):
        ended.acquire()
    rate = count / (time.perf_counter() - before)
    consumer.stop(graceful=True)
    return rate


if __name__ == "__main__":
    program.answer(_measure)

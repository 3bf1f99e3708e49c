"""HyperQueue, with server, worker and client in one process, as its Python package brings them.

All jobs are the tasks of one job. It keeps `stdout` and `stderr` files, as we do, and no journal.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.peers import program
from benchmarks.peers.peer import Peer
from benchmarks.service import WIDTH
from benchmarks.spawn import NOTHING

PEER = Peer(
    title="HyperQueue",
    keeps="in memory",
    package="hyperqueue",
    installs=(("hyperqueue",),),
    rate=program.runs("benchmarks.peers.hyperqueue"),
)


def _measure(count: int) -> float:
    from hyperqueue import Job, LocalCluster  # noqa: PLC0415 -- installed in the peer's environment only
    from hyperqueue.cluster import WorkerConfig  # noqa: PLC0415

    # It leaves its server's files behind.
    os.environ["TMPDIR"] = str(Path.cwd())
    with LocalCluster(worker_config=WorkerConfig(cores=WIDTH)) as cluster:
        client = cluster.client()
        job = Job(default_workdir=Path.cwd())
        for _ in range(count):
            job.program([NOTHING])
        before = time.time()
        # Raises if a task fails.
        client.wait_for_jobs([client.submit(job)])
    # The client asks once a second whether all have ended, so the files say when the last one began.
    began = [file.stat().st_mtime for file in Path.cwd().rglob("*.stdout")]
    assert len(began) == count, f"{len(began)} of {count} tasks left their files"
    return count / (max(began) - before)


if __name__ == "__main__":
    program.answer(_measure)

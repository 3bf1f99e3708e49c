"""Dask's distributed scheduler, its worker with WIDTH threads in the same process; a task runs one command.

With worker processes, as many as cores or only one, it was up to a third slower here.
"""

from __future__ import annotations

import subprocess
import time

from benchmarks.peers import program
from benchmarks.peers.peer import Peer
from benchmarks.service import WIDTH
from benchmarks.spawn import NOTHING

PEER = Peer(
    title="Dask",
    keeps="in memory",
    package="distributed",
    installs=(("distributed",),),
    rate=program.runs("benchmarks.peers.dask"),
)


def _run_one(_number: int) -> int:
    return subprocess.run([NOTHING], check=True).returncode


def _measure(count: int) -> float:
    from distributed import Client, LocalCluster  # noqa: PLC0415 -- installed in the peer's environment only

    cluster = LocalCluster(n_workers=1, threads_per_worker=WIDTH, processes=False, dashboard_address=None)
    with cluster, Client(cluster) as client:
        before = time.perf_counter()
        # `pure` off: each call is a task of its own. Raises if a task fails.
        codes = client.gather(client.map(_run_one, range(count), pure=False))
        rate = count / (time.perf_counter() - before)
    assert codes == [0] * count
    return rate


if __name__ == "__main__":
    program.answer(_measure)

"""The peers that can be asked for, by name."""

from __future__ import annotations

from benchmarks.peers import dask, huey, hyperqueue, procrastinate, pyedb
from benchmarks.peers.peer import Peer

PEERS: dict[str, Peer] = {
    "pyedb": pyedb.PEER,
    "hyperqueue": hyperqueue.PEER,
    "dask": dask.PEER,
    "huey": huey.PEER,
    "procrastinate": procrastinate.PEER,
}

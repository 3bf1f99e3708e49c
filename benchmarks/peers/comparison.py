"""A peer and ours, the same work at the same width, one after the other."""

from __future__ import annotations

import asyncio

from benchmarks import endtoend
from benchmarks.peers import environment
from benchmarks.peers.peer import Peer
from benchmarks.service import WIDTH, Service
from benchmarks.skip import Skipped
from benchmarks.table import Figure

_ENDS_WITHIN_S = 1800.0


async def measure(name: str, peer: Peer, service: Service, count: int) -> list[Figure]:
    """Ours beside the peer's figures, which stand where the limit does. Raises Skipped if the peer cannot be had."""
    try:
        async with asyncio.timeout(_ENDS_WITHIN_S):
            return await _measure(name, peer, service, count)
    except TimeoutError as error:
        raise Skipped(f"it had not done its work after {_ENDS_WITHIN_S:g} s") from error


async def _measure(name: str, peer: Peer, service: Service, count: int) -> list[Figure]:
    python = await asyncio.to_thread(environment.make, name, peer.installs)
    version = await asyncio.to_thread(environment.version, python, peer.package)
    title = f"{peer.title} {version}, {peer.keeps}"
    before_per_s = await endtoend.rate(service, count)
    theirs_per_s = await peer.rate(python, count)
    # Before and after, because the machine's other work comes and goes.
    ours_per_s = (before_per_s + await endtoend.rate(service, count)) / 2
    what = f"{count:,} no-op jobs end to end, width {WIDTH}, {service.engine}, beside {peer.title}"
    return [
        Figure(what, "/s", ours_per_s, theirs_per_s, title),
        *await peer.compare(title, python, service, count),
    ]

"""Ports of this machine for servers of tests."""

from __future__ import annotations

import random
import socket

# Below those that the system gives to connections, which may take one before its server has it.
_PORTS = range(20_000, 32_000)


def free(count: int) -> list[int]:
    """Ports that nobody listens on, on any address; all at once, so that they differ."""
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            probe = socket.socket()
            try:
                probe.bind(("", random.choice(_PORTS)))
            except OSError:
                probe.close()
            else:
                sockets.append(probe)
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()

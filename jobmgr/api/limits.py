"""What strangers, slow clients and floods may take of the service."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field

_FALLBACK = 1000
_MOST = 10_000  # However many descriptors there may be, connections cost memory too.


def default_most() -> int:
    """Half of the file descriptors that this process may have; the other half is for its work. At most 10,000."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError, ValueError):
            import resource  # noqa: PLC0415 -- not everywhere

            most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return _FALLBACK if most == resource.RLIM_INFINITY else max(1, min(most // 2, _MOST))
    return _FALLBACK


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an application.

    Of more than `most_connections` the oldest of strangers are ended, then the oldest of whoever has most. A connection
    ends on which no whole head of a request comes for `idle_s`, or nothing is read of what waits to be sent for
    `stall_s`. A body may be waited for `body_s` and what it takes at `body_bytes_per_s`. An API token is good for
    `requests_per_s` in the long run, and ten seconds' worth at once, unless `most_waiting` of its own wait for the
    database: more than one client has at a time, which has a hundred connections. From an address may come
    `failures_per_s` wrong ones, and a hundred seconds' worth at once.
    """

    most_connections: int = field(default_factory=default_most)
    idle_s: float = 60.0
    stall_s: float = 60.0
    body_s: float = 30.0
    body_bytes_per_s: int = 4096
    requests_per_s: float = 100.0
    most_waiting: int = 128
    failures_per_s: float = 1.0

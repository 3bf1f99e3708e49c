"""What one service may use of its machine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jobmgr.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """Admission limits of one service. None: not limited (`max_concurrent_jobs`: the number of cores).

    No new job starts while the machine's cpu load is above `max_cpu_percent`, its available memory below
    `min_memory_gb`, or the free space at the work directory below `min_disk_gb` (GB are 10**9 bytes).
    """

    max_concurrent_jobs: int | None = None
    max_cpu_percent: float | None = None
    min_memory_gb: float | None = None
    min_disk_gb: float | None = None

    def __post_init__(self) -> None:
        """Raise InvalidRequest for a limit that makes no sense."""
        jobs = self.max_concurrent_jobs
        if jobs is not None and not 1 <= jobs <= 100_000:
            raise InvalidRequest("max_concurrent_jobs", f"{jobs} is not between 1 and 100000")
        cpu = self.max_cpu_percent
        if cpu is not None and not 0 < cpu <= 100:
            raise InvalidRequest("max_cpu_percent", f"{cpu} is not above 0 and at most 100")
        for name in ("min_memory_gb", "min_disk_gb"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise InvalidRequest(name, f"{value} is not a size in GB")

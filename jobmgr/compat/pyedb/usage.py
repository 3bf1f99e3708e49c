"""How busy this machine is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import structs

from jobmgr import monitor
from jobmgr.api.pyedb.machine import resources_answer

Usage = Mapping[str, Any]


class ResourceMonitor:
    """Telemetry of this machine, sampled when it is asked for, at most every `update_interval` seconds.

    `ask` is who knows it better: the service whose limits are about it; None: it does not run. A sample takes
    microseconds and waits for nothing: the load of the processor is that since the sample before.
    """

    def __init__(self, update_interval: float = 5, ask: Callable[[], Usage | None] | None = None) -> None:
        self.update_interval = update_interval
        self._ask = ask
        self._monitor = monitor.ResourceMonitor(Path("/"))
        self._usage: Usage = {}
        self._sampled_at = -float("inf")

    @property
    def current_usage(self) -> Usage:
        """`cpu_percent`, `memory_percent`, `memory_used_gb`, `memory_total_gb`, `memory_free_gb`,
        `disk_usage_percent`, `disk_free_gb` and `timestamp`, as `GET /resources` has them."""
        if time.monotonic() - self._sampled_at >= self.update_interval:
            self.sample()
        return self._usage

    def sample(self) -> None:
        """Look now."""
        told = None if self._ask is None else self._ask()
        self._usage = _alone(self._monitor.sample()) if told is None else told
        self._sampled_at = time.monotonic()

    async def monitor_resources(self) -> None:
        """Look again and again, for ever. Nobody needs this: `current_usage` is never older than the interval."""
        while True:
            await asyncio.to_thread(self.sample)
            await asyncio.sleep(self.update_interval)


def _alone(sample: monitor.Sample) -> Usage:
    return structs.asdict(resources_answer(sample))

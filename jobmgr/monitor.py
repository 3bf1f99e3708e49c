"""Telemetry of this machine: load, memory, disk. Never blocks; one sample costs microseconds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

GB = 10**9


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the machine. `cpu_percent` is the mean load since the sample before; GB are 10**9 bytes."""

    at: datetime
    cpu_percent: float
    memory_total_gb: float
    memory_free_gb: float
    disk_total_gb: float
    disk_free_gb: float


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is: cpus this process may use, memory in bytes, gpus."""

    cpus: int
    memory_bytes: int
    gpus: int


class ResourceMonitor:
    """Samples the machine and the file system of `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        psutil.cpu_percent(interval=None)  # the first call has nothing to compare with and answers 0

    def sample(self) -> Sample:
        """The machine as it is now."""
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(str(self._directory))
        return Sample(
            at=datetime.now(UTC),
            cpu_percent=psutil.cpu_percent(interval=None),
            memory_total_gb=memory.total / GB,
            memory_free_gb=memory.available / GB,
            disk_total_gb=disk.total / GB,
            disk_free_gb=disk.free / GB,
        )


def machine() -> Machine:
    """What this machine has. GPUs are counted by their device files (NVIDIA); others count as none."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    gpus = sum(1 for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit())
    return Machine(cpus=cpus, memory_bytes=psutil.virtual_memory().total, gpus=gpus)


@dataclass(frozen=True, slots=True)
class Space:
    """What a file system has left for this user. `inodes_free` is None where they are made as needed."""

    free_bytes: int
    total_bytes: int
    inodes_free: int | None


def space(directory: Path) -> Space:
    """The room on the file system of `directory`, which must exist. Raises OSError."""
    status = os.statvfs(directory)
    return Space(
        free_bytes=status.f_bavail * status.f_frsize,
        total_bytes=status.f_blocks * status.f_frsize,
        inodes_free=status.f_favail if status.f_files else None,
    )

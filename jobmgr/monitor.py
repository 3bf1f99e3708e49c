"""Telemetry of this machine: load, memory, disk, GPUs. Never blocks; one sample costs microseconds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

import psutil

from jobmgr.domain.resources import GPU_VARIABLE

GB = 10**9
# By these a user says that there are no GPUs.
_NO_GPU = frozenset({"", "-1", "NoDevFiles"})


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
    """What there is: cpus this process may use, memory in bytes, names of the gpus it may use."""

    cpus: int
    memory_bytes: int
    gpus: tuple[str, ...]


class ResourceMonitor:
    """Samples the machine and the file system of `directory`."""

    def __init__(self, directory: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._last: tuple[float, Sample] | None = None
        psutil.cpu_percent(interval=None)  # the first call has nothing to compare with and answers 0

    def recent(self, within_s: float = 1.0) -> Sample:
        """The last sample, if it is that fresh, else a new one: load needs some time to be the mean of."""
        if self._last is not None and self._monotonic() - self._last[0] <= within_s:
            return self._last[1]
        return self.sample()

    def sample(self) -> Sample:
        """The machine as it is now."""
        sample = self._look()
        self._last = (self._monotonic(), sample)
        return sample

    def _look(self) -> Sample:
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


def machine(environ: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> Machine:
    """What this machine has.

    GPUs are those CUDA_VISIBLE_DEVICES in `environ` names; if it is not set, those with a device file
    `nvidia<n>` in `devices`. GPUs of other makers count as none.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    visible = environ.get(GPU_VARIABLE)
    gpus = _device_gpus(devices) if visible is None else _visible_gpus(visible)
    return Machine(cpus=cpus, memory_bytes=psutil.virtual_memory().total, gpus=gpus)


def _visible_gpus(visible: str) -> tuple[str, ...]:
    # As CUDA reads it: what comes after an invalid name is not visible. A name that is there twice is one GPU.
    names = takewhile(lambda name: name not in _NO_GPU, (part.strip() for part in visible.split(",")))
    return tuple(dict.fromkeys(names))


def _device_gpus(devices: Path) -> tuple[str, ...]:
    # CUDA numbers the GPUs it finds from 0 on, also where a container shows only /dev/nvidia2.
    count = sum(1 for path in devices.glob("nvidia[0-9]*") if path.name[6:].isdigit())
    return tuple(str(number) for number in range(count))


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

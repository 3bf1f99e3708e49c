"""The limit of memory: a process that imports what a service imports, and does nothing."""

from __future__ import annotations

import importlib
import os
import subprocess

from benchmarks.service import environment, python, resident_mb

_MODULES = ("jobmgr.__main__", "jobmgr.cli.main", "jobmgr.cli.serve", "jobmgr.service", "uvloop")


def memory_mb() -> float:
    """What such a process takes, in 10^6 bytes."""
    command = python("benchmarks.imports")
    answer = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True, text=True)
    return float(answer.stdout)


if __name__ == "__main__":
    for module in _MODULES:
        importlib.import_module(module)
    print(resident_mb(os.getpid()))

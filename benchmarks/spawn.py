"""The limit of running commands: a bare `posix_spawn` loop, in a small process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from benchmarks.service import environment, python

NOTHING = "/bin/true"


def rate(count: int, width: int) -> float:
    """No-op commands per second, `width` at a time, with nothing stored and nobody told."""
    command = python("benchmarks.spawn", str(count), str(width))
    answer = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True, text=True)
    return float(answer.stdout)


def _loop(count: int, width: int) -> float:
    before = time.perf_counter()
    for index in range(count):
        if index >= width:
            os.wait()
        os.posix_spawn(NOTHING, [NOTHING], os.environ)
    for _ in range(min(count, width)):
        os.wait()
    return count / (time.perf_counter() - before)


if __name__ == "__main__":
    print(_loop(int(sys.argv[1]), int(sys.argv[2])))

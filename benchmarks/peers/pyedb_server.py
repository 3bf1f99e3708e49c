"""The PyEDB manager as its own service starts it, in the peer's environment: `python -m ... WIDTH` prints its URL."""

from __future__ import annotations

import os
import signal
import sys

from benchmarks.peers import pyedb_package
from benchmarks.service import ROOT


def _serve(width: int) -> None:
    pyedb_package.stand_in()
    from pyedb.workflows.job_manager.backend.job_manager_handler import (  # noqa: PLC0415 -- after its stand-in
        JobManagerHandler,
    )
    from pyedb.workflows.job_manager.backend.job_submission import SchedulerType  # noqa: PLC0415

    # It does not start without an installed solver; each job names its own program.
    os.environ["ANSYSEM_ROOT252"] = str(ROOT)
    handler = JobManagerHandler(host="127.0.0.1", port=0)
    handler.manager.scheduler_type = SchedulerType.NONE  # a Slurm on this machine would get all jobs
    handler.manager.resource_limits.max_concurrent_jobs = width
    handler.start_service()
    print(f"http://127.0.0.1:{handler.runner.addresses[0][1]}", flush=True)
    # Nobody reads the pipe after that line; what it prints goes where it logs.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # SIGTERM ends the process by default; it has nothing to put in order.
    signal.pause()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))

"""Simulate HFSS projects with the classes of pyedb's job manager, each of them once, however often this is called.

python examples/job_manager/campaign.py studies/*.aedt
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
from pathlib import Path

from jobmgr.compat.pyedb.job_manager_handler import JobManagerHandler, ResourceLimits
from jobmgr.errors import JobmgrError


def main() -> int:
    """Submit what is not done, wait for all of it, and say how each went; 1 if any did not go well, 2 if none can."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("projects", nargs="+", type=Path, metavar="PROJECT", help="an .aedt or .aedb")
    parser.add_argument("--cores", type=int, default=4, help="that each uses (%(default)s)")
    parser.add_argument("--at-once", type=int, default=1, help="how many run at a time (%(default)s)")
    parser.add_argument("--max-cpu-percent", type=float, default=80, help="start none above (%(default)s)")
    parser.add_argument("--min-memory-gb", type=float, default=2, help="start none below (%(default)s)")
    parser.add_argument("--scheduler", default="none", help="slurm, lsf, ...; this machine unless given")
    arguments = parser.parse_args()

    # On any free port: jobmgr's own commands find it.
    handler = JobManagerHandler(port=0)
    handler.resource_limits = ResourceLimits(
        arguments.at_once, arguments.max_cpu_percent, arguments.min_memory_gb
    )
    try:
        handler.start_service()
        return simulate(handler, arguments.projects, arguments.cores, arguments.scheduler)
    except JobmgrError as error:
        print(f"campaign.py: {error}", file=sys.stderr)
        return 2
    finally:
        # What runs runs on, also if this was interrupted: the next call finds it.
        handler.close()


def simulate(handler: JobManagerHandler, projects: list[Path], cores: int, scheduler: str) -> int:
    """The same with a service that runs. Raises JobmgrError before anything is submitted, if a project cannot be."""
    configurations = [
        handler.create_simulation_config(
            str(project.absolute()), jobid=job_id(project), cpu_cores=cores, scheduler_type=scheduler
        )
        for project in projects
    ]
    jobs = handler.manager.jobs
    for asked in configurations:
        if asked.jobid not in jobs or jobs[asked.jobid].status in {"failed", "cancelled"}:
            handler.submit_job(asked)
    statuses = [handler.wait_until_done(asked.jobid) for asked in configurations]
    for asked, status in zip(configurations, statuses, strict=True):
        print(asked.jobid, status, *jobs[asked.jobid].error.splitlines()[-1:])
    return 0 if set(statuses) == {"completed"} else 1


def job_id(project: Path) -> str:
    """The same for a project at each call, and another one for each, also for those of one name in two folders."""
    words = re.sub("[^A-Za-z0-9]+", "-", project.stem).strip("-")[:60]
    return f"{words or 'project'}-{hashlib.sha256(os.fsencode(project.absolute())).hexdigest()[:10]}"


if __name__ == "__main__":
    sys.exit(main())

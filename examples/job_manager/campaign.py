"""Simulate HFSS projects with the classes of pyedb's job manager, each of them once, however often this is called.

python examples/job_manager/campaign.py studies/*.aedt
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jobmgr.compat.pyedb.job_manager_handler import JobManagerHandler, ResourceLimits


def main() -> int:
    """Submit what is not done, wait for all of it, and say how each went; 1 if any did not go well."""
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
    handler.start_service()
    try:
        return simulate(handler, arguments.projects, arguments.cores, arguments.scheduler)
    finally:
        # What runs runs on, also if this was interrupted: the next call finds it.
        handler.close()


def simulate(handler: JobManagerHandler, projects: list[Path], cores: int, scheduler: str) -> int:
    """The same with a service that runs."""
    jobs = handler.manager.jobs
    ids = [project.stem for project in projects]
    for project, job_id in zip(projects, ids, strict=True):
        if job_id not in jobs or jobs[job_id].status in {"failed", "cancelled"}:
            handler.submit_job(
                handler.create_simulation_config(
                    str(project.absolute()), jobid=job_id, cpu_cores=cores, scheduler_type=scheduler
                )
            )
    statuses = [handler.wait_until_done(job_id) for job_id in ids]
    for job_id, status in zip(ids, statuses, strict=True):
        print(job_id, status, *jobs[job_id].error.splitlines()[-1:])
    return 0 if set(statuses) == {"completed"} else 1


if __name__ == "__main__":
    sys.exit(main())

"""As pyedb's module of this name: the job manager and what belongs to it. As a program it is `start_service`."""

from __future__ import annotations

import logging

from jobmgr.compat.pyedb.cluster import SchedulerManager
from jobmgr.compat.pyedb.entry import main
from jobmgr.compat.pyedb.info import JobInfo
from jobmgr.compat.pyedb.limits import ResourceLimits
from jobmgr.compat.pyedb.manager import JobManager
from jobmgr.compat.pyedb.pool import JobPoolManager
from jobmgr.compat.pyedb.submission import submit_job_to_manager
from jobmgr.compat.pyedb.usage import ResourceMonitor
from jobmgr.hfss import HFSSSimulationConfig, SchedulerType
from jobmgr.hfss.status import JobStatus

__all__ = [
    "HFSSSimulationConfig",
    "JobInfo",
    "JobManager",
    "JobPoolManager",
    "JobStatus",
    "ResourceLimits",
    "ResourceMonitor",
    "SchedulerManager",
    "SchedulerType",
    "logger",
    "main",
    "submit_job_to_manager",
]

# Of all of these modules.
logger = logging.getLogger("jobmgr.compat.pyedb")


if __name__ == "__main__":
    from jobmgr.compat.pyedb import programs

    programs.main("start_service")

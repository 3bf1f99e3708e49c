"""pyedb's job manager: `pyedb.workflows.job_manager.backend` in an import is this. See docs/from-pyedb.md."""

from __future__ import annotations

# Not from the modules that have pyedb's names: those that are programs would be loaded twice.
from jobmgr.compat.pyedb.cluster import SchedulerManager
from jobmgr.compat.pyedb.entry import main
from jobmgr.compat.pyedb.handler import JobManagerHandler
from jobmgr.compat.pyedb.info import JobInfo
from jobmgr.compat.pyedb.limits import ResourceLimits
from jobmgr.compat.pyedb.manager import JobManager
from jobmgr.compat.pyedb.pool import JobPoolManager
from jobmgr.compat.pyedb.submission import submit_job_to_manager
from jobmgr.compat.pyedb.usage import ResourceMonitor
from jobmgr.hfss import (
    HFSS3DLayoutBatchOptions,
    HFSSSimulationConfig,
    MachineNode,
    SchedulerOptions,
    SchedulerType,
    create_hfss_config,
)
from jobmgr.hfss.status import JobStatus

__all__ = [
    "HFSS3DLayoutBatchOptions",
    "HFSSSimulationConfig",
    "JobInfo",
    "JobManager",
    "JobManagerHandler",
    "JobPoolManager",
    "JobStatus",
    "MachineNode",
    "ResourceLimits",
    "ResourceMonitor",
    "SchedulerManager",
    "SchedulerOptions",
    "SchedulerType",
    "create_hfss_config",
    "main",
    "submit_job_to_manager",
]

"""As pyedb's module of this name: the job manager for those who have no event loop."""

from __future__ import annotations

from jobmgr.compat.pyedb.handler import JobManagerHandler
from jobmgr.compat.pyedb.job_submission import (
    HFSS3DLayoutBatchOptions,
    HFSSSimulationConfig,
    MachineNode,
    SchedulerOptions,
    SchedulerType,
    create_hfss_config,
)
from jobmgr.compat.pyedb.service import JobManager, ResourceLimits, SchedulerManager

__all__ = [
    "HFSS3DLayoutBatchOptions",
    "HFSSSimulationConfig",
    "JobManager",
    "JobManagerHandler",
    "MachineNode",
    "ResourceLimits",
    "SchedulerManager",
    "SchedulerOptions",
    "SchedulerType",
    "create_hfss_config",
]

if __name__ == "__main__":
    from jobmgr.compat.pyedb import programs

    programs.main("job_manager_handler")

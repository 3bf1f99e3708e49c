"""As pyedb's module of this name: what describes a simulation."""

from __future__ import annotations

from jobmgr.hfss import (
    HFSS3DLayoutBatchOptions,
    HFSSSimulationConfig,
    MachineNode,
    SchedulerOptions,
    SchedulerType,
    create_hfss_config,
)

__all__ = [
    "HFSS3DLayoutBatchOptions",
    "HFSSSimulationConfig",
    "MachineNode",
    "SchedulerOptions",
    "SchedulerType",
    "create_hfss_config",
]

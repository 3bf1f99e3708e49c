"""HFSS simulations: what is to be solved and where, as command lines, batch scripts, and what their logs say."""

from jobmgr.hfss.config import HFSSSimulationConfig, create_hfss_config
from jobmgr.hfss.layout import HFSS3DLayoutBatchOptions
from jobmgr.hfss.machine import MachineNode
from jobmgr.hfss.scheduler import SchedulerOptions, SchedulerType

__all__ = [
    "HFSS3DLayoutBatchOptions",
    "HFSSSimulationConfig",
    "MachineNode",
    "SchedulerOptions",
    "SchedulerType",
    "create_hfss_config",
]

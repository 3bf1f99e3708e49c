"""Records what pyedb 0.64.0 makes of configurations and logs: `PYTHON_WITH_PYEDB tests/hfss/record_pyedb.py`.

Writes tests/data/pyedb/*.json; see the README there. pyedb is not needed to run the tests.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

_DATA = Path(__file__).resolve().parent.parent / "data" / "pyedb"
_EDT = "/opt/ansys/v252/Linux64/ansysedt"
_NODES = [
    {"hostname": "n1", "cores": 8, "max_cores": 16, "utilization": 80},
    {"hostname": "n2.cluster", "cores": 4, "max_cores": 4, "utilization": 100},
]
# The fields of each, as `HFSSSimulationConfig` takes them. Projects lie in the current directory.
_CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "design": {"design_name": "main", "design_mode": "Nominal", "setup_name": "Setup1"},
    "setup without a design": {"setup_name": "Setup1"},
    "machines": {"machine_nodes": _NODES},
    "no machines": {"machine_nodes": []},
    "graphical": {"non_graphical": False, "monitor": False, "auto": False, "distributed": False},
    "blanks": {"project_path": "my project/it's one.aedb", "ansys_edt_path": "/opt/my ansys/ansysedt"},
    "options": {
        "layout_options": {
            "create_starting_mesh": True,
            "default_process_priority": "Idle",
            "enable_gpu": True,
            "mpi_vendor": "Open MPI",
            "mpi_version": "2021.8",
            "remote_spawn_command": "SSH",
            "solve_adaptive_only": True,
            "validate_only": True,
            "temp_directory": "scratch",
        }
    },
    "slurm": {"scheduler_type": "slurm", "scheduler_options": {"nodes": 3, "cores_per_node": 8}},
    "slurm with a design": {
        "scheduler_type": "slurm",
        "design_name": "main",
        "setup_name": "Setup1",
        "scheduler_options": {"nodes": 2, "tasks_per_node": 4},
        "auto": False,
    },
    "lsf": {"scheduler_type": "lsf", "scheduler_options": {"nodes": 2, "cores_per_node": 4}},
    "not distributed": {"scheduler_type": "pbs", "distributed": False, "auto": False},
}


def _record_configs() -> list[dict[str, Any]]:
    from pyedb.workflows.job_manager.backend.job_submission import HFSSSimulationConfig, SchedulerType

    found = []
    for name, fields in _CASES.items():
        given = {
            "jobid": "patch_1",
            "ansys_edt_path": _EDT,
            "project_path": "antenna.aedt",
            "layout_options": {"temp_directory": "scratch"},
        } | fields
        project = Path(given["project_path"])
        project.parent.mkdir(exist_ok=True)
        project.touch()
        config = HFSSSimulationConfig(**given)
        with patch.object(platform, "system", lambda: "Windows"):
            on_windows = config.generate_command_string()
        is_slurm = config.scheduler_type == SchedulerType.SLURM
        found.append(
            {
                "name": name,
                "fields": given,
                "list": config.generate_command_list(),
                "string": config.generate_command_string(),
                "windows_string": on_windows,
                "machinelist": config.generate_machinelist_string(),
                "batch_options": config.generate_batch_options_string(),
                "design": config.generate_design_string(),
                "slurm_line": config.generate_slurm_script().splitlines()[-1] if is_slurm else None,
                "posted": config.model_dump(mode="json"),
                "to_dict": config.to_dict() | {"timestamp": "2026-01-02T03:04:05.678901"},
            }
        )
    return found


def _record_logs() -> dict[str, Any]:
    from pyedb.workflows.utilities.hfss_log_parser import HFSSLogParser

    found = {}
    for log in sorted(_DATA.glob("*.log")):
        parsed = HFSSLogParser(log).parse()
        is_converged = parsed.adaptive[-1].converged if parsed.adaptive else False
        found[log.name] = parsed.to_dict() | {"log_parser": {"is_converged": is_converged}}
    return found


def main() -> None:
    """Write both files anew."""
    assert version("pyedb") == "0.64.0", version("pyedb")
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        configs = _record_configs()
    for name, content in (("configs.json", configs), ("logs.json", _record_logs())):
        (_DATA / name).write_text(json.dumps(content, indent=1) + "\n")
        sys.stdout.write(f"{_DATA.name}/{name}\n")


if __name__ == "__main__":
    main()

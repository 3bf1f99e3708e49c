"""What is to be simulated, with which program, and where."""

from __future__ import annotations

import os
import platform
import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from msgspec import field, structs

from jobmgr.errors import InvalidConfig, PathNotFound
from jobmgr.hfss import command, installation, script
from jobmgr.hfss.layout import HFSS3DLayoutBatchOptions
from jobmgr.hfss.machine import MachineNode, machine_list
from jobmgr.hfss.scheduler import SchedulerOptions, SchedulerType
from jobmgr.hfss.value import Value

if TYPE_CHECKING:
    from subprocess import CompletedProcess

FORMAT_VERSION = "1.0.0"
# What a dictionary says besides the fields: of whom and when it was made.
_NOTES = frozenset({"platform", "timestamp", "version"})
_PROJECTS = (".aedt", ".aedb")
# Running is for processes and schedulers, which this package knows nothing of. A configuration is made by every layer
# above it and always has the method, so the way up is a name, looked up when it is called.
_RUNNER = "jobmgr.compat.simulation"

_JOB_ID = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_-]{0,127})?")
# The design is `design:mode:setup`, and no option.
_PART = re.compile(r"(?!-)[^:\x00-\x1f\x7f]*")
_PARTS = ("design_name", "design_mode", "setup_name")
_PATH = re.compile(r"(?!-).*", re.DOTALL)


class HFSSSimulationConfig(Value):
    """One simulation. It cannot be changed; `msgspec.structs.replace` makes another one.

    `ansys_edt_path`: the program; not given, the newest installation of this machine (see `installation`); `newest`,
    that of the machine which runs it or writes its script, a service's say.
    `jobid`: letters, digits, `_` and `-`, at most 128; not given, a new one. `machine_nodes` are used without a
    scheduler, `auto` and `distributed` with one. Empty `design_name`, `design_mode`, `setup_name`: the active ones.
    `project_path` ends with .aedt or .aedb. Whether it exists is not looked at here, because the job, or who reads a
    stored configuration, may be elsewhere: `create_hfss_config` and `run_simulation` look, see `check_here`.

    Raises InvalidConfig, a ValueError, which names the field and says what would be right.
    """

    ansys_edt_path: str = ""
    solver: str = "Hfss3DLayout"
    jobid: str = ""
    user: str = "unknown"
    distributed: bool = True
    machine_nodes: tuple[MachineNode, ...] = (MachineNode(),)
    auto: bool = True
    non_graphical: bool = True
    monitor: bool = True
    layout_options: HFSS3DLayoutBatchOptions = field(default_factory=HFSS3DLayoutBatchOptions)
    project_path: str = ""
    design_name: str = ""
    design_mode: str = ""
    setup_name: str = ""
    scheduler_type: SchedulerType = SchedulerType.NONE
    scheduler_options: SchedulerOptions = field(default_factory=SchedulerOptions)

    def check(self) -> None:
        """As `Value`, and what was not given is found out."""
        self.insist(
            _JOB_ID, "is no job id; give letters, digits, _ and -, at most 128, with no - first", "jobid"
        )
        self.insist(_PART, "has a colon or control characters, or - first; leave them out", *_PARTS)
        self.insist(
            _PATH, "begins with - as options do; write ./ before it", "project_path", "ansys_edt_path"
        )
        if not self.project_path.lower().endswith(_PROJECTS):
            raise InvalidConfig(
                "project_path",
                f"{self.project_path[:200]!r} is no project; give the path of an .aedt or .aedb",
            )
        if not self.ansys_edt_path:
            structs.force_setattr(self, "ansys_edt_path", installation.find(os.environ))
        if not self.jobid:
            structs.force_setattr(self, "jobid", _new_id())

    @property
    def program(self) -> str:
        """The path of ansysedt if this machine runs it. Raises InvalidConfig if it is to be found, and is not."""
        is_open = self.ansys_edt_path == installation.NEWEST
        return installation.find(os.environ) if is_open else self.ansys_edt_path

    def check_here(self) -> None:
        """Raise PathNotFound, a FileNotFoundError, if this machine is to run it and has no such project."""
        if self.scheduler_type is SchedulerType.NONE and not Path(self.project_path).exists():
            raise PathNotFound(
                "project_path",
                f"there is no {self.project_path!r} on this machine; give the path of the project",
            )

    def generate_machinelist_string(self) -> str:
        """What follows `-machinelist` in a run without a scheduler; empty without machines."""
        return machine_list(self.machine_nodes)

    def generate_batch_options_string(self) -> str:
        """What follows `-batchoptions`: `'name'='value'`, with blanks between."""
        return self.layout_options.to_batch_options_string()

    def generate_design_string(self) -> str:
        """`design:mode:setup`."""
        return f"{self.design_name}:{self.design_mode}:{self.setup_name}"

    def generate_command_list(self) -> list[str]:
        """The program and its arguments, to be started without a shell."""
        return command.as_list(self)

    def generate_command_string(self) -> str:
        """The same as one line for the shell of this machine. Raises InvalidConfig if Windows could not quote it."""
        build = command.as_windows_text if platform.system() == "Windows" else command.as_text
        return build(self, self.scheduler_type)

    def __str__(self) -> str:
        """The command line; all fields where this machine has no program for one, or cannot quote it."""
        try:
            return self.generate_command_string()
        except InvalidConfig:
            return repr(self)

    def generate_scheduler_script(self) -> str:
        """The batch script for `scheduler_type`; for Windows HPC the job file, in XML.

        That runs `JOBID_windows_hpc.sh` beside the project: `submit_to_scheduler` of this name writes it there, with
        the job file. Raises InvalidConfig for what the scheduler cannot be told.
        """
        return script.handed_in(self)

    def generate_slurm_script(self) -> str:
        """The batch script for SLURM, whatever `scheduler_type` says."""
        return script.text(self, script.dialect(SchedulerType.SLURM))

    def generate_lsf_script(self) -> str:
        """The batch script for LSF, whatever `scheduler_type` says."""
        return script.text(self, script.dialect(SchedulerType.LSF))

    def run_simulation(self, **subprocess_kwargs: Any) -> CompletedProcess[Any] | str:
        """Run it to its end on this machine, or hand it to its scheduler and answer `slurm_job_123`. Blocks.

        Without a scheduler `subprocess_kwargs` are those of `subprocess.run`; output is captured as text unless they
        say otherwise. At a timeout (subprocess.TimeoutExpired) or an interrupt nothing of it is left running.
        Raises PathNotFound if project or program are not there; SubmitRefused, SchedulerUnavailable and SubmitDoubtful
        with what the scheduler said.
        """
        result: CompletedProcess[Any] | str = import_module(_RUNNER).run(self, **subprocess_kwargs)
        return result

    def submit_to_scheduler(self, script_path: str | None = None) -> CompletedProcess[str]:
        """Hand it to its scheduler, or to the one that is found here if it names none; what that answered.

        The script is written into a new directory beside the project, which only its owner may read, or to
        `script_path`, which is relative to the project's directory. Raises InvalidConfig; SubmitDoubtful if the
        answer does not come within 30 s.
        """
        result: CompletedProcess[str] = import_module(_RUNNER).submit(self, script_path)
        return result

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them, and `platform`, `timestamp` (local time) and `version` of the dictionary."""
        notes = {
            "platform": platform.system(),
            "timestamp": datetime.now().isoformat(),  # noqa: DTZ005 - as its readers know it
            "version": FORMAT_VERSION,
        }
        return self.model_dump() | notes

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` wrote, here or in pyedb, which leaves out `user`; what is not said has the class's defaults.

        Raises InvalidConfig, also for names that are no fields. No file is looked for, except an ansysedt if
        `ansys_edt_path` is not said.
        """
        if not isinstance(data, Mapping):
            raise InvalidConfig("config", f"is of the type {type(data).__name__}, and has to be a dictionary")
        return cls.of({name: value for name, value in data.items() if name not in _NOTES})


def create_hfss_config(
    project_path: str,
    jobid: str | None = "",
    ansys_edt_path: str | None = "",
    design_name: str | None = "",
    setup_name: str | None = "",
    machine_nodes: Iterable[MachineNode] | None = None,
    scheduler_type: SchedulerType = SchedulerType.NONE,
    scheduler_options: SchedulerOptions | None = None,
    **fields: Any,
) -> HFSSSimulationConfig:
    """The configuration of a simulation that is ready to run: see `HFSSSimulationConfig`, which has all `fields`.

    Raises InvalidConfig; PathNotFound if this machine is to run it and has no such project.
    """
    # None is as if it were not given, which the types of the fields do not say.
    named: dict[str, Any] = {
        "project_path": project_path,
        "jobid": jobid,
        "ansys_edt_path": ansys_edt_path,
        "design_name": design_name,
        "setup_name": setup_name,
        "machine_nodes": None if machine_nodes is None else tuple(machine_nodes),
        "scheduler_type": scheduler_type,
        "scheduler_options": scheduler_options,
    }
    config = HFSSSimulationConfig(**named, **fields)
    config.check_here()
    return config


def _new_id() -> str:
    """A time for people, and a number that no other job has."""
    return f"JOB_{datetime.now():%Y%m%d_%H%M%S}_{uuid.uuid4().hex[:16]}"  # noqa: DTZ005 - local, as users read it

"""The command line of ansysedt for a simulation.

For a run on this machine it names machines (`-machinelist list=`); in a scheduler's job a number of cores, which are
where the scheduler says (`-distributed -machinelist numcores=`). In lists the design is always given, `::` if it has
no name; in text only if it has one. Source: pyedb 0.64.0, job_submission.py, as it built them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jobmgr.dialects import quoting
from jobmgr.errors import InvalidConfig
from jobmgr.hfss.machine import machine_list
from jobmgr.hfss.scheduler import SchedulerType

if TYPE_CHECKING:
    from jobmgr.hfss.config import HFSSSimulationConfig

_PLAIN_FOR_CMD = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
BATCH_OPTIONS = "-batchoptions"
# Between double quotes cmd.exe still replaces %NAME% and !NAME!, and other shells of Windows what `$` and "`" begin.
_SYNTAX_OF_CMD = frozenset('"%!$`')


def as_list(config: HFSSSimulationConfig) -> list[str]:
    """The program and its arguments, each by itself."""
    return [
        config.program,
        "-jobid",
        config.jobid,
        *_machines(config, config.scheduler_type),
        *_switches(config),
        *("-batchsolve", config.generate_design_string(), config.project_path),
    ]


def in_job(config: HFSSSimulationConfig, scheduler: SchedulerType) -> list[str]:
    """What the job of a scheduler runs, each argument by itself."""
    return [config.program, "-jobid", config.jobid, *_machines(config, scheduler), *_rest(config)]


def as_text(config: HFSSSimulationConfig, scheduler: SchedulerType) -> str:
    """The same as one line for a POSIX shell."""
    return quoting.words(in_job(config, scheduler))


def as_windows_text(config: HFSSSimulationConfig, scheduler: SchedulerType) -> str:
    """The same as one line for cmd.exe. Raises InvalidConfig for what cannot be quoted there."""
    machines = " ".join(_machines(config, scheduler))
    options = config.generate_batch_options_string()
    design = f"{_cmd_word(config.generate_design_string(), 'design_name')} " if config.design_name else ""
    parts = (
        _cmd_quoted(config.program, "ansys_edt_path"),
        f"-jobid {config.jobid}",
        *([machines] if machines else []),
        *_flags(config),
        f"{BATCH_OPTIONS} {_cmd_quoted(options, 'layout_options')}",
        f"-batchsolve {design}{_cmd_quoted(config.project_path, 'project_path')}",
    )
    return " ".join(parts)


def in_step(config: HFSSSimulationConfig) -> list[str]:
    """What a step of a SLURM job runs: it is told of its cores in any case, and of no job id."""
    numcores = f"numcores={config.scheduler_options.cores}"
    auto = ["-auto"] if config.auto else []
    return [config.program, "-distributed", "-machinelist", numcores, *auto, *_rest(config)]


def _rest(config: HFSSSimulationConfig) -> list[str]:
    design = [config.generate_design_string()] if config.design_name else []
    return [*_switches(config), "-batchsolve", *design, config.project_path]


def _machines(config: HFSSSimulationConfig, scheduler: SchedulerType) -> list[str]:
    if scheduler is SchedulerType.NONE:
        known = machine_list(config.machine_nodes)
        return ["-machinelist", known] if known else []
    numcores = f"numcores={config.scheduler_options.cores}"
    distributed = ["-distributed", "-machinelist", numcores] if config.distributed else []
    return [*distributed, *(["-auto"] if config.auto else [])]


def _switches(config: HFSSSimulationConfig) -> list[str]:
    return [*_flags(config), BATCH_OPTIONS, config.generate_batch_options_string()]


def _flags(config: HFSSSimulationConfig) -> list[str]:
    return [*(["-ng"] if config.non_graphical else []), *(["-monitor"] if config.monitor else [])]


def _cmd_word(text: str, field: str) -> str:
    return text if _PLAIN_FOR_CMD.fullmatch(text) is not None else _cmd_quoted(text, field)


def _cmd_quoted(text: str, field: str) -> str:
    if not text.isprintable() or set(text) & _SYNTAX_OF_CMD or text.endswith("\\"):
        raise InvalidConfig(
            field, f'{text[:200]!r} has " % ! $ ` or control characters in it, which Windows cannot quote'
        )
    return f'"{text}"'

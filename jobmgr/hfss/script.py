"""The batch script of a simulation: what is asked of the scheduler and what its job runs, in the words of a dialect."""

from __future__ import annotations

import ntpath
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, assert_never

from msgspec import structs

from jobmgr.dialects import holder, quoting, registry
from jobmgr.dialects.dialect import Dialect, Order
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidConfig, InvalidRequest
from jobmgr.hfss import command
from jobmgr.hfss.scheduler import SchedulerOptions, SchedulerType

if TYPE_CHECKING:
    from jobmgr.hfss.config import HFSSSimulationConfig

# As far as a user may choose. SLURM lets only operators go above what is normal, and LSF has numbers that mean
# something else at each site. Sources: sbatch(1), `--nice`; qsub(1B), `-p`; JobPriority enumeration of HPC Pack.
_PRIORITIES: Mapping[SchedulerType, Mapping[str, str]] = {
    SchedulerType.SLURM: {"Low": "--nice=1000", "BelowNormal": "--nice=100"},
    SchedulerType.LSF: {},
    SchedulerType.PBS: {
        "Low": "-p -512",
        "BelowNormal": "-p -256",
        "AboveNormal": "-p 256",
        "High": "-p 512",
    },
    SchedulerType.WINDOWS_HPC: {
        "Low": "/priority:Lowest",
        "BelowNormal": "/priority:BelowNormal",
        "AboveNormal": "/priority:AboveNormal",
        "High": "/priority:Highest",
    },
}

# What a dialect calls a field, and who set it here.
_LOAD_ANSYS = (
    "if command -v module >/dev/null 2>&1; then module load ansys;"
    ' else echo "jobmgr: there is no command module here, so \\`module load ansys\\` is left out" >&2; fi'
)
_FIELDS = {
    "name": "jobid",
    "stdout": "project_path",
    "stderr": "project_path",
    "cwd": "project_path",
    "command": "project_path",
    "work_dir": "project_path",
    "resources.partition": "scheduler_options.queue",
    "resources.walltime": "scheduler_options.time",
    "resources.tasks": "scheduler_options.tasks_per_node",
    "resources.constraint": "scheduler_options.constraints",
    "resources.mail_to": "scheduler_options.email_notification",
    "resources.directives": "scheduler_options.priority",
}

_OF_WINDOWS = re.compile(r"[A-Za-z]:|\\\\")
_NOT_OF_A_NAME = re.compile(r"[^A-Za-z0-9-]")


def dialect(scheduler: SchedulerType) -> Dialect:
    """How this scheduler is talked to. Raises InvalidConfig for NONE."""
    if scheduler is SchedulerType.NONE:
        known = ", ".join(each for each in SchedulerType if each is not SchedulerType.NONE)
        raise InvalidConfig(
            "scheduler_type", f"a run without a scheduler has no batch script; choose one of {known}"
        )
    return registry.dialect(scheduler)


def text(config: HFSSSimulationConfig, language: Dialect) -> str:
    """The whole script. Raises InvalidConfig for what this scheduler cannot be told."""
    try:
        return language.script(order(config, SchedulerType(language.name)))
    except InvalidRequest as error:
        raise renamed(error) from error


def handed_in(config: HFSSSimulationConfig) -> str:
    """What its scheduler reads: the batch script; HPC Pack's job file, for a script `file_name` beside the project.

    Raises InvalidConfig for what this scheduler cannot be told.
    """
    language = dialect(config.scheduler_type)
    try:
        return language.handed_in(_place(config), order(config, config.scheduler_type))
    except InvalidRequest as error:
        raise renamed(error) from error


def file_name(config: HFSSSimulationConfig) -> str:
    """What a script of it is called."""
    return f"{config.jobid}_{config.scheduler_type}.sh"


def order(config: HFSSSimulationConfig, scheduler: SchedulerType) -> Order:
    """The submission. It runs, and writes `JOBID.out` and `JOBID.err`, in the directory of the project."""
    config = absolute(config)
    paths = _paths(config.project_path)
    directory = paths.dirname(config.project_path)
    return Order(
        name=_name(config.jobid, scheduler),
        body=_body(config, scheduler),
        stdout=paths.join(directory, f"{config.jobid}.out"),
        stderr=paths.join(directory, f"{config.jobid}.err"),
        cwd=directory,
        resources=resources(config.scheduler_options, scheduler),
    )


def absolute(config: HFSSSimulationConfig) -> HFSSSimulationConfig:
    """The same, for a job that starts in another directory than this process."""
    return structs.replace(config, project_path=_absolute(config.project_path))


def directory(project_path: str) -> str:
    """Where a project lies."""
    return str(_paths(project_path).dirname(project_path))


def renamed(error: InvalidRequest) -> InvalidConfig:
    """The same about a configuration: its own names of the fields."""
    own = _FIELDS.get(error.field, error.field.replace("resources", "scheduler_options", 1))
    return InvalidConfig(own, error.message)


def _paths(path: str) -> ModuleType:
    return ntpath if _OF_WINDOWS.match(path) is not None else posixpath


def _absolute(path: str) -> str:
    is_absolute = path.startswith("/") or _OF_WINDOWS.match(path) is not None
    return path if is_absolute else str(Path(path).absolute())


def _place(config: HFSSSimulationConfig) -> str:
    """Where its script is beside the project, as a POSIX shell has it, on Windows, too."""
    folder = directory(absolute(config).project_path)
    shown = folder.replace("\\", "/") if _OF_WINDOWS.match(folder) is not None else folder
    return posixpath.join(shown, file_name(config))


def _name(jobid: str, scheduler: SchedulerType) -> str:
    """What the job is called: its id. Only SLURM's names may have `_` in them."""
    return (
        jobid if scheduler is SchedulerType.SLURM else f"{_NOT_OF_A_NAME.sub('-', jobid)}".strip("-") or "job"
    )


def resources(options: SchedulerOptions, scheduler: SchedulerType) -> Resources:
    """What is asked of this scheduler. Raises InvalidConfig."""
    priority = _PRIORITIES[scheduler].get(options.priority)
    if options.run_as_administrator and scheduler is SchedulerType.WINDOWS_HPC:
        raise InvalidConfig(
            "scheduler_options.run_as_administrator", "jobs run with their owner's own rights; leave it False"
        )
    return Resources(
        cpus=1,
        memory_bytes=options.memory_bytes,
        gpus=_gpus_per_node(options),
        gpu_type=options.gpu_type if options.gpus else None,
        walltime_s=options.walltime_s,
        nodes=options.nodes,
        tasks=options.cores,
        partition=options.partition,
        account=options.account or None,
        qos=options.qos or None,
        reservation=options.reservation or None,
        constraint=options.constraints or None,
        exclusive=True if options.exclusive else None,
        mail_to=options.email_notification or None,
        mail_on=("end", "fail") if options.email_notification else (),
        directives=(priority,) if priority is not None else (),
    )


def _gpus_per_node(options: SchedulerOptions) -> int | None:
    each, rest = divmod(options.gpus, options.nodes)
    if rest:
        raise InvalidConfig(
            "scheduler_options.gpus",
            f"{options.gpus} cannot be spread evenly over {options.nodes} nodes; ask for a multiple of them",
        )
    return each or None


def argv(config: HFSSSimulationConfig, scheduler: SchedulerType) -> list[str]:
    """The program that the job of this scheduler runs, and its arguments."""
    match scheduler:
        case SchedulerType.SLURM:
            return _in_slurm(config)
        case SchedulerType.LSF | SchedulerType.PBS | SchedulerType.WINDOWS_HPC:
            return command.in_job(config, scheduler)
        case SchedulerType.NONE:
            return command.as_list(config)
        case _:
            assert_never(scheduler)


def setup(scheduler: SchedulerType) -> tuple[str, ...]:
    """The lines of shell that come before it."""
    if scheduler is SchedulerType.LSF:
        # bsub hands hardly anything of the environment on: where licences are, the site's module knows.
        return holder.FIND_MODULE, _LOAD_ANSYS
    return ()


def _body(config: HFSSSimulationConfig, scheduler: SchedulerType) -> str:
    """What the job runs. The program comes last, so that how it ends is how the job ends."""
    return "".join(f"{line}\n" for line in (*setup(scheduler), quoting.words(argv(config, scheduler))))


def _in_slurm(config: HFSSSimulationConfig) -> list[str]:
    """ANSYS's own launcher starts ansysedt in one step, and its engines through the wrapper, in others of the same job.

    Source: the scripts that ANSYS ships in `schedulers/scripts/utils`, as pyedb 0.64.0 called them.
    """
    root = posixpath.dirname(config.program)
    scripts = posixpath.join(root, "schedulers/scripts/utils")
    variables = (
        f"ANSYSEM_GENERIC_MPI_WRAPPER={scripts}/slurm_srun_wrapper.sh",
        f"ANSYSEM_COMMON_PREFIX={posixpath.join(root, 'common')}",
        "ANSOFT_PASS_DEBUG_ENV_TO_REMOTE_ENGINES=1",
    )
    step = (
        "srun",
        "--overcommit",
        "--export=ALL",
        "-n",
        "1",
        "-N",
        "1",
        "--cpu-bind=none",
        "--mem-per-cpu=0",
    )
    launcher = posixpath.join(scripts, "ansysedt_launcher.sh")
    return [launcher, "/usr/bin/env", *variables, *step, "--overlap", *command.in_step(config)]

"""Runs a simulation: on this machine, to its end, or by handing it to a scheduler of this machine.

`HFSSSimulationConfig.run_simulation` and `submit_to_scheduler` end up here. Nothing is stored, and nobody watches: who
wants that submits the configuration to a service.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, TypeVar, assert_never

from msgspec import structs

from jobmgr.compat import program
from jobmgr.dialects.dialect import (
    Answer,
    Busy,
    Command,
    Dialect,
    Doubtful,
    NotUnderstood,
    Refused,
    Submitted,
)
from jobmgr.errors import (
    InvalidConfig,
    InvalidRequest,
    PathNotFound,
    SchedulerUnavailable,
    SubmitDoubtful,
    SubmitRefused,
)
from jobmgr.hfss import script
from jobmgr.hfss.config import HFSSSimulationConfig
from jobmgr.hfss.scheduler import SchedulerType
from jobmgr.transports.local import LocalTransport

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

SUBMIT_TIMEOUT_S = 30.0
# The program that hands a job in, and one that tells which scheduler this machine has, likeliest first.
_SUBMITS = {
    SchedulerType.SLURM: "sbatch",
    SchedulerType.LSF: "bsub",
    SchedulerType.PBS: "qsub",
    SchedulerType.WINDOWS_HPC: "job",
}
_SHOWS = {"sinfo": SchedulerType.SLURM, "bhosts": SchedulerType.LSF, "pbsnodes": SchedulerType.PBS}


def run(config: HFSSSimulationConfig, **subprocess_kwargs: Any) -> CompletedProcess[Any] | str:
    """As `HFSSSimulationConfig.run_simulation` says."""
    if config.scheduler_type is SchedulerType.NONE:
        return _run_here(config, **subprocess_kwargs)
    language, command, answer = _hand_in(config, None)
    return f"{config.scheduler_type}_job_{_id(language, command, answer)}"


def submit(config: HFSSSimulationConfig, script_path: str | None = None) -> CompletedProcess[str]:
    """As `HFSSSimulationConfig.submit_to_scheduler` says."""
    if config.scheduler_type is SchedulerType.NONE:
        scheduler = scheduler_here()
        if scheduler is SchedulerType.NONE:
            raise InvalidConfig(
                "scheduler_type", f"none is named, and none is found here: no {', '.join(_SHOWS)} on PATH"
            )
        config = structs.replace(config, scheduler_type=scheduler)
    language, command, answer = _hand_in(config, script_path)
    if answer.exit_code is None:
        raise SubmitDoubtful(language.name, command.argv, None, answer.stderr)
    return CompletedProcess(list(command.argv), answer.exit_code, answer.stdout, answer.stderr)


def scheduler_here() -> SchedulerType:
    """The scheduler whose programs are on PATH; NONE without one."""
    found = (scheduler for name, scheduler in _SHOWS.items() if shutil.which(name) is not None)
    return next(found, SchedulerType.NONE)


def _run_here(config: HFSSSimulationConfig, **subprocess_kwargs: Any) -> CompletedProcess[Any]:
    config.check_here()
    argv = config.generate_command_list()
    logger.info("simulation %s starts: %s", config.jobid, argv)
    try:
        result = program.run(argv, **subprocess_kwargs)
    except FileNotFoundError as error:
        # The directory to start in may be what is missing.
        if shutil.which(argv[0]) is not None:
            raise
        raise PathNotFound(
            "ansys_edt_path", f"there is no program {argv[0]!r}; give the path of ansysedt"
        ) from error
    logger.info("simulation %s ended with %s", config.jobid, result.returncode)
    return result


def _hand_in(config: HFSSSimulationConfig, script_path: str | None) -> tuple[Dialect, Command, Answer]:
    """What was said to the scheduler, in whose language, and what it answered."""
    program_name = _SUBMITS[config.scheduler_type]
    if shutil.which(program_name) is None:
        raise InvalidConfig(
            "scheduler_type",
            f"there is no {program_name} on PATH; submit where {config.scheduler_type} is installed",
        )
    return _blocking(lambda: _submission(config, script_path))


async def _submission(
    config: HFSSSimulationConfig, script_path: str | None
) -> tuple[Dialect, Command, Answer]:
    transport = LocalTransport(os.environ)
    try:
        language = await _fitted(script.dialect(config.scheduler_type), transport)
        text = script.text(config, language)
        order = script.order(config, config.scheduler_type)
        file = _written(config, text, script_path)
        try:
            command = language.submit(str(file), order)
        except InvalidRequest as error:
            raise script.renamed(error) from error
        return language, command, await transport.run(command, SUBMIT_TIMEOUT_S)
    finally:
        await transport.close()


async def _fitted(language: Dialect, transport: LocalTransport) -> Dialect:
    """As this installation speaks it."""
    commands = language.probe()
    answers = [await transport.run(command, SUBMIT_TIMEOUT_S) for command in commands]
    try:
        return language.fitted(answers)
    except NotUnderstood as error:
        raise SchedulerUnavailable(
            language.name, commands[0].argv, answers[0].exit_code, str(error)
        ) from error


def _written(config: HFSSSimulationConfig, text: str, script_path: str | None) -> Path:
    """The script as a file that only its owner may read: it has the whole command line in it."""
    directory = Path(config.project_path).absolute().parent
    if not directory.is_dir():
        raise PathNotFound(
            "project_path",
            f"there is no {str(directory)!r} on this machine, where the script is to be written",
        )
    if script_path is None:
        # Of a new and unguessable name: in a shared directory nobody can have put something in its place.
        own = tempfile.mkdtemp(prefix=f"{config.jobid}_{config.scheduler_type}_", dir=directory)
        file = Path(own) / script.file_name(config)
    else:
        file = directory / script_path
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o700)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        os.fchmod(descriptor, 0o700)
        stream.write(text)
    return file


def _id(language: Dialect, command: Command, answer: Answer) -> str:
    """The job's number. Raises what the scheduler's answer means."""
    submission = language.submitted(answer)
    facts = (language.name, command.argv, answer.exit_code)
    match submission:
        case Submitted():
            # PBS adds the name of its server.
            return submission.id.partition(".")[0]
        case Refused():
            raise SubmitRefused(*facts, submission.words)
        case Busy():
            raise SchedulerUnavailable(*facts, submission.words)
        case Doubtful():
            raise SubmitDoubtful(*facts, submission.words)
        case _:
            assert_never(submission)


def _blocking(work: Callable[[], Awaitable[Result]]) -> Result:
    """In a thread and a loop of its own, because the caller's thread may have a loop that runs (notebooks)."""

    async def main() -> Result:
        return await work()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="jobmgr-submit") as pool:
        return pool.submit(asyncio.run, main()).result()

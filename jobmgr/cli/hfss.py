"""`hfss`: simulations, by the flags and defaults of the programs that pyedb's job manager had."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
from click.core import ParameterSource

from jobmgr.cli import output, projects, serve
from jobmgr.cli.main import DONE, JOB_FAILED
from jobmgr.cli.session import new_client
from jobmgr.cli.wait import wait_and_tell
from jobmgr.client import Client
from jobmgr.domain.limits import ResourceLimits
from jobmgr.domain.queue import DEFAULT_QUEUE
from jobmgr.errors import InvalidConfig, InvalidRequest, JobmgrError, NotFound, ServiceUnreachable
from jobmgr.hfss import (
    HFSSSimulationConfig,
    MachineNode,
    SchedulerOptions,
    SchedulerType,
    create_hfss_config,
    installation,
)
from jobmgr.settings import url_host

Command = TypeVar("Command", bound=Callable[..., Any])

PORT = 8080
# What the original promised: the limits of a service for one workstation.
MAX_CONCURRENT_JOBS = 1
MAX_CPU_PERCENT = 80.0
MIN_MEMORY_GB = 2.0
MIN_DISK_GB = 10.0

_SCHEDULERS = [each.value for each in SchedulerType if each is not SchedulerType.NONE]
_PROJECT = click.Path(exists=True, path_type=Path)
_COUNT = click.IntRange(min=1)


@click.group()
def hfss() -> None:
    """Run a service for HFSS simulations, and submit them.

    The programs of pyedb's job manager are these: python -m jobmgr.compat.pyedb.submit_local_job is `hfss submit`, and
    so on, with the same flags.
    """


@hfss.command()
@click.option("--host", help="Address to listen on (127.0.0.1). Elsewhere every request needs a token.")
@click.option("--port", type=click.IntRange(0, 65535), help=f"Port to listen on ({PORT}).")
@click.option(
    "--max-concurrent-jobs", type=_COUNT, help=f"At most so many at a time ({MAX_CONCURRENT_JOBS})."
)
@click.option(
    "--max-concurrent", type=_COUNT, help="The same; --max-concurrent-jobs counts if both are given."
)
@click.option("--min-disk", "min_disk_gb", type=float, default=MIN_DISK_GB, show_default=True,
              help="Start none while less disk space is free, in GB.")  # fmt: skip
@click.option("--min-memory", "min_memory_gb", type=float, default=MIN_MEMORY_GB, show_default=True,
              help="Start none while less memory is available, in GB.")  # fmt: skip
@click.option("--max-cpu-percent", type=float, default=MAX_CPU_PERCENT, show_default=True,
              help="Start none while the machine is busier than this.")  # fmt: skip
@serve.drain_option
def start(
    *,
    host: str | None,
    port: int | None,
    max_concurrent_jobs: int | None,
    max_concurrent: int | None,
    drain: Literal["leave", "wait"],
    **guarded: float,
) -> None:
    """Run the service until Ctrl-C or SIGTERM, as `jobmgr serve` does, with limits for one workstation.

    Simulations that run are left to run on, unless --drain says otherwise; the next start takes them up, and keeps
    limits that were changed meanwhile.
    """
    at_once = max_concurrent_jobs or max_concurrent
    given = {name: value for name, value in guarded.items() if _is_given(name)}
    serve.run(
        {"host": host, "port": port, "max_concurrent_jobs": at_once, **given},
        drain=drain,
        limits_name=f"{socket.gethostname()} hfss",
        first_limits=ResourceLimits(MAX_CONCURRENT_JOBS, **guarded),
        remark=_remark,
    )


def _is_given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def _remark(limits: ResourceLimits) -> str:
    """Limits for people; one that was taken away is not told."""
    guards = (
        ("with less than {:g} GB of disk", limits.min_disk_gb),
        ("with less than {:g} GB of memory", limits.min_memory_gb),
        ("above {:g} % of the processors", limits.max_cpu_percent),
    )
    kept = [words.format(limit) for words, limit in guards if limit is not None]
    at_once = limits.max_concurrent_jobs or "one for each core"
    return "; ".join([f"at most {at_once} at a time", *(f"none starts {words}" for words in kept)])


def _program(_context: click.Context, _option: click.Parameter, file: str | None) -> str:
    """The ansysedt that is named, or which pyedb's programs took: of the newest installation here."""
    if file and file != installation.NEWEST:
        # As that of a project: the service runs in another directory.
        return str(Path(file).absolute())
    if file or not installation.installations(os.environ):
        return installation.NEWEST
    return installation.find(os.environ)


def _of_service(command: Command) -> Command:
    """The options that name a service, and what all submissions have in common."""
    for option in (
        click.option(
            "--wait", "waits", is_flag=True, help="Wait for the end; the exit code tells how it went."
        ),
        click.option(
            "--ansys-edt-path",
            metavar="FILE",
            callback=_program,
            help="ansysedt; that of the newest installation here unless given, or of the service's machine where none"
            " is, or with `newest`.",
        ),
        click.option(
            "--queue",
            default=DEFAULT_QUEUE,
            show_default=True,
            help="Of the service; no scheduler's partition.",
        ),
        click.option("--priority", type=int, default=0, show_default=True, help="Larger runs first."),
        click.option("--port", type=click.IntRange(1, 65535), help=f"Port of the service ({PORT})."),
        click.option(
            "--host", help="Host of the service; that of this user unless --host or --port is given."
        ),
    ):
        command = option(command)
    return command


def _run_limit(default: str) -> Callable[[Command], Command]:
    """The option for how long a simulation may run."""
    return click.option(
        "--run-limit",
        default=default,
        show_default=True,
        callback=_time,
        help="How long it may run: hours (24), a time (1-12:00:00, 30m) or unlimited.",
    )


def _time(_context: click.Context, _option: click.Parameter, text: str) -> str:
    # A number alone means hours here, as the original said of it, and minutes in a configuration.
    time = f"{text}h" if text.isdecimal() else text
    try:
        return SchedulerOptions(time=time).time
    except InvalidConfig as error:
        raise click.BadParameter(
            f"{text[:100]!r} is no time limit; write it as 24:00:00, 90m, 2d, a number of hours or unlimited"
        ) from error


@hfss.command()
@_of_service
@click.option("--project-path", type=_PROJECT, required=True, help="The .aedt file or .aedb directory.")
@click.option("--num-cores", type=_COUNT, default=8, show_default=True, help="Cores that it uses.")
@_run_limit(SchedulerOptions().time)
def submit(
    *,
    host: str | None,
    port: int | None,
    priority: int,
    queue: str,
    ansys_edt_path: str,
    waits: bool,
    project_path: Path,
    num_cores: int,
    run_limit: str,
) -> int:
    """Submit a project that is solved on the service's machine, and print the id of the job."""
    config = _local(project_path, num_cores, run_limit, ansys_edt_path)
    return _with_client(host, port, lambda client: _submit_one(client, config, priority, queue, waits=waits))


@hfss.command()
@_of_service
@click.option("--project-path", type=_PROJECT, required=True, help="The .aedt file or .aedb directory.")
@click.option(
    "--partition", default="default", show_default=True, help="default: what the scheduler takes itself."
)
@click.option("--nodes", type=_COUNT, default=1, show_default=True, help="Machines that it uses.")
@click.option("--cores-per-node", type=_COUNT, default=1, show_default=True, help="Cores of each of them.")
@_run_limit("unlimited")
@click.option("--memory", default="", help="Of each node: 64GB; not asked for unless given.")
@click.option("--scheduler", type=click.Choice(_SCHEDULERS), help="That of the service unless given.")
def submit_scheduler(
    *,
    host: str | None,
    port: int | None,
    priority: int,
    queue: str,
    ansys_edt_path: str,
    waits: bool,
    project_path: Path,
    partition: str,
    nodes: int,
    cores_per_node: int,
    run_limit: str,
    memory: str,
    scheduler: str | None,
) -> int:
    """Submit a project that is solved by a scheduler's job, and print the id of ours."""
    asked = options(partition, nodes, cores_per_node, run_limit, memory)

    async def send(client: Client) -> int:
        kind = SchedulerType(scheduler) if scheduler else await client.scheduler_type()
        if kind is SchedulerType.NONE:
            raise InvalidRequest(
                "--scheduler", f"the service has no scheduler; name one of {', '.join(_SCHEDULERS)}"
            )
        config = _config(project_path, ansys_edt_path, scheduler_type=kind, scheduler_options=asked)
        return await _submit_one(client, config, priority, queue, waits=waits)

    return _with_client(host, port, send)


def options(partition: str, nodes: int, cores_per_node: int, run_limit: str, memory: str) -> SchedulerOptions:
    """What is asked of a scheduler."""
    return SchedulerOptions(
        queue=partition, nodes=nodes, cores_per_node=cores_per_node, time=run_limit, memory=memory
    )


@hfss.command()
@_of_service
@click.option("--root-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True,
              help="The folder of the projects.")  # fmt: skip
@click.option("--num-cores", type=_COUNT, default=8, show_default=True, help="Cores that each uses.")
@_run_limit(SchedulerOptions().time)
@click.option("--recursive", is_flag=True, help="Look in the folders below, too.")
@click.option("--max-concurrent", type=_COUNT, default=5, show_default=True, help="Requests in each pause.")
@click.option("--delay-ms", type=click.IntRange(min=0), default=100, show_default=True,
              help="How long the pause is.")  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Say which projects were found.")
def submit_batch(
    *,
    host: str | None,
    port: int | None,
    priority: int,
    queue: str,
    ansys_edt_path: str,
    waits: bool,
    root_dir: Path,
    num_cores: int,
    run_limit: str,
    recursive: bool,
    max_concurrent: int,
    delay_ms: int,
    verbose: bool,
) -> int:
    """Submit all projects of a folder, and print a line for each: the id of its job, and its path.

    They are submitted, and so run, in the order of their paths. Of an .aedb and an .aedt of the same name the .aedt is
    submitted. Exits with 1 if any could not be submitted, with 3 if there is none.
    """
    found = projects.find(root_dir, recursive=recursive)
    if verbose:
        for path in found:
            output.note(f"found {path}")
    if not found:
        where = "or below it" if recursive else "; --recursive looks below it"
        raise NotFound(f"there is no .aedt or .aedb in {root_dir}{' ' * recursive}{where}")
    batch = _Batch(
        found,
        priority,
        queue,
        delay_ms / 1000,
        lambda path: _local(path, num_cores, run_limit, ansys_edt_path),
    )
    return _with_client(host, port, lambda client: batch.submit(client, max_concurrent, waits=waits))


class _Batch:
    """Projects that are submitted together, and what became of each."""

    def __init__(
        self,
        found: Sequence[Path],
        priority: int,
        queue: str,
        delay_s: float,
        configure: Callable[[Path], HFSSSimulationConfig],
    ) -> None:
        self._found = found
        self._priority = priority
        self._queue = queue
        self._delay_s = delay_s
        self._configure = configure
        self._job_ids: list[str] = []
        self._unanswered: dict[str, Path] = {}

    async def submit(self, client: Client, at_once: int, *, waits: bool) -> int:
        """Send them, so many at a time; the exit code. Raises what is the same of all, and leaves what is left."""
        left, turn = iter(self._found), asyncio.Lock()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(self._send(client, left, turn))
        except ExceptionGroup as errors:
            # All of them alike.
            raise errors.exceptions[0] from None
        finally:
            self._sum_up()
        have_failed = len(self._job_ids) < len(self._found)
        ended = await wait_and_tell(client, self._job_ids, None) if waits and self._job_ids else DONE
        return JOB_FAILED if have_failed else ended

    async def _send(self, client: Client, left: Iterator[Path], turn: asyncio.Lock) -> None:
        while True:
            # Only pauses overlap: of two requests under way the later one may be stored first, and would run first.
            async with turn:
                path = next(left, None)
                if path is None:
                    return
                await self._try(client, path)
            await asyncio.sleep(self._delay_s)

    async def _try(self, client: Client, path: Path) -> None:
        try:
            await self._send_one(client, path)
        except JobmgrError as error:
            if _is_of_all(error):
                raise
            output.note(f"{path}: {error}")

    async def _send_one(self, client: Client, path: Path) -> None:
        config = self._configure(path)
        self._unanswered[config.jobid] = path
        try:
            job_id = await client.simulate(config, self._priority, queue=self._queue)
        except JobmgrError:
            del self._unanswered[config.jobid]
            raise
        del self._unanswered[config.jobid]
        self._job_ids.append(job_id)
        output.line(f"{job_id} {path}")
        output.flush()

    def _sum_up(self) -> None:
        # Whoever interrupts has to know what there is now.
        for job_id, path in self._unanswered.items():
            output.note(
                f"{path}: sent, and not answered yet; `jobmgr show {job_id}` finds it if it was stored"
            )
        output.note(f"{len(self._job_ids)} of {len(self._found)} projects were submitted")


def _is_of_all(error: JobmgrError) -> bool:
    """Whether it would be the same of every project: nobody is there, or the program is not."""
    is_of_program = isinstance(error, InvalidRequest) and error.field.endswith("ansys_edt_path")
    return is_of_program or isinstance(error, ServiceUnreachable)


async def _submit_one(
    client: Client, config: HFSSSimulationConfig, priority: int, queue: str, *, waits: bool
) -> int:
    job_id = await client.simulate(config, priority, queue=queue)
    output.line(job_id)
    output.flush()
    return await wait_and_tell(client, [job_id], None) if waits else DONE


def _local(project: Path, cores: int, run_limit: str, ansys_edt_path: str) -> HFSSSimulationConfig:
    return _config(
        project,
        ansys_edt_path,
        machine_nodes=(MachineNode(cores=cores, max_cores=cores),),
        scheduler_options=SchedulerOptions(time=run_limit),
    )


def _config(project: Path, ansys_edt_path: str, **fields: Any) -> HFSSSimulationConfig:
    # The service runs in another directory.
    return create_hfss_config(
        str(project.absolute()), ansys_edt_path=ansys_edt_path, user=getpass.getuser(), **fields
    )


def _with_client(
    host: str | None, port: int | None, work: Callable[[Client], Coroutine[Any, Any, int]]
) -> int:
    async def run() -> int:
        async with _client(host, port) as client:
            return await work(client)

    return asyncio.run(run())


def _client(host: str | None, port: int | None) -> Client:
    if host is None and port is None:
        return new_client()
    if click.get_current_context().find_root().params.get("url") is not None:
        raise click.UsageError("--url names the service already; leave out --host and --port")
    return Client(f"http://{url_host(host or 'localhost')}:{port or PORT}")

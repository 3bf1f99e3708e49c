"""The job manager of pyedb for those who have no event loop, or one that is not to be seen."""

from __future__ import annotations

import asyncio
import os
import re
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jobmgr.compat import simulation
from jobmgr.compat.pyedb.desk import Work
from jobmgr.compat.pyedb.job_id import JobId
from jobmgr.compat.pyedb.limits import ResourceLimits
from jobmgr.compat.pyedb.manager import JobManager, all_done, ended, storing
from jobmgr.errors import AnswerLost, InvalidConfig, NotRunning
from jobmgr.hfss import (
    HFSSSimulationConfig,
    MachineNode,
    SchedulerOptions,
    SchedulerType,
    create_hfss_config,
    installation,
)
from jobmgr.hfss.status import JobStatus
from jobmgr.settings import url_host

_PROGRAM = "ansysedt"
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")


class JobManagerHandler:
    """A service on `host` and `port`, with verbs that block, for all threads; also where a loop runs (notebooks).

        handler = JobManagerHandler()
        handler.start_service()
        job_id = handler.submit_job(handler.create_simulation_config("/path/antenna.aedt", cpu_cores=16))
        print(handler.wait_until_done(job_id))
        handler.close()

    `edb` is an Edb of pyedb, whose ansysedt is used, else that of ANSYS `version` ("252", "2025.2"), else the newest of
    this machine. What is said of `JobManager`, which is its `manager`, holds here too. Raises InvalidConfig, a
    ValueError, for a version that is not installed.
    """

    def __init__(
        self, edb: Any = None, version: str | None = None, host: str = "localhost", port: int = 8080
    ) -> None:
        self.ansys_path = _ansys_path(edb, version)
        self.scheduler_type = simulation.scheduler_here()
        self.manager = JobManager(ResourceLimits(), self.scheduler_type, host=host, port=port)
        self.manager.ansys_path = self.ansys_path

    @property
    def resource_limits(self) -> ResourceLimits:
        """The limits of its service; see `JobManager.resource_limits`."""
        return self.manager.resource_limits

    @resource_limits.setter
    def resource_limits(self, found: ResourceLimits) -> None:
        self.manager.resource_limits = found

    @property
    def started(self) -> bool:
        """Whether its service runs."""
        return self.manager.session.is_running

    @property
    def url(self) -> str:
        """Where its service answers; that is another place than was asked for if one ran already."""
        if not self.started:
            return f"http://{url_host(self.manager.host)}:{self.manager.port}"
        return self.manager.session.url

    @property
    def host(self) -> str:
        """That of `url`. Another one counts at the next start."""
        return urlsplit(self.url).hostname or ""

    @host.setter
    def host(self, found: str) -> None:
        self.manager.host = found

    @property
    def port(self) -> int:
        """That of `url`: before the start what was asked for, which may be 0 for any. As `host`."""
        return urlsplit(self.url).port or 0

    @port.setter
    def port(self, found: int) -> None:
        self.manager.port = found

    def start_service(self) -> None:
        """Return when the service answers; nothing happens if it does. Raises what is wrong: AddressUnavailable, …"""
        self.manager.start()

    def close(self, *, wait: bool = False) -> None:
        """Stop the service: what runs runs on, what waits is run by the next one. It may be started again.

        With `wait` nothing new is started, and what runs is waited for. At the end of the program it is closed.
        """
        self.manager.close(wait=wait)

    async def stop_service(self) -> None:
        """`close`, awaited."""
        await asyncio.to_thread(self.close)

    def submit_job(self, config: HFSSSimulationConfig, priority: int = 0, timeout: float = 30.0) -> JobId:
        """Store a simulation to be run; its id, which may be awaited, too.

        Raises what `JobManager.submit_job` raises; AnswerLost after `timeout` seconds; NotRunning without a service.
        """
        try:
            return JobId(self._call(storing(config, priority), timeout))
        except TimeoutError as error:
            look = (
                f"look at jobs[{config.jobid!r}] before you submit it again: what has ended would run again"
            )
            raise AnswerLost(self.url, f"not within {timeout:g} s", look) from error

    def wait_until_done(self, job_id: str, poll_every: float = 2.0) -> JobStatus:
        """Wait until the job has ended, and how; why it does not start is logged. Raises JobNotFound.

        It is told at once, whatever `poll_every` says.
        """
        del poll_every
        (job,) = self._call(lambda desk: ended(desk.client, [str(job_id)]))
        return JobStatus.of(job.status)

    def wait_until_all_done(self, poll_every: float = 2.0) -> None:
        """As `JobManager.wait_until_all_done`."""
        del poll_every
        self._call(lambda desk: all_done(desk.client))

    def create_simulation_config(
        self,
        project_path: str | os.PathLike[str],
        ansys_edt_path: str | None = None,
        jobid: str | None = None,
        scheduler_type: SchedulerType | str | None = None,
        cpu_cores: int = 1,
        user: str = "unknown",
    ) -> HFSSSimulationConfig:
        """A simulation of a project with `cpu_cores`: here, or on one node of a scheduler, asked for no memory there.

        What is left out: the ansysedt of this handler, an id made of the project's name, the scheduler of this machine.
        Raises InvalidConfig, a ValueError; PathNotFound if this machine is to run it and has no such project.
        """
        if not project_path:
            raise InvalidConfig("project_path", "is empty; give the path of an .aedt or .aedb")
        scheduler = self.scheduler_type if scheduler_type is None else SchedulerType.of(scheduler_type)
        here = scheduler is SchedulerType.NONE
        try:
            nodes = [MachineNode(cores=cpu_cores, max_cores=cpu_cores)]
        except InvalidConfig as error:
            raise InvalidConfig("cpu_cores", error.message) from error
        return create_hfss_config(
            os.fspath(project_path),
            jobid=jobid or _new_id(project_path),
            ansys_edt_path=ansys_edt_path or self.ansys_path,
            machine_nodes=nodes,
            scheduler_type=scheduler,
            scheduler_options=None if here else SchedulerOptions(cores_per_node=cpu_cores, memory=""),
            user=user,
        )

    def _call(self, work: Work[Any], timeout_s: float | None = None) -> Any:
        if not self.started:
            raise NotRunning("the service is not started; call start_service() first")
        return self.manager.session.call(work, timeout_s)


def _ansys_path(edb: Any, version: str | None) -> str | None:
    """None: there is none on this machine; then configurations have to say which."""
    if edb is not None:
        return str(Path(edb.base_path) / (f"{_PROGRAM}.exe" if os.name == "nt" else _PROGRAM))
    if version is None and not installation.installations(os.environ):
        return None
    return installation.find(os.environ, version)


def _new_id(project_path: str | os.PathLike[str]) -> str:
    stem = _NOT_IN_IDS.sub("_", Path(project_path).stem).lstrip("-")[:100]
    return f"{stem}_{uuid.uuid4().hex[:16]}"

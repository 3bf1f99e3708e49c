"""One simulation as it stands."""

from __future__ import annotations

from datetime import datetime

from jobmgr.client.client import Client
from jobmgr.compat.pyedb.desk import Desk
from jobmgr.compat.pyedb.session import Session
from jobmgr.domain.job import Job
from jobmgr.domain.site import LOCAL
from jobmgr.errors import FileMissing
from jobmgr.hfss import HFSSSimulationConfig
from jobmgr.hfss.status import JobStatus

# The end of what a job wrote; all of it is what `jobmgr logs` shows.
OUTPUT_LIMIT_BYTES = 1024 * 1024


class JobInfo:
    """A job: what it is when an attribute is asked for, not what it was when this was made.

    All raise JobNotFound if it was deleted meanwhile. Not in an asynchronous function that must not wait: what is not
    known yet is asked of the service, a matter of milliseconds.
    """

    # Those who hold commands are processes of their own, which outlive this one.
    process = None
    # Not kept: how busy the machine was when the job started.
    local_resources = None

    def __init__(self, session: Session, job_id: str) -> None:
        self._session = session
        self.job_id = job_id

    @property
    def config(self) -> HFSSSimulationConfig | None:
        """What is simulated; None if the job is no simulation."""
        return self._session.call(lambda desk: desk.shelf.config(self.job_id))

    @property
    def status(self) -> JobStatus:
        """Where it is; equal to its word."""
        return JobStatus.of(self._job().status)

    @property
    def why(self) -> str:
        """Why it is where it is: what keeps it waiting, say."""
        reasons = self._session.call(lambda desk: desk.client.why(self.job_id))
        return "; ".join(reason.message for reason in reasons)

    @property
    def start_time(self) -> datetime | None:
        """When it started: local time without a zone."""
        return _local(self._job().started_at)

    @property
    def end_time(self) -> datetime | None:
        """When it ended: local time without a zone."""
        return _local(self._job().finished_at)

    @property
    def return_code(self) -> int | None:
        """The exit code; None if there is none, see `error`."""
        return self._job().exit_code

    @property
    def priority(self) -> int:
        """Larger runs first."""
        return self._job().priority

    @property
    def scheduler_job_id(self) -> str | None:
        """Its number in a scheduler's queue."""
        job = self._job()
        return None if job.site == LOCAL else job.handle

    @property
    def output(self) -> str:
        """The last OUTPUT_LIMIT_BYTES that it wrote to its standard output."""
        return self._session.call(lambda desk: _end(desk.client, self.job_id, "stdout"))

    @property
    def error(self) -> str:
        """The end of what it wrote to its standard error; else, if it failed, why."""
        return self._session.call(self._error)

    def _job(self) -> Job:
        return self._session.call(lambda desk: desk.shelf.job(self.job_id))

    async def _error(self, desk: Desk) -> str:
        job = await desk.shelf.job(self.job_id)
        said = await _end(desk.client, self.job_id, "stderr")
        return said or (job.error.message if job.error is not None else "")

    def __repr__(self) -> str:
        return f"JobInfo({self.job_id!r}, {self.status})"


async def _end(client: Client, job_id: str, stream: str) -> str:
    limit = OUTPUT_LIMIT_BYTES
    try:
        window = await client.log(job_id, stream, offset=0, limit=limit)
        if window.size_bytes > limit:
            window = await client.log(job_id, stream, offset=window.size_bytes - limit, limit=limit)
    except FileMissing:
        return ""
    return window.data.decode("utf-8", errors="replace")


def _local(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone().replace(tzinfo=None)

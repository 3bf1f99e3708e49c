"""What jobs wrote: logs and files, confined to the run directory of one attempt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from jobmgr.domain.job import FileEntry
from jobmgr.domain.site import LOCAL
from jobmgr.errors import FileMissing
from jobmgr.manager.core import Core
from jobmgr.store import listing
from jobmgr.transports.directory import RunDirectory, RunFile
from jobmgr.transports.local_directory import LocalDirectory

Stream = Literal["stdout", "stderr"]


class Files(Core):
    """Logs and files of jobs, wherever they ran.

    All verbs raise JobNotFound, FileMissing, and, of a job that ran elsewhere, ExecutorUnavailable, SiteUnreachable,
    SiteSilent and SiteRefused; so does reading the file that one answers, which the caller closes.
    """

    async def log_file(self, job_id: str, stream: Stream, attempt: int | None = None) -> RunFile:
        """The file a stream of an attempt (None: the latest) is written to."""
        return await self.file(job_id, stream, attempt)

    async def files(self, job_id: str, attempt: int | None = None) -> Sequence[FileEntry]:
        """The regular files of a run directory, by path; at most 10,000. Links are not followed."""
        return await (await self._run_directory(job_id, attempt)).listing()

    async def file(self, job_id: str, path: str, attempt: int | None = None) -> RunFile:
        """A regular file in the run directory. Raises InvalidRequest for a path that leaves it."""
        return await (await self._run_directory(job_id, attempt)).open(path)

    async def _run_directory(self, job_id: str, attempt: int | None) -> RunDirectory:
        (job,) = await self._read(listing.get, [job_id])
        self._check(job)
        number = job.attempt if attempt is None else attempt
        if job.attempt == 0:
            raise FileMissing(
                f"job {job_id!r} ended without having started"
                if job.status.is_terminal
                else f"job {job_id!r} has not started yet; `jobmgr why {job_id}` says why"
            )
        if not 1 <= number <= job.attempt:
            raise FileMissing(f"job {job_id!r} has no attempt {number}; it has had {job.attempt}")
        if job.site == LOCAL:
            return LocalDirectory(str(self.parts.runs / job.job_id / str(number)))
        # As it was stored: the site may have another work directory by now.
        path = await self._read(listing.run_directory, job_id, number)
        if path is None:
            raise FileMissing(
                f"attempt {number} of job {job_id!r} has not started yet at {job.site}; `jobmgr why {job_id}` says why"
            )
        return self.dispatcher.run_directory(job.site, path)

"""All jobs of the database as a mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jobmgr.compat.pyedb.desk import Desk
from jobmgr.compat.pyedb.info import JobInfo
from jobmgr.compat.pyedb.session import Session
from jobmgr.domain.job import JobPage
from jobmgr.domain.resources import counted
from jobmgr.errors import JobNotFound


class Records(Mapping[str, JobInfo]):
    """What is stored, by id, oldest first: the jobs of all programs and all times, not those of this process only.

    Empty until its manager is started, by the first submission at the latest. Raises NotRunning once it is closed.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getitem__(self, job_id: str) -> JobInfo:
        if not self._is_asked:
            raise KeyError(job_id)
        try:
            self._session.call(lambda desk: desk.shelf.job(str(job_id)))
        except JobNotFound:
            raise KeyError(job_id) from None
        return JobInfo(self._session, str(job_id))

    def __iter__(self) -> Iterator[str]:
        cursor: str | None = None
        while self._is_asked:
            page = self._page(cursor)
            for job in page.jobs:
                yield job.job_id
            cursor = page.next_cursor
            if cursor is None:
                return

    def __len__(self) -> int:
        return self._session.call(_count) if self._is_asked else 0

    def __repr__(self) -> str:
        what = counted(len(self), "job") if self._session.is_running else "its manager does not run"
        return f"<{type(self).__name__}: {what}>"

    @property
    def _is_asked(self) -> bool:
        return self._session.is_running or self._session.is_closed

    def _page(self, cursor: str | None) -> JobPage:
        return self._session.call(lambda desk: desk.shelf.page(cursor))


async def _count(desk: Desk) -> int:
    # Queues count their jobs; a listing counts up to a limit.
    return sum(sum(queue.counts.values()) for queue in await desk.client.queues())

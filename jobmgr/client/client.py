"""The verbs of the product for those who are not in the service's process."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self, TypedDict, TypeVar, Unpack

import msgspec

from jobmgr.client import bulk, following, logs, simulation, waiting
from jobmgr.client.address import find_service
from jobmgr.client.connection import Connection, path
from jobmgr.domain.job import MIN_ID_PREFIX, Attempt, Event, EventPosition, FileEntry, Job, JobPage, JobSpec
from jobmgr.domain.limits import ResourceLimits
from jobmgr.domain.queue import DEFAULT_QUEUE, Queue
from jobmgr.domain.why import Reason
from jobmgr.errors import AmbiguousId, ClusterUnavailable, InvalidRequest, JobNotFound
from jobmgr.hfss.config import HFSSSimulationConfig
from jobmgr.hfss.scheduler import SchedulerType
from jobmgr.transports.directory import Window
from jobmgr.wire import answers, translation
from jobmgr.wire.pyedb import QueueStatistics, ResourcesAnswer, SchedulerTypeAnswer, SimulationStored
from jobmgr.wire.submission import NEW_ID_LENGTH, JobSubmission, check_queue_name, command_list, is_job_id

logger = logging.getLogger(__name__)

PAGE_SIZE = 1000
_CANDIDATES = 10
_NEW_ID = re.compile(f"[0-9a-f]{{{NEW_ID_LENGTH}}}")
_NEW_ID_PREFIX = re.compile(f"[0-9a-f]{{1,{NEW_ID_LENGTH - 1}}}")
# How long a service that is away is borne: long enough for an upgrade and a restart of the machine.
PATIENCE_S = 600.0

JobIds = list[str]
Told = TypeVar("Told")


class Filters(TypedDict, total=False):
    """Which jobs to list, and in which order; see GET /api/v1/jobs. No `ids`, or no `status`, select no job."""

    status: Collection[str] | None
    ids: Collection[str] | None
    id_prefix: str
    user: str
    queue: str
    site: str
    executor: str
    tag: str
    name: str
    order: str


_LOOK_AT_USERS = "see `jobmgr user ls`"


class _EventsPage(msgspec.Struct):
    events: list[dict[str, Any]]
    seq: int
    next_after: str


class Client:
    """A service's jobs from outside. Without `url`, JOBMGR_URL or the running service of this user is meant.

    `timeout_s` is how long one answer may take; `patience_s` is how long waiting and following bear a service
    that is away, and how long a change is sent again whose answer was lost: under a key, by which the service makes it
    only once. `on_warning` gets what is worth telling about jobs that were stored. Raises the errors of jobmgr.errors:
    ServiceUnreachable when nobody answers, AnswerLost when it is unknown whether a change was made.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float = 30.0,
        patience_s: float = PATIENCE_S,
        on_warning: Callable[[str], object] = logger.warning,
    ) -> None:
        self._patience_s = patience_s
        self._on_warning = on_warning
        self._connection = Connection(find_service(url, token, os.environ), timeout_s, patience_s)

    async def __aenter__(self) -> Self:
        await self._connection.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    async def submit(self, command: Sequence[str], **fields: Any) -> str:
        """Store one job to be run and return its id. `fields` are those of a submitted job (JobSubmission).

        The id is chosen here unless it or a `key` is given, so that after AnswerLost it can be looked up; with a `key`
        of your own the same call may be made again at any time, and answers the id of the one job.
        """
        (body,), job_ids = bulk.with_ids(
            [bulk.encode({"command": command_list(command), **fields}, "the job")]
        )
        look = bulk.how_to_look(job_ids)
        answer = await self._connection.change("POST", path("jobs"), answers.SubmittedAnswer, body, look=look)
        self._warn(answer.warnings)
        return answer.job_id

    async def submit_many(
        self,
        jobs: Iterable[Mapping[str, Any] | JobSubmission],
        *,
        on_progress: waiting.OnProgress | None = None,
    ) -> JobIds:
        """Store all of these jobs or none; their ids in the same order. Calls `on_progress(sent, total)`."""
        return await self.submit_lines(bulk.encoded(jobs), on_progress=on_progress)

    async def submit_lines(
        self, lines: Iterable[bytes], *, on_progress: waiting.OnProgress | None = None
    ) -> JobIds:
        """`submit_many` of jobs that are JSON already, one per line; errors name them `jobs[0]`, …"""
        named, job_ids = bulk.with_ids(lines)
        answer = await self._connection.change(
            "POST",
            path("jobs"),
            answers.BulkAnswer,
            lambda: bulk.pieces(named, on_progress),
            look=bulk.how_to_look(job_ids),
        )
        self._warn(answer.warnings)
        return answer.job_ids

    async def simulate(
        self,
        config: HFSSSimulationConfig,
        priority: int = 0,
        *,
        queue: str = DEFAULT_QUEUE,
        key: str | None = None,
    ) -> str:
        """Store a simulation and answer its id, which is that of the configuration.

        The same again while it lives changes nothing; once it has ended, it runs again, but not under the same
        idempotency `key`: then the call may be made again at any time. Raises JobExists if the id is
        that of a job with another configuration.
        """
        answer = await self._connection.change(
            "POST",
            simulation.SUBMIT,
            SimulationStored,
            simulation.encoded(config, priority, queue),
            look=_how_to_look(config.jobid),
            key=key,
        )
        self._warn(answer.warnings)
        return answer.job_id

    async def scheduler_type(self) -> SchedulerType:
        """Which scheduler the service would hand simulations to."""
        told = await self._connection.read(simulation.SCHEDULER, SchedulerTypeAnswer)
        return SchedulerType(told.scheduler_type)

    async def progress(self, job_id: str) -> answers.ProgressAnswer:
        """How far a simulation is, as its log says. Raises NotASimulation, and those of files at a site."""
        return await self._connection.read(_job(job_id, "progress"), answers.ProgressAnswer)

    async def simulation(self, job_id: str) -> HFSSSimulationConfig | None:
        """What a job simulates; None for one that is no simulation. Raises JobNotFound."""
        spec = await self._connection.read(_job(job_id, "spec"), answers.SpecAnswer)
        return None if spec.payload is None else HFSSSimulationConfig.from_dict(spec.payload)

    async def queue_stats(self) -> QueueStatistics:
        """How many jobs wait and run, as pyedb's job manager tells it."""
        return await self._connection.read("/queue", QueueStatistics)

    async def resources(self) -> ResourcesAnswer:
        """How busy the service's machine is, as pyedb's job manager tells it."""
        return await self._connection.read("/resources", ResourcesAnswer)

    def _warn(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            self._on_warning(sentence)

    async def get(self, job_id: str) -> Job:
        """The job. Raises JobNotFound."""
        return translation.to_job(await self._connection.read(_job(job_id), answers.JobAnswer))

    async def full_id(self, text: str) -> str:
        """The id that is `text`, else the only one of those chosen by us that begins so, with four characters or more.

        Ids chosen by users are themselves only: of `run1` and `run10` the latter is not meant when the former is gone.
        Raises JobNotFound, AmbiguousId.
        """
        if _NEW_ID_PREFIX.fullmatch(text) is None:
            return text
        try:
            return (await self.get(text)).job_id
        except JobNotFound:
            if len(text) < MIN_ID_PREFIX:
                raise
        page = await self.list_page(id_prefix=text, limit=_CANDIDATES)
        found = [job.job_id for job in page.jobs if _NEW_ID.fullmatch(job.job_id)]
        if not found:
            raise JobNotFound(text)
        if len(found) > 1:
            raise AmbiguousId(text, found, are_all=page.next_cursor is None)
        return found[0]

    async def list_page(
        self,
        *,
        limit: int = 100,
        cursor: str | None = None,
        total: bool = False,
        **filters: Unpack[Filters],
    ) -> JobPage:
        """One page of jobs, newest first unless `order` is given; `cursor`: `next_cursor` of the page before.

        `total` asks how many jobs there are on all pages, counted up to 10,000.
        """
        query = {name: _query_text(value) for name, value in filters.items() if value is not None}
        if "" in (query.get("status"), query.get("ids")):
            return await self._empty_page(total=total)
        query["limit"] = str(limit)
        if cursor is not None:
            query["cursor"] = cursor
        if total:
            query["total"] = "true"
        return translation.to_page(await self._connection.read(path("jobs"), answers.JobsAnswer, query))

    async def _empty_page(self, *, total: bool) -> JobPage:
        # What selects nothing cannot be written as a query, and need not be: only the position is the service's.
        position = (await self.list_page(limit=1)).position
        return JobPage([], None, position, 0 if total else None, True if total else None)

    async def list(self, **filters: Unpack[Filters]) -> AsyncGenerator[Job, None]:
        """All jobs that `filters` select, page by page."""
        cursor: str | None = None
        while True:
            page = await self.list_page(limit=PAGE_SIZE, cursor=cursor, **filters)
            for job in page.jobs:
                yield job
            cursor = page.next_cursor
            if cursor is None:
                return

    async def spec(self, job_id: str) -> JobSpec:
        """What a job runs: its command, environment, resources and rules."""
        return translation.to_spec(await self._connection.read(_job(job_id, "spec"), answers.SpecAnswer))

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        """The attempts of a job, first one first."""
        answer = await self._connection.read(_job(job_id, "attempts"), answers.AttemptsAnswer)
        return [translation.to_attempt(attempt, job_id) for attempt in answer.attempts]

    async def events(self, job_id: str) -> Sequence[Event]:
        """All kept events of a job, oldest first."""
        found: list[Event] = []
        query: dict[str, str] = {}
        while True:
            page = await self._connection.read(_job(job_id, "events"), _EventsPage, query)
            if not page.events:
                return found
            found += map(translation.to_event, page.events)
            query = {"after": page.next_after}

    async def why(self, job_id: str) -> Sequence[Reason]:
        """Why a job is where it is, best reason first."""
        answer = await self._connection.read(_job(job_id, "why"), answers.WhyAnswer)
        return translation.to_reasons(answer)

    async def cancel(self, job_id: str) -> Job:
        """End the job; one that has ended stays as it is."""
        return await self._do(job_id, "cancel")

    async def retry(self, job_id: str, *, assume_dead: bool = False) -> Job:
        """Run a job that has ended once more; `assume_dead` also one whose attempt is unreachable."""
        return await self._do(job_id, "retry", query="?assume_dead=true" if assume_dead else "")

    async def pause(self, job_id: str) -> Job:
        """Stop the processes of a running job where they are."""
        return await self._do(job_id, "pause")

    async def resume(self, job_id: str) -> Job:
        """Let a paused job go on."""
        return await self._do(job_id, "resume")

    async def hold(self, job_id: str) -> Job:
        """Keep a waiting job from starting, also in a scheduler's queue; `why` says what that answered."""
        return await self._do(job_id, "hold")

    async def release(self, job_id: str) -> Job:
        """Undo a hold."""
        return await self._do(job_id, "release")

    async def execute(self, job_id: str) -> Job:
        """Queue a job that was stored as a draft."""
        return await self._do(job_id, "execute")

    async def set_priority(self, job_id: str, priority: int) -> Job:
        """Change the priority; larger runs first. A scheduler's queue where the job waits is told."""
        return await self._do(job_id, "priority", {"priority": priority})

    async def _do(
        self, job_id: str, verb: str, body: Mapping[str, Any] | None = None, query: str = ""
    ) -> Job:
        look = _how_to_look(job_id)
        where = _job(job_id, verb) + query
        return translation.to_job(
            await self._connection.change("POST", where, answers.JobAnswer, body, look=look)
        )

    async def update(self, job_id: str, **fields: Any) -> Job:
        """Change name, description, priority, tags or extended_properties."""
        look = _how_to_look(job_id)
        answer = await self._connection.change("PATCH", _job(job_id), answers.JobAnswer, fields, look=look)
        return translation.to_job(answer)

    async def delete(self, job_id: str) -> None:
        """Forget a job that has ended, with its attempts."""
        await self._connection.change("DELETE", _job(job_id), type(None), look=_how_to_look(job_id))

    async def log(
        self,
        job_id: str,
        stream: str = "stdout",
        *,
        offset: int | None = None,
        limit: int | None = None,
        tail: int | None = None,
        attempt: int | None = None,
    ) -> Window:
        """Bytes of stdout or stderr: `limit` bytes from `offset` on, or the last `tail` lines."""
        _check_job_id(job_id)
        return await logs.read(
            self._connection, job_id, stream, offset=offset, limit=limit, tail=tail, attempt=attempt
        )

    def follow_log(
        self, job_id: str, stream: str = "stdout", *, tail: int | None = None, attempt: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """What the job writes, as it is written, until it has ended; from the last `tail` lines on if given.

        Without `attempt`, a further attempt is followed from its beginning.
        """
        _check_job_id(job_id)
        return logs.follow(
            self._connection, job_id, stream, tail=tail, attempt=attempt, patience_s=self._patience_s
        )

    async def files(self, job_id: str, *, attempt: int | None = None) -> Sequence[FileEntry]:
        """The files in the job's run directory."""
        answer = await self._connection.read(_job(job_id, "files"), answers.FilesAnswer, _attempt(attempt))
        return [translation.to_file(entry) for entry in answer.files]

    async def file(self, job_id: str, name: str, *, attempt: int | None = None) -> bytes:
        """A file of the run directory. Raises FileMissing."""
        async with self._connection.fetch(_file(job_id, name), _attempt(attempt)) as response:
            return await response.read()

    async def download(self, job_id: str, name: str, to: Path, *, attempt: int | None = None) -> None:
        """Copy a file of the run directory to `to`, however large it is."""
        async with self._connection.fetch(_file(job_id, name), _attempt(attempt)) as response:
            with to.open("wb") as file:
                async for piece in response.content.iter_any():
                    file.write(piece)

    async def queues(self) -> Sequence[Queue]:
        """All queues with their counts."""
        answer = await self._connection.read(path("queues"), answers.QueuesAnswer)
        return [translation.to_queue(queue) for queue in answer.queues]

    async def update_queue(self, name: str, **fields: Any) -> Queue:
        """Change `paused` or `max_running` (None: no limit); a new name makes a queue. Raises InvalidRequest."""
        check_queue_name(name, "name")
        answer = await self._connection.change(
            "PATCH", path("queues", name), answers.QueueAnswer, fields, look="see `jobmgr queue ls`"
        )
        return translation.to_queue(answer)

    async def sites(self) -> Sequence[answers.SiteAnswer]:
        """All sites by name."""
        return (await self._connection.read(path("sites"), answers.SitesAnswer)).sites

    async def put_site(self, name: str, **fields: Any) -> answers.SiteAnswer:
        """Make a site (`kind`, `host`, `work_dir`, …), or change it to this. Raises InvalidRequest, Conflict."""
        return await self._connection.change(
            "PUT", path("sites", name), answers.SiteAnswer, fields, look="see `jobmgr site ls`"
        )

    async def enable_site(self, name: str, *, enabled: bool = True) -> answers.SiteAnswer:
        """Let a site have jobs, or no more of them. Raises SiteNotFound, Conflict."""
        return await self._connection.change(
            "PATCH",
            path("sites", name),
            answers.SiteAnswer,
            {"enabled": enabled},
            look="see `jobmgr site ls`",
        )

    async def remove_site(self, name: str) -> None:
        """Forget a site that no stored job names. Raises SiteNotFound, Conflict."""
        await self._connection.change("DELETE", path("sites", name), type(None), look="see `jobmgr site ls`")

    async def try_site(self, name: str) -> answers.TrialAnswer:
        """Try the way to a site, its scheduler and its work directory, until something is wrong."""
        return await self._connection.change(
            "POST", path("sites", name, "test"), answers.TrialAnswer, look="see `jobmgr site ls`"
        )

    async def clusters(self) -> answers.ClustersAnswer:
        """How large and busy the clusters of all sites are, and which schedulers are installed with the service."""
        return await self._connection.read(path("cluster"), answers.ClustersAnswer)

    async def cluster(self, name: str) -> answers.ClusterAnswer:
        """How large and busy the cluster of a site is. Raises SiteNotFound, ClusterUnavailable with what was `last`."""
        return await self._told(path("cluster", name), answers.ClusterAnswer)

    async def partitions(self, name: str) -> answers.PartitionsAnswer:
        """The partitions of a site. Raises as `cluster`."""
        return await self._told(path("cluster", name, "partitions"), answers.PartitionsAnswer)

    async def nodes(self, name: str) -> answers.NodesAnswer:
        """The machines of a site. Raises as `cluster`."""
        return await self._told(path("cluster", name, "nodes"), answers.NodesAnswer)

    async def cluster_jobs(
        self,
        name: str,
        *,
        user: str | None = None,
        partition: str | None = None,
        phase: Collection[str] = (),
        limit: int = 100,
        cursor: str | None = None,
    ) -> answers.ClusterJobsAnswer:
        """A page of everybody's jobs at a site; `cursor`: `next_cursor` of the page before. Raises as `cluster`."""
        given = {"user": user, "partition": partition, "phase": ",".join(phase) or None, "cursor": cursor}
        query = {"limit": str(limit), **{key: value for key, value in given.items() if value is not None}}
        return await self._told(path("cluster", name, "jobs"), answers.ClusterJobsAnswer, query)

    async def _told(self, where: str, answer: type[Told], query: Mapping[str, str] | None = None) -> Told:
        try:
            return await self._connection.read(where, answer, query)
        except ClusterUnavailable as error:
            error.last = None if error.last is None else msgspec.convert(error.last, answer)
            raise

    async def limits(self) -> ResourceLimits:
        """What the service may use of its machine."""
        return translation.to_limits(await self._connection.read(path("limits"), answers.LimitsAnswer))

    async def update_limits(self, **fields: Any) -> ResourceLimits:
        """Change limits; None takes one away."""
        answer = await self._connection.change(
            "PATCH", path("limits"), answers.LimitsAnswer, fields, look="read the limits again"
        )
        return translation.to_limits(answer)

    async def me(self) -> answers.CallerAnswer:
        """Who this client is to the service, and what it may do."""
        return await self._connection.read(path("me"), answers.CallerAnswer)

    async def users(self) -> Sequence[answers.UserAnswer]:
        """All users by name."""
        return (await self._connection.read(path("users"), answers.UsersAnswer)).users

    async def put_user(self, name: str, **fields: Any) -> answers.UserAnswer:
        """Make a user (`role`, `groups`, `disabled`), or change one to this; with `new` only make it.

        Raises InvalidRequest, Conflict.
        """
        return await self._connection.change(
            "PUT", path("users", name), answers.UserAnswer, fields, look=_LOOK_AT_USERS
        )

    async def change_user(self, name: str, **fields: Any) -> answers.UserAnswer:
        """Change a user; fields left out stay. Raises UserNotFound, InvalidRequest, Conflict."""
        return await self._connection.change(
            "PATCH", path("users", name), answers.UserAnswer, fields, look=_LOOK_AT_USERS
        )

    async def remove_user(self, name: str) -> None:
        """Forget a user without jobs, and all their API tokens. Raises UserNotFound, Conflict."""
        await self._connection.change("DELETE", path("users", name), type(None), look=_LOOK_AT_USERS)

    async def api_tokens(self, user: str | None = None) -> Sequence[answers.TokenAnswer]:
        """The API tokens of a user, newest first; None: all that this client may see."""
        query = {} if user is None else {"user": user}
        return (await self._connection.read(path("tokens"), answers.TokensAnswer, query)).tokens

    async def make_api_token(self, user: str | None = None, **fields: Any) -> answers.MadeTokenAnswer:
        """Make an API token (`label`, `scopes`, `expires`), whose `token` nobody is told again; None: for oneself.

        Raises UserNotFound, InvalidRequest, and Conflict if it was made and the answer was lost.
        """
        body = fields if user is None else {"user": user, **fields}
        return await self._connection.change(
            "POST", path("tokens"), answers.MadeTokenAnswer, body, look="see `jobmgr token ls`"
        )

    async def revoke_api_token(self, token_id: str) -> answers.TokenAnswer:
        """Let an API token be valid no more. Raises ApiTokenNotFound."""
        return await self._connection.change(
            "DELETE", path("tokens", token_id), answers.TokenAnswer, look="see `jobmgr token ls`"
        )

    async def audit(self, **filters: str) -> AsyncGenerator[answers.AuditEntryAnswer, None]:
        """Who did what, newest first; `filters`: `actor`, `kind`, `job`, `since`, `until`."""
        query = {"limit": str(PAGE_SIZE), **filters}
        while True:
            page = await self._connection.read(path("reports", "audit"), answers.AuditAnswer, query)
            for entry in page.entries:
                yield entry
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor

    async def wait(self, job_id: str, timeout_s: float | None = None) -> Job:
        """The job once it has ended. Raises WaitTimeout."""
        (job,) = await self.wait_many([job_id], timeout_s=timeout_s)
        return job

    async def wait_many(
        self,
        job_ids: Sequence[str],
        on_progress: waiting.OnProgress | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Sequence[Job]:
        """These jobs once all have ended, in this order. `on_progress(ended, total)` is called as they end.

        Survives restarts of the service. Raises WaitTimeout, JobNotFound.
        """
        for job_id in job_ids:
            _check_job_id(job_id)
        return await waiting.wait_for(self._connection, job_ids, on_progress, timeout_s, self._patience_s)

    async def follow_events(self, after: EventPosition | None = None) -> AsyncGenerator[Event, None]:
        """All events after a position (None: from now on), without end, also over restarts of the service.

        Raises EventsGone when the service cannot continue from there: read the jobs anew, then follow again.
        """
        start = after or (await self.list_page(limit=1)).position
        async with aclosing(following.follow(self._connection, start, self._patience_s)) as events:
            async for event in events:
                yield event


def _job(job_id: str, *parts: str) -> str:
    _check_job_id(job_id)
    return path("jobs", job_id, *parts)


def _check_job_id(job_id: str) -> None:
    # What cannot be an id names no job, and must not be read as another path.
    if not is_job_id(job_id):
        raise JobNotFound(job_id)


def _file(job_id: str, name: str) -> str:
    parts = name.split("/")
    if not all(parts) or "." in parts or ".." in parts:
        raise InvalidRequest("path", f"{name!r} is not the path of a file in the run directory")
    return _job(job_id, "files", *parts)


def _attempt(attempt: int | None) -> dict[str, str]:
    return {} if attempt is None else {"attempt": str(attempt)}


def _query_text(value: object) -> str:
    return value if isinstance(value, str) else ",".join(value) if isinstance(value, Iterable) else str(value)


def _how_to_look(job_id: str) -> str:
    return f"see `jobmgr show {job_id}`"

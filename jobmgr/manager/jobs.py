"""The verbs on jobs. Every front door calls these; they call the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from jobmgr.domain import access
from jobmgr.domain.access import Verb
from jobmgr.domain.advice import advice
from jobmgr.domain.job import Attempt, Event, EventPosition, Job, JobFilter, JobPage, JobSpec, NewJob
from jobmgr.domain.queue import Tally
from jobmgr.domain.resources import counted, size_text
from jobmgr.domain.site import LOCAL
from jobmgr.domain.status import WAITING, Status
from jobmgr.domain.user import check_name
from jobmgr.domain.why import Parent, Reason, Surroundings, explain
from jobmgr.domain.wish import Hold, Pause, Rank, Wished
from jobmgr.errors import InvalidRequest, WaitTimeout
from jobmgr.executors import directories
from jobmgr.manager.core import Core
from jobmgr.manager.feed import Following
from jobmgr.store import dependencies, events, jobs, listing, ownership, queues, sites, submissions
from jobmgr.store.jobs import Change
from jobmgr.store.submissions import Stored
from jobmgr.wire.answers import JobsAnswer
from jobmgr.wire.mismatch import invalid
from jobmgr.wire.requests import JobsQuery, given
from jobmgr.wire.submission import (
    JobChange,
    JobSubmission,
    check_priority,
    check_properties,
    check_tags,
    command_list,
    to_new_job,
)
from jobmgr.wire.text import check_text

logger = logging.getLogger(__name__)

_PAGE_LIMIT = 1000
_LET_WAIT = frozenset({Status.SCHEDULED, Status.PAUSED})  # What a foreign queue has a reason for.


class Jobs(Core):
    """Submit, look, cancel, retry, hold, wait."""

    async def submit(self, command: Sequence[str], *, user: str | None = None, **fields: Any) -> str:
        """Store one job and answer its id; the fields are those of a submitted job (name, priority, env, …).

        Raises InvalidRequest naming the field, JobExists.
        """
        try:
            asked = msgspec.convert({"command": command_list(command), **fields}, JobSubmission)
        except msgspec.ValidationError as error:
            raise invalid(error, JobSubmission) from None
        (stored,) = await self.submit_many([asked], user=user, bulk=False)
        return stored.job_id

    async def submit_many(
        self, asked: Sequence[JobSubmission], *, user: str | None = None, bulk: bool = True
    ) -> Sequence[Stored]:
        """Store jobs, all or nothing; committed on return. `bulk` says whether errors name `jobs[n].field`."""
        owner = self.user if user is None else user
        new = [
            to_new_job(submission, user=owner, at=f"jobs[{index}]." if bulk else "")
            for index, submission in enumerate(asked)
        ]
        stored = await self.store_jobs(new)
        for sentence in advice(new):
            logger.warning("%s", sentence)
        return stored

    async def store_jobs(self, new: Sequence[NewJob]) -> Sequence[Stored]:
        """Store jobs that are checked already, all or nothing.

        Raises AccessDenied for another user's, for an admin InvalidRequest if there can be no such user.
        """
        if not new:
            return []
        others = [job for job in new if job.user != self.user]
        if self.caller is not None and others:
            access.check(self.caller.principal, Verb.SUBMIT_AS)
            for job in others:
                check_name(job.user, f"{job.at}user")
        self.dispatcher.expect_work()
        return await self._write(submissions.insert, new)

    async def get(self, job_id: str) -> Job:
        """One job. Raises JobNotFound."""
        (job,) = await self._read(listing.get, [job_id])
        self._check(job)
        return job

    async def list(
        self,
        wanted: JobFilter | None = None,
        *,
        order: str = "-created",
        limit: int = 100,
        cursor: str | None = None,
        total: bool = False,
    ) -> JobPage:
        """One page of jobs, and how many there are on all pages, counted up to 10,000, if `total` asks for that.

        Raises InvalidRequest for an unknown order, limit or cursor.
        """
        if not 1 <= limit <= _PAGE_LIMIT:
            raise InvalidRequest("limit", f"{limit} is not between 1 and {_PAGE_LIMIT}")
        return await self._read(
            listing.page, self._confined(wanted or JobFilter()), order, limit, cursor, total=total
        )

    def _confined(self, wanted: JobFilter) -> JobFilter:
        return wanted if self.caller is None else access.confined(self.caller.principal, wanted)

    async def page_answer(self, wanted: JobFilter, query: JobsQuery) -> JobsAnswer:
        """The page of `wanted` that `query` asks for, as it travels: without the jobs that `list` makes."""
        # To count is another statement.
        read = self._read if query.total else self._ask
        return await read(
            listing.page_answer,
            self._confined(wanted),
            query.order,
            query.limit,
            query.cursor,
            total=query.total,
        )

    async def spec(self, job_id: str) -> JobSpec:
        """What a job runs: its command, environment, resources and rules. Raises JobNotFound.

        Of jobs that it depends on, those that whoever asks may not see have no id.
        """
        await self._see(job_id)
        return await self._read(listing.spec, job_id, self.sight)

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        """All attempts of a job, oldest first."""
        await self._see(job_id)
        return await self._read(listing.attempts, job_id)

    async def cancel(self, job_id: str) -> Job:
        """End the job, or ask for its end if it is live. An ended job stays as it is."""
        return await self._write(jobs.cancel, job_id)

    async def retry(self, job_id: str, *, assume_dead: bool = False) -> Job:
        """Queue an ended job for a new attempt. Raises IllegalTransition if it has not ended.

        `assume_dead` is the word of whoever asks that the job's unreachable attempt is dead: it is ended as lost first.
        """
        if assume_dead:
            return await self._write(ownership.retry_assuming_dead, ownership.AssumeDead(job_id, self.user))
        return await self._write(jobs.retry, job_id)

    async def pause(self, job_id: str) -> Job:
        """Ask for the processes of a running job to be stopped where they are; its status follows.

        Raises IllegalTransition if it waits or has ended.
        """
        return await self._write(jobs.pause, job_id)

    async def resume(self, job_id: str) -> Job:
        """Let a paused job go on; others stay as they are."""
        return await self._write(jobs.resume, job_id)

    async def hold(self, job_id: str) -> Job:
        """Keep a waiting job from starting, also in a foreign queue, which is told of it; `why` says what it answered.

        Raises IllegalTransition if it runs, is about to on this machine, or has ended.
        """
        return await self._write(jobs.hold, job_id)

    async def release(self, job_id: str) -> Job:
        """Undo a hold. Jobs that are not held stay as they are."""
        return await self._write(jobs.release, job_id)

    async def execute(self, job_id: str) -> Job:
        """Queue a draft. Raises IllegalTransition if it is none."""
        return await self._write(jobs.execute, job_id)

    async def set_priority(self, job_id: str, priority: int) -> Job:
        """Give a job that has not ended another priority; larger runs first.

        A foreign queue where it waits is told, if that can be said there; `why` says what it did not take.
        """
        values = {"priority": check_priority(priority, "priority")}
        return await self._write(jobs.update, Change(job_id, values, kind="priority"))

    async def update(self, job_id: str, change: JobChange) -> Job:
        """Change name, description, priority, tags or extended properties."""
        values = given(change)
        if "name" in values:
            check_text(values["name"], "name")
        if "description" in values:
            check_text(values["description"], "description", allow_newline=True)
        if "priority" in values:
            check_priority(values["priority"], "priority")
        if "extended_properties" in values:
            check_properties(values["extended_properties"], "extended_properties")
        tags = check_tags(values.pop("tags"), "tags") if "tags" in values else None
        if not values and tags is None:
            return await self.get(job_id)
        return await self._write(jobs.update, Change(job_id, values, tags))

    async def delete(self, job_id: str) -> None:
        """Forget an ended job; what it wrote stays where it is.

        Its id may be used again. Where only another machine or a site knows that its attempts ran, a new job of this id
        is `lost: ran_before_restore` there, until a user has it tried again.
        """
        tokens = await self._write(jobs.delete, job_id)
        control = self.parts.runs.parent / "control" / job_id
        for number, token in tokens.items():
            await asyncio.to_thread(directories.forget, str(control / str(number)), token)

    async def why(self, job_id: str) -> Sequence[Reason]:
        """Why the job is where it is, best reason first."""
        job = await self.get(job_id)
        queue = await self._read(queues.get, job.queue)
        unmet = await self._read(dependencies.unmet, job_id) if job.status is Status.PENDING else []
        queued = job.status is Status.QUEUED
        is_here = job.site == LOCAL
        waits = job.status in WAITING
        asked = await self._read(listing.asked, job_id) if waits and is_here else (0, 0, 0)
        too_much, no_room = self._fit(asked)
        there = None if is_here else self.dispatcher.elsewhere(job.site)
        used = self.dispatcher.roster.occupied.slots
        if there and queued:
            used = await self._read(sites.live, job.site)
        hold, priority = await self._read(listing.untold, job_id) if there else (False, False)
        # Where another service has it in hand, or this one has not looked at it yet.
        known = await self._read(listing.reason, job_id) if job.status in _LET_WAIT else ""
        since, why = await self._read(listing.unreachable, job_id) or (None, "")
        around = Surroundings(
            queue=queue,
            unmet=[self._parent(parent) for parent in unmet],
            ahead=await self._read(listing.ahead, job_id) if queued else 0,
            slots=there.slots if there else self.dispatcher.admission.slots,
            slots_used=used,
            closed=there.closed if there else self.dispatcher.admission.closed,
            asks_too_much=too_much,
            waits_for_room=no_room,
            unreachable_at=since,
            unreachable_why=_with(there.trouble, why) if there else why,
            is_draining=self.dispatcher.is_draining,
            said_there="" if is_here else self.dispatcher.reason(job_id) or known,
            expected_start=None if is_here else self.dispatcher.expected_start(job_id),
            untold_hold=self._untold(job_id, Hold, is_stored=hold),
            untold_priority=self._untold(job_id, Rank, is_stored=priority),
            untold_pause=None if is_here else self.dispatcher.remark(job_id, Pause),
        )
        return explain(job, around, datetime.now(UTC))

    def _parent(self, unmet: dependencies.Unmet) -> Parent:
        # Groups change, and an admin submits for others: who sees a job need not see what it waits for.
        if self.caller is None or access.sees(self.caller.principal, unmet):
            return Parent(unmet.when, unmet.job_id, unmet.status)
        return Parent(unmet.when)

    def _untold(self, job_id: str, kind: type[Wished], *, is_stored: bool) -> str | None:
        said = self.dispatcher.remark(job_id, kind)
        return "" if said is None and is_stored else said

    def _fit(self, asked: tuple[int, int, int]) -> tuple[Sequence[str], Sequence[str]]:
        total = self.dispatcher.admission.total
        room = self.dispatcher.admission.room(self.dispatcher.roster.occupied)
        too_much, no_room = [], []
        kinds: Sequence[tuple[int, int, int, Callable[[int], str]]] = (
            (asked[0], total.cpus, room.cpus, lambda count: counted(count, "cpu")),
            (asked[1], total.memory_bytes, room.memory_bytes, lambda size: f"{size_text(size)} of memory"),
            (asked[2], len(total.gpus), len(room.gpus), lambda count: counted(count, "gpu")),
        )
        for amount, has, free, say in kinds:
            if amount > has:
                too_much.append(
                    f"it asks for {say(amount)}, this machine has {say(has)}; it can never run here"
                )
            elif amount > free:
                no_room.append(f"it asks for {say(amount)}, and {say(max(free, 0))} can be had now")
        return too_much, no_room

    async def job_events(self, job_id: str, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """Events of one job after event number `after`."""
        await self._see(job_id)
        key = await self._read(listing.key_of, job_id)
        return await self._read(events.of_job, key, after, limit)

    async def event_position(self) -> EventPosition:
        """The position after the last committed event."""
        return await self._read(events.position)

    async def event_page(self, after: EventPosition | None, limit: int) -> tuple[Sequence[Event], int | None]:
        """Of at most `limit` events after a position those that whoever asks is told of, and the number of the last
        one; None: there are none.

        Raises EventsGone.
        """
        found = await self._read(events.page, after, limit)
        return self.hearing.heard(found), found[-1].seq if found else None

    def follow(
        self,
        after: EventPosition | None = None,
        *,
        readers: Callable[[], int] = lambda: 1,
        beat_s: float | None = None,
    ) -> Following:
        """All events after a position (None: from now on) in batches, as `Feed.follow` says."""
        return self.feed.follow(after, readers=readers, beat_s=beat_s, read=self._read)

    async def wait(self, job_id: str, timeout_s: float | None = None) -> Job:
        """Wait until the job has ended. Raises WaitTimeout."""
        return (await self.wait_many([job_id], timeout_s))[0]

    async def wait_many(self, job_ids: Sequence[str], timeout_s: float | None = None) -> Sequence[Job]:
        """Wait until all these jobs have ended; answers them in the order asked for. Raises WaitTimeout."""
        await self._see(*job_ids)
        try:
            async with asyncio.timeout(timeout_s):
                await self._until_ended(job_ids)
        except TimeoutError:
            left = await self._read(listing.unfinished, job_ids)
            raise WaitTimeout(
                f"after {timeout_s:g} s {len(left)} of {len(job_ids)} jobs have not ended"
            ) from None
        return await self._read(listing.get, job_ids)

    async def _until_ended(self, job_ids: Sequence[str]) -> None:
        left: set[str] | None = None
        async for batch in self.follow():
            if left is None:
                # Followed first, read then: no end falls between the two.
                left = set(await self._read(listing.unfinished, job_ids))
            for event in batch:
                if event.job_id in left and Status(event.data["status"]).is_terminal:
                    left.discard(event.job_id)
            if not left:
                return

    async def wait_until_all_done(self, timeout_s: float | None = None) -> None:
        """Wait until no job is waiting or live any more. Raises WaitTimeout."""
        seen = -1
        try:
            async with asyncio.timeout(timeout_s):
                async for batch in self.follow():
                    # What was committed before the last look needs no further one: looking slower than jobs end
                    # does not mean to lag behind.
                    if batch and batch[-1].seq <= seen:
                        continue
                    seen = (await self.event_position()).seq
                    if not await self._has_unfinished():
                        return
        except TimeoutError:
            raise WaitTimeout(f"after {timeout_s:g} s there are still jobs that have not ended") from None

    async def _has_unfinished(self) -> bool:
        return any(
            queue.counts[tally]
            for queue in await self._read(queues.listing)
            for tally in (Tally.PENDING, Tally.QUEUED, Tally.LIVE)
        )


def _with(trouble: str, why: str) -> str:
    """Why an attempt cannot be reached, and what keeps this service from looking after it, each once."""
    if why in trouble:
        return trouble
    return f"{why}; {trouble}" if trouble else why

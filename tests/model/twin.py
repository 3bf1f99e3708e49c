"""The store's twin: jobs, attempts, queues and events as they have to be, in plain Python.

It is written from the promises in docs/architecture.md and shares no rule with the store. Time is counted in
ticks, so that a job is due or not whatever the clock did meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from jobmgr.domain.job import JobError, NewJob, OnLost, When
from jobmgr.domain.outcome import NEVER_STARTED, End
from jobmgr.domain.queue import Tally
from jobmgr.domain.status import Status
from jobmgr.errors import IllegalTransition, InvalidRequest, JobExists, JobNotFound
from jobmgr.store.fence import Key

# Longer than any example takes, and a divisor of the longest backoff.
TICK_S = 600
_LONGEST_BACKOFF = 6
_WAITING = (Status.PENDING, Status.QUEUED)
_LIVE = (Status.CLAIMED, Status.RUNNING, Status.PAUSED)
_ENDED = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


@dataclass(frozen=True, slots=True)
class Ending:
    """An end as it is observed (`end`), and what the twin makes of it: the way it ended, and the error's code."""

    end: End
    way: Literal["success", "error", "cancelled", "released", "lost"]
    code: str | None = None


ENDINGS = {
    "success": Ending(End(exit_code=0), "success"),
    "exit_code": Ending(End(exit_code=3), "error", "exit_code"),
    "signal": Ending(End(signal=9), "error", "signal"),
    "walltime": Ending(End(signal=15, ended_by="walltime"), "error", "timeout"),
    "not_found": Ending(End(error=JobError("not_found", "no such program")), "error", "not_found"),
    "cancelled": Ending(End(signal=15, ended_by="cancel"), "cancelled", "cancelled"),
    "released": Ending(End(), "released"),
    "never_started": Ending(End(error=JobError(NEVER_STARTED, "its keeper died")), "released"),
    "lost": Ending(End(error=JobError("lost", "nobody knows"), lost=True), "lost", "lost"),
}
_ASSUMED_DEAD = Ending(
    End(error=JobError("assumed_dead", "a user's word"), lost=True), "lost", "assumed_dead"
)


@dataclass(frozen=True, slots=True)
class Fact:
    """An event, as far as it can be foreseen."""

    kind: str
    job_id: str | None
    v: int
    status: str | None = None
    attempt: int | None = None
    error: str | None = None


@dataclass(slots=True)
class AttemptState:
    """One attempt. The token is learned from the store and stays from then on."""

    dispatcher: str
    token: str = ""
    lease: int = 1
    counted: bool = True
    has_started: bool = False
    is_unreachable: bool = False
    outcome: str | None = None
    exit_code: int | None = None
    error: str | None = None


@dataclass(slots=True)
class JobState:
    """One job with its attempts (number n at n - 1) and conditions (by parent: when, and whether it was met)."""

    job_id: str
    status: Status
    queue: str
    priority: int
    draft: bool
    due: int | None
    deps_left: int
    conditions: dict[str, tuple[When, bool | None]]
    v: int = 1
    is_held: bool = False
    is_cancel_wished: bool = False
    is_pause_wished: bool = False
    counted: int = 0
    has_started: bool = False
    exit_code: int | None = None
    error: str | None = None
    attempts: list[AttemptState] = field(default_factory=list)
    # Not compared: the store's key, and what was asked for.
    key: int = field(default=0, compare=False)
    asked: NewJob | None = field(default=None, compare=False)

    @property
    def has_ended(self) -> bool:
        return self.status in _ENDED

    @property
    def is_live(self) -> bool:
        return self.status in _LIVE


@dataclass(slots=True)
class QueueState:
    """One queue; counts of zero are left out."""

    paused: bool = False
    max_running: int | None = None
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Submission:
    """A new job, and when it is due in ticks."""

    job: NewJob
    due: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the end of an attempt means; the store's Outcome, as far as it is compared."""

    status: Status
    outcome: str
    error: str | None
    counted: bool
    due: int | None = None


class Twin:
    """Every verb of the store, one after the other. A verb that raises has changed nothing."""

    def __init__(self, queues: Iterable[str]) -> None:
        self.now = 0
        self.jobs: dict[str, JobState] = {}
        self.settings = {name: QueueState() for name in queues}
        self.facts: list[Fact] = []
        self._last_key = 0

    def copy(self) -> Twin:
        """Another one that goes its own way from here."""
        other = Twin(())
        other.now = self.now
        other.jobs = {
            name: replace(
                job, conditions=dict(job.conditions), attempts=[replace(attempt) for attempt in job.attempts]
            )
            for name, job in self.jobs.items()
        }
        other.settings = dict(self.settings)
        other.facts = list(self.facts)
        other._last_key = self._last_key
        return other

    def become(self, other: Twin) -> None:
        """Be where another one is."""
        self.now, self.jobs, self.settings, self.facts = other.now, other.jobs, other.settings, other.facts
        self._last_key = other._last_key

    @property
    def queues(self) -> dict[str, QueueState]:
        """The queues with their counts, made by counting."""
        found = {name: QueueState(queue.paused, queue.max_running) for name, queue in self.settings.items()}
        for job in self.jobs.values():
            counts = found[job.queue].counts
            tally = Tally.LIVE.value if job.is_live else job.status.value
            counts[tally] = counts.get(tally, 0) + 1
        return found

    def learn(self, keys: dict[str, int], tokens: dict[tuple[str, int], str]) -> None:
        """Take over what only the store can choose: keys of new jobs, tokens of new attempts."""
        for job_id, key in keys.items():
            if job_id in self.jobs:
                self.jobs[job_id].key = key
                self._last_key = max(self._last_key, key)
        for (job_id, number), token in tokens.items():
            job = self.jobs.get(job_id)
            if job is not None and number <= len(job.attempts) and not job.attempts[number - 1].token:
                job.attempts[number - 1].token = token

    def live(self) -> list[tuple[JobState, AttemptState]]:
        """All live attempts with their jobs."""
        return [(job, job.attempts[-1]) for job in self.jobs.values() if job.is_live]

    # Waiting and ended jobs

    def insert(self, bulk: Sequence[Submission]) -> list[tuple[str, Status]]:
        names = [new.job.job_id for new in bulk]
        for name in names:
            if name in self.jobs:
                raise JobExists(name)
        for new in bulk:
            for dependency in new.job.spec.depends_on:
                if dependency.job_id not in self.jobs and dependency.job_id not in names:
                    raise InvalidRequest("depends_on", "no such job")
        for new in bulk:
            self._insert(new)
        parents = {dependency.job_id for new in bulk for dependency in new.job.spec.depends_on}
        self._settle([name for name in parents if self.jobs[name].has_ended], only=names)
        return [(name, self.jobs[name].status) for name in names]

    def _insert(self, new: Submission) -> None:
        self._last_key += 1
        job = JobState(
            job_id=new.job.job_id,
            status=Status.PENDING,
            queue=new.job.queue,
            priority=new.job.priority,
            draft=new.job.draft,
            due=None if new.due is None else self.now + new.due,
            deps_left=len(new.job.spec.depends_on),
            conditions={dependency.job_id: (dependency.when, None) for dependency in new.job.spec.depends_on},
            key=self._last_key,
            asked=new.job,
        )
        job.status = self._waiting_status(job)
        self.jobs[job.job_id] = job
        self._tell("submitted", job)

    def cancel(self, job_id: str) -> None:
        job = self._find(job_id)
        if job.status in _WAITING:
            self._end_unclaimed(job, "cancelled")
        elif job.is_live and not job.is_cancel_wished:
            job.is_cancel_wished = True
            self._change("cancel_requested", job)

    def pause(self, job_id: str) -> None:
        job = self._find(job_id)
        self._allow(job, job.is_live)
        if not job.is_pause_wished:
            job.is_pause_wished = True
            self._change("pause_requested", job)

    def resume(self, job_id: str) -> None:
        job = self._find(job_id)
        if job.is_pause_wished:
            job.is_pause_wished = False
            self._change("resume_requested", job)

    def retry(self, job_id: str) -> None:
        job = self._find(job_id)
        self._allow(job, job.has_ended)
        self._refuse_hopeless(job)
        for parent, (when, _) in job.conditions.items():
            has_met = self.jobs[parent].has_ended  # as is required, or it was refused
            job.conditions[parent] = when, has_met or None
        job.deps_left = sum(met is None for _, met in job.conditions.values())
        job.draft = job.is_held = job.is_cancel_wished = job.has_started = False
        job.due = job.exit_code = job.error = None
        job.counted = 0
        self._requeue("retrying", job)

    def _refuse_hopeless(self, job: JobState) -> None:
        """Raise if the job requires another end of one that has ended, be it deleted since."""
        if job.deps_left > sum(met is not True for _, met in job.conditions.values()):
            raise IllegalTransition(job.job_id, job.status, "retried: what it requires was deleted")
        failed = [
            parent.job_id
            for parent in self._ordered()
            if parent.job_id in job.conditions
            and parent.has_ended
            and not _meets(parent.status, job.conditions[parent.job_id][0])
        ]
        if failed:
            raise IllegalTransition(
                job.job_id, job.status, f"retried because of {', '.join(map(repr, failed))}"
            )

    def hold(self, job_id: str) -> None:
        job = self._find(job_id)
        self._allow(job, job.status in _WAITING)
        if not job.is_held:
            job.is_held = True
            job.status = Status.PENDING
            self._change("held", job)

    def release(self, job_id: str) -> None:
        job = self._find(job_id)
        self._allow(job, job.is_held or not job.draft or job.status is not Status.PENDING)
        if job.is_held and job.status is Status.PENDING:
            job.is_held = False
            self._requeue("unheld", job)

    def execute(self, job_id: str) -> None:
        job = self._find(job_id)
        self._allow(job, job.draft and job.status is Status.PENDING)
        job.draft = False
        self._requeue("queued", job)

    def prioritise(self, job_id: str, priority: int) -> None:
        job = self._find(job_id)
        self._allow(job, not job.has_ended)
        job.priority = priority
        self._change("changed", job)

    def delete(self, job_id: str) -> None:
        job = self._find(job_id)
        self._allow(job, job.has_ended)
        del self.jobs[job_id]
        for child in self.jobs.values():
            when, met = child.conditions.pop(job_id, (When.ANY, True))
            # What was never met stays counted.
            child.deps_left -= met is False and _meets(job.status, when)
        self._change("deleted", job)

    def promote_due(self) -> int:
        due = [
            job
            for job in self._ordered()
            if job.status is Status.PENDING
            and job.due is not None
            and self._waiting_status(job) is Status.QUEUED
        ]
        for job in due:
            self._requeue("queued", job)
        return len(due)

    def change_queue(self, name: str, *, paused: bool, max_running: int | None) -> tuple[bool, int | None]:
        self.settings[name] = QueueState(paused, max_running)
        self.facts.append(Fact("queue_updated", None, 0))
        return paused, max_running

    # Claims

    def claim(
        self, dispatcher: str, slots: int, cpus: int, took: Sequence[str] | None = None
    ) -> list[tuple[str, int]]:
        """The claimed jobs and their attempt numbers, best first.

        `took` is what was taken while somebody else wrote, who may have kept some jobs from being seen: then
        only whether it was allowed is judged.
        """
        if took is None:
            took = [job.job_id for job in self._best(slots, cpus)]
        else:
            self._judge_claim(took, slots, cpus)
        return [self._claim(self.jobs[name], dispatcher) for name in took]

    def _quotas(self) -> dict[str, int]:
        """How many more jobs of each open queue may be live."""
        return {
            name: 1000 if queue.max_running is None else queue.max_running - queue.counts.get("live", 0)
            for name, queue in self.queues.items()
            if not queue.paused
        }

    def _best(self, slots: int, cpus: int) -> list[JobState]:
        quotas = self._quotas()
        queued = sorted(self._queued(cpus), key=lambda job: (-job.priority, job.key))
        # Of each queue twice as many jobs are looked at as may be taken.
        seen: list[JobState] = []
        for name, quota in quotas.items():
            seen += [job for job in queued if job.queue == name][: max(0, 2 * min(slots, quota))]
        taken: list[JobState] = []
        for job in queued:
            if job in seen and len(taken) < slots and quotas[job.queue] > 0 and _cpus(job) <= cpus:
                taken.append(job)
                quotas[job.queue] -= 1
                cpus -= _cpus(job)
        return taken

    def _queued(self, cpus: int) -> list[JobState]:
        return [job for job in self.jobs.values() if job.status is Status.QUEUED and _cpus(job) <= cpus]

    def _judge_claim(self, took: Sequence[str], slots: int, cpus: int) -> None:
        quotas = self._quotas()
        jobs = [self.jobs[name] for name in took if name in self.jobs]
        assert len(jobs) == len(took), "a job was claimed that does not exist"
        assert all(job.status is Status.QUEUED for job in jobs), "a job was claimed that was not queued"
        assert len(jobs) <= slots, "more was claimed than there are slots"
        assert sum(map(_cpus, jobs)) <= cpus, "more was claimed than there are cpus"
        for name in {job.queue for job in jobs}:
            of_queue = [job for job in jobs if job.queue == name]
            assert name in quotas, "a job of a paused queue was claimed"
            assert len(of_queue) <= quotas[name], "the limit of a queue was overshot"
        assert jobs == sorted(jobs, key=lambda job: (-job.priority, job.key)), "not the best first"

    def _claim(self, job: JobState, dispatcher: str) -> tuple[str, int]:
        job.status = Status.CLAIMED
        job.counted += 1
        job.attempts.append(AttemptState(dispatcher))
        self._change("claimed", job, attempt=len(job.attempts))
        return job.job_id, len(job.attempts)

    # Live attempts

    def may_write(self, key: Key) -> JobState | None:
        """The job that the holder of `key` may write about: token, number and lease of its live attempt."""
        for job, attempt in self.live():
            if key == Key(job.key, len(job.attempts), attempt.token, attempt.lease):
                return job
        return None

    def start(self, key: Key) -> bool:
        job = self.may_write(key)
        if job is not None:
            self._reach(job)
            if job.status is Status.CLAIMED:
                self._start(job)
        return job is not None

    def _start(self, job: JobState) -> None:
        job.status = Status.RUNNING
        job.has_started = job.attempts[-1].has_started = True
        self._change("started", job, attempt=len(job.attempts))

    def turn(self, key: Key, *, is_paused: bool) -> bool:
        job = self.may_write(key)
        status = Status.PAUSED if is_paused else Status.RUNNING
        if job is not None and job.status in (Status.RUNNING, Status.PAUSED) and job.status is not status:
            job.status = status
            self._change("paused" if is_paused else "resumed", job, attempt=len(job.attempts))
        return job is not None

    def finish(self, key: Key, ending: Ending, *, tells_start: bool) -> Verdict | None:
        job = self.may_write(key)
        if job is None:
            return None
        if tells_start and job.status is Status.CLAIMED:
            self._start(job)
        return self._finish(job, ending, self._judge_end(job, ending), tells_start=tells_start)

    def _finish(
        self, job: JobState, ending: Ending, verdict: Verdict, *, tells_start: bool = False
    ) -> Verdict:
        attempt = job.attempts[-1]
        attempt.outcome, attempt.error, attempt.counted = verdict.outcome, verdict.error, verdict.counted
        attempt.exit_code = ending.end.exit_code
        attempt.has_started |= tells_start
        job.status, job.error, job.due = verdict.status, verdict.error, verdict.due
        job.exit_code = ending.end.exit_code
        job.has_started = attempt.has_started
        if not verdict.counted:
            job.counted -= 1
        if job.has_ended:
            job.is_pause_wished = False
        kind = {Status.PENDING: "retrying", Status.QUEUED: "released"}.get(job.status, job.status.value)
        self._change(kind, job, attempt=len(job.attempts), error=verdict.error)
        if job.has_ended:
            self._settle([job.job_id])
        return verdict

    def _judge_end(self, job: JobState, ending: Ending) -> Verdict:
        if ending.way == "released":
            if job.is_cancel_wished:
                return Verdict(Status.CANCELLED, "released", "cancelled", counted=False)
            return Verdict(Status.QUEUED, "released", None, counted=False)
        if ending.way == "success":
            return Verdict(Status.COMPLETED, "completed", None, counted=True)
        if ending.way == "cancelled":
            return Verdict(Status.CANCELLED, "cancelled", "cancelled", counted=True)
        word = "lost" if ending.way == "lost" else "failed"
        if self._is_worth_another(job, ending):
            return Verdict(Status.PENDING, word, ending.code, counted=True, due=self.now + _backoff(job))
        return Verdict(Status.FAILED, word, ending.code, counted=True)

    def _is_worth_another(self, job: JobState, ending: Ending) -> bool:
        assert job.asked is not None
        spec = job.asked.spec
        if job.is_cancel_wished or job.counted >= spec.retry.max_attempts:
            return False
        if ending.way == "lost":
            return spec.on_lost is OnLost.RETRY
        return not spec.retry.on or ending.code in spec.retry.on

    def adopt(self, owner: str, formers: Sequence[str]) -> list[str]:
        """The jobs whose live attempts have another owner now; whoever had them may not write any more."""
        return self._raise_leases(
            [(job, attempt) for job, attempt in self.live() if attempt.dispatcher in formers], owner
        )

    def reclaim(self, owner: str, tokens: Sequence[str]) -> list[str]:
        """Those of these attempts that are the owner's."""
        own = [(job, attempt) for job, attempt in self.live() if attempt.dispatcher == owner]
        return self._raise_leases([one for one in own if one[1].token in tokens], owner)

    def _raise_leases(self, found: list[tuple[JobState, AttemptState]], owner: str) -> list[str]:
        for _, attempt in found:
            attempt.lease += 1
            attempt.dispatcher = owner
        return sorted(job.job_id for job, _ in found)

    def unreachable(self, key: Key) -> bool:
        job = self.may_write(key)
        if job is not None:
            self._lose_sight(job)
        return job is not None

    def unattended(self, dispatcher: str) -> None:
        for job in self._ordered():
            if job.is_live and job.attempts[-1].dispatcher == dispatcher:
                self._lose_sight(job)

    def reachable(self, key: Key) -> bool:
        job = self.may_write(key)
        if job is not None:
            self._reach(job)
        return job is not None

    def assume_dead(self, job_id: str) -> None:
        job = self._find(job_id)
        self._allow(job, job.is_live and job.attempts[-1].is_unreachable)
        self._refuse_hopeless(job)
        # Who asked is on record, but this changes nothing yet.
        self._tell("assumed_dead", job, attempt=len(job.attempts))
        self._finish(job, _ASSUMED_DEAD, Verdict(Status.FAILED, "lost", "assumed_dead", counted=True))
        self.retry(job_id)

    def _lose_sight(self, job: JobState) -> None:
        if not job.attempts[-1].is_unreachable:
            job.attempts[-1].is_unreachable = True
            self._change("unreachable", job, attempt=len(job.attempts))

    def _reach(self, job: JobState) -> None:
        if job.attempts[-1].is_unreachable:
            job.attempts[-1].is_unreachable = False
            self._change("reachable", job, attempt=len(job.attempts))

    # What several verbs do

    def _find(self, job_id: str) -> JobState:
        if job_id not in self.jobs:
            raise JobNotFound(job_id)
        return self.jobs[job_id]

    def _allow(self, job: JobState, condition: bool) -> None:
        if not condition:
            raise IllegalTransition(job.job_id, job.status, "asked")

    def _ordered(self) -> list[JobState]:
        return sorted(self.jobs.values(), key=lambda job: job.key)

    def _waiting_status(self, job: JobState) -> Status:
        is_due = job.due is None or job.due <= self.now
        is_free = is_due and not job.draft and not job.is_held and job.deps_left == 0
        return Status.QUEUED if is_free else Status.PENDING

    def _requeue(self, kind: str, job: JobState) -> None:
        job.status = self._waiting_status(job)
        self._change(kind, job)

    def _change(self, kind: str, job: JobState, attempt: int | None = None, error: str | None = None) -> None:
        """One visible change: one version, one fact."""
        job.v += 1
        self._tell(kind, job, attempt, error)

    def _tell(self, kind: str, job: JobState, attempt: int | None = None, error: str | None = None) -> None:
        self.facts.append(Fact(kind, job.job_id, job.v, job.status.value, attempt, error))

    def _end_unclaimed(self, job: JobState, code: str) -> None:
        job.status, job.error = Status.CANCELLED, code
        job.is_pause_wished = False
        self._change("cancelled", job, error=code)
        self._settle([job.job_id])

    def _end_dependant(self, job: JobState) -> None:
        job.status, job.error = Status.CANCELLED, "dependency_failed"
        self._change("cancelled", job, error="dependency_failed")

    def _settle(self, ended: Sequence[str], only: Sequence[str] | None = None) -> None:
        """Settle open conditions on these ended jobs (of `only` these children), and what follows from that."""
        while ended:
            fulfilled: list[JobState] = []
            failed: list[JobState] = []
            for child in self._ordered():
                if only is not None and child.job_id not in only:
                    continue
                for parent in ended:
                    when, met = child.conditions.get(parent, (When.ANY, True))
                    if met is None:
                        is_met = _meets(self.jobs[parent].status, when)
                        child.conditions[parent] = when, is_met
                        child.deps_left -= is_met
                        (fulfilled if is_met else failed).append(child)
            for child in _once(fulfilled):
                if child.status is Status.PENDING and self._waiting_status(child) is Status.QUEUED:
                    self._requeue("queued", child)
            failed = [child for child in _once(failed) if child.status is Status.PENDING]
            for child in failed:
                self._end_dependant(child)
            ended, only = [child.job_id for child in failed], None


def _meets(status: Status, when: When) -> bool:
    return when is When.ANY or (when is When.SUCCESS) == (status is Status.COMPLETED)


def _cpus(job: JobState) -> int:
    assert job.asked is not None
    return job.asked.spec.resources.cpus or 0


def _backoff(job: JobState) -> int:
    assert job.asked is not None
    first = int(job.asked.spec.retry.backoff_s) // TICK_S
    return min(first << (job.counted - 1), _LONGEST_BACKOFF)


def _once(jobs: Iterable[JobState]) -> list[JobState]:
    return list({job.job_id: job for job in jobs}.values())

"""Why a job is where it is, in sentences, best reason first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from jobmgr.domain.job import Job, When
from jobmgr.domain.queue import Queue, Tally
from jobmgr.domain.resources import counted
from jobmgr.domain.site import LOCAL
from jobmgr.domain.status import UNSTARTED, Status

# Of waiting that ends by itself: others go before, or a time comes.
_ORDINARY = frozenset(
    {"slots", "order", "resources", "dependency", "not_due", "due", "next", "claimed", "scheduled", "running"}
)


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: a stable code and a sentence; of a job that waits elsewhere, when it is expected to start there."""

    code: str
    message: str
    expected_start: datetime | None = None

    @property
    def is_ordinary(self) -> bool:
        """Whether nobody has to do anything about it, nor anything to change but that others end."""
        return self.code in _ORDINARY


@dataclass(frozen=True, slots=True)
class Parent:
    """A dependency that is not met yet: what is waited for, and the parent and where it is.

    Of a parent that whoever asks may not see, neither is told.
    """

    when: When
    job_id: str | None = None
    status: Status | None = None

    @property
    def name(self) -> str:
        """What it is called to whoever asks."""
        return (
            "a job that is not yours to see" if self.job_id is None else f"job {self.job_id} ({self.status})"
        )


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the explanation looks at besides the job.

    `slots` are those of this service, or of the foreign queue that the job is for; `closed` says what stops all starts
    there now. `said_there` is why the foreign queue lets it wait, or suspended it, in that one's words, and
    `expected_start` when it expects to start it. If that queue was not told of a hold, of a pause, of their ends, or of
    the priority, `untold_hold`, `untold_pause` and `untold_priority` are what it said to that, if anything.
    """

    queue: Queue
    unmet: Sequence[Parent]
    ahead: int
    slots: int
    slots_used: int
    closed: Sequence[str]
    asks_too_much: Sequence[str]
    waits_for_room: Sequence[str]
    unreachable_at: datetime | None = None
    unreachable_why: str = ""
    is_draining: bool = False
    said_there: str = ""
    expected_start: datetime | None = None
    untold_hold: str | None = None
    untold_priority: str | None = None
    untold_pause: str | None = None


def explain(job: Job, around: Surroundings, now: datetime) -> list[Reason]:
    """Why `job` is not running, or what it does; never empty."""
    if job.status is Status.PENDING:
        return _why_pending(job, around, now)
    if job.status is Status.QUEUED:
        return _why_queued(job, around)
    if job.status.is_terminal:
        cause = f": {job.error.message}" if job.error else ""
        return [Reason(job.status.value, f"it ended as {job.status}{cause}")]
    first = _why_unreachable(job, around) or [_why_live(job, around, now)]
    return [*first, *_pause_to_come(job), *_untold(job, around)]


def _why_unreachable(job: Job, around: Surroundings) -> list[Reason]:
    if around.unreachable_at is None:
        return []
    since = f"{around.unreachable_at:%Y-%m-%d %H:%M:%S} UTC"
    advice = "if you know that it is dead, `retry --assume-dead` runs the job again"
    why = f": {around.unreachable_why}" if around.unreachable_why else ""
    reasons = [Reason("unreachable", f"attempt {job.attempt} cannot be reached since {since}{why}; {advice}")]
    if job.cancel_requested_at is not None:
        reasons.append(Reason("cancelling", "its cancellation was requested; it is ended when it is reached"))
    return reasons


def _why_live(job: Job, around: Surroundings, now: datetime) -> Reason:
    if job.cancel_requested_at is not None:
        why = f"; {job.site} says: {around.said_there}" if around.said_there else ""
        what = "it is being taken back" if job.status in UNSTARTED else "its processes are being ended"
        return Reason("cancelling", f"its cancellation was requested; {what}{why}")
    if job.status is Status.PAUSED:
        return _why_paused(job, around)
    if job.pause_requested_at is not None and job.status not in UNSTARTED:
        return _why_pausing(job, around)
    if job.status is Status.SCHEDULED:
        why = f": {around.said_there}" if around.said_there else ""
        if job.held_at is not None and around.untold_hold is None:
            since = f"{job.held_at:%Y-%m-%d %H:%M:%S} UTC"
            what = f"attempt {job.attempt} is held at {job.site} as {job.handle} since {since}"
            return Reason("held", f"{what}; `release` lets it go{why}")
        # An estimate that has passed says nothing any more.
        at = around.expected_start if around.expected_start and around.expected_start > now else None
        when = f"; it is expected to start at {at:%Y-%m-%d %H:%M:%S} UTC" if at else ""
        return Reason(
            "scheduled", f"attempt {job.attempt} waits at {job.site} as {job.handle}{why}{when}", at
        )
    if job.status is Status.CLAIMED and around.said_there:
        return Reason(
            "claimed", f"attempt {job.attempt} is to be handed in at {job.site}: {around.said_there}"
        )
    why = f"; {around.said_there}" if around.said_there else ""
    return Reason(job.status.value, f"attempt {job.attempt} is {job.status}{why}")


def _why_pausing(job: Job, around: Surroundings) -> Reason:
    if job.site == LOCAL:
        what = "its processes are being stopped"
    elif around.untold_pause is not None:
        what = f"{job.site} is to stop its processes"
    else:
        what = f"{job.site} was told, and has not stopped its processes, as far as was seen"
    why = f"; {around.said_there}" if around.said_there else ""
    return Reason("pausing", f"its pause was requested; {what}{why}")


def _why_paused(job: Job, around: Surroundings) -> Reason:
    if job.pause_requested_at is None and job.site != LOCAL:
        why = f": {around.said_there}" if around.said_there else ""
        what = f"{job.site} has suspended attempt {job.attempt} ({job.handle}){why}"
        return Reason("paused", f"{what}; it goes on when {job.site} says so, and `resume` asks for that")
    return Reason("paused", f"attempt {job.attempt} is paused; `resume` lets it go on")


def _pause_to_come(job: Job) -> list[Reason]:
    if job.pause_requested_at is None or job.cancel_requested_at is not None or job.status not in UNSTARTED:
        return []
    what = "it is stopped once it has started; `hold` keeps it from starting"
    return [Reason("pausing", f"its pause was requested; {what}")]


def _untold(job: Job, around: Surroundings) -> list[Reason]:
    """What a foreign queue was not told yet, or did not take."""
    is_waiting = job.status in UNSTARTED
    wishes = (
        ("hold" if job.held_at is not None else "release", around.untold_hold if is_waiting else None),
        (f"priority {job.priority}", around.untold_priority if is_waiting else None),
        (
            "pause" if job.pause_requested_at is not None else "resume",
            around.untold_pause if _is_turning(job) else None,
        ),
    )
    reasons = []
    for wish, said in wishes:
        if said:
            reasons.append(Reason("not_taken", f"{job.site} has not taken its {wish}: {said}"))
        elif said is not None and job.held_at is not None and wish != "hold":
            reasons.append(Reason("not_told", f"{job.site} is told of its {wish} when it is released"))
        elif said is not None:
            reasons.append(Reason("not_told", f"{job.site} is about to be told of its {wish}"))
    return reasons


def _is_turning(job: Job) -> bool:
    """Whether a pause, or the end of one, is wished and not seen yet."""
    has_started = job.status not in UNSTARTED
    return has_started and (job.status is Status.PAUSED) == (job.pause_requested_at is None)


_AWAITED = {When.SUCCESS: "success", When.FAILURE: "failure", When.ANY: "end"}


def _why_pending(job: Job, around: Surroundings, now: datetime) -> list[Reason]:
    reasons = []
    if job.draft:
        reasons.append(Reason("draft", "it is a draft; `execute` queues it"))
    if job.held_at is not None:
        reasons.append(
            Reason("held", f"it is held since {job.held_at:%Y-%m-%d %H:%M:%S} UTC; `release` lets it go")
        )
    if job.due_at is not None and job.due_at > now:
        what = "retry" if job.attempt else "start"
        reasons.append(Reason("not_due", f"its {what} is due at {job.due_at:%Y-%m-%d %H:%M:%S} UTC"))
    reasons += [
        Reason("dependency", f"it waits for the {_AWAITED[parent.when]} of {parent.name}")
        for parent in around.unmet
    ]
    reasons += [Reason("asks_too_much", text) for text in around.asks_too_much]
    return reasons or [Reason("due", "it is due now and about to be queued")]


def _why_queued(job: Job, around: Surroundings) -> list[Reason]:
    queue = around.queue
    reasons = []
    if around.is_draining:
        reasons.append(Reason("draining", "this service is stopping; the next start of it runs the job"))
    if queue.paused:
        reasons.append(Reason("queue_paused", f"queue {queue.name} is paused"))
    if queue.max_running is not None and queue.counts[Tally.LIVE] >= queue.max_running:
        reasons.append(Reason("queue_limit", f"queue {queue.name} runs its maximum of {queue.max_running}"))
    reasons += [Reason("asks_too_much", text) for text in around.asks_too_much]
    reasons += [Reason("host_limit", text) for text in around.closed]
    if around.slots_used >= around.slots and (around.slots or not around.closed):
        who = "this service" if job.site == LOCAL else f"the site {job.site}"
        reasons.append(Reason("slots", f"{who} has {counted(around.slots, 'slot')}, all in use"))
    reasons += [Reason("resources", text) for text in around.waits_for_room]
    if around.ahead:
        reasons.append(Reason("order", f"before it in its queue: {counted(around.ahead, 'job')}"))
    return reasons or [Reason("next", "it is next and about to start")]

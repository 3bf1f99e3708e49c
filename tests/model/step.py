"""One write to the store: what the store gets, what the twin does, and what is drawn to make it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from hypothesis import strategies as st

from jobmgr.dispatch.admission import choose
from jobmgr.domain.job import Dependency, JobSpec, NewJob, OnLost, When
from jobmgr.domain.outcome import Outcome, Rules, decide
from jobmgr.domain.resources import Resources
from jobmgr.domain.retry import Retry
from jobmgr.store import attempts, claims, jobs, ownership, queues, submissions, waiting
from jobmgr.store.attempts import Finish, Start, Turn
from jobmgr.store.claims import Claim, Claimed
from jobmgr.store.fence import Key
from jobmgr.store.ownership import Adoption
from jobmgr.store.queues import QueueChange
from tests.model.stage import DISPATCHERS, QUEUES
from tests.model.twin import ENDINGS, TICK_S, Ending, Submission, Twin, Verdict
from tests.store.worker import PLENTY

Who = Literal["holder", "former", "forger"]

ANY_INDEX = st.integers(0, 1000)


@dataclass(frozen=True, slots=True)
class Step:
    """One write. `shown` is what of the store's answer the twin can foresee; `then` gets the answer.

    `twin` is handed the store's answer if others wrote at the same time, so that it is one of several.
    """

    batch: Callable[[Any, Sequence[Any]], Sequence[Any]]
    item: Any
    twin: Callable[[Twin, Any], Any]
    shown: Callable[[Any], Any] = lambda answer: answer
    then: Callable[[Any], None] | None = None
    service: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A job to submit. `parents` are picked among all jobs there are."""

    queue: str = "default"
    priority: int = 0
    draft: bool = False
    due: int | None = None
    cpus: int = 0
    parents: tuple[tuple[int, When], ...] = ()
    retry: Retry = field(default_factory=lambda: Retry(2, 0.0))
    on_lost: OnLost = OnLost.FAIL


PLANS = st.builds(
    Plan,
    queue=st.sampled_from(QUEUES),
    priority=st.integers(-1, 1),
    draft=st.sampled_from([False] * 7 + [True]),
    due=st.sampled_from([None] * 5 + [-1, 3, 6]),
    cpus=st.sampled_from([0, 0, 0, 1, 2]),
    parents=st.just(()) | st.lists(st.tuples(ANY_INDEX, st.sampled_from(When)), max_size=2).map(tuple),
    retry=st.builds(
        Retry,
        max_attempts=st.integers(1, 3),
        backoff_s=st.sampled_from([0.0, 3.0 * TICK_S]),
        on=st.sampled_from([frozenset(), frozenset({"exit_code"}), frozenset({"signal", "timeout"})]),
    ),
    on_lost=st.sampled_from(OnLost),
)


def submission(plan: Plan, job_id: str, known: Sequence[str]) -> Submission:
    """The job of a plan, with parents among the `known` ones."""
    parents = {known[index % len(known)]: when for index, when in plan.parents} if known else {}
    spec = JobSpec(
        command=("/bin/true",),
        resources=Resources(cpus=plan.cpus or None),
        retry=plan.retry,
        on_lost=plan.on_lost,
        depends_on=tuple(Dependency(parent, when) for parent, when in parents.items()),
    )
    due_at = None if plan.due is None else datetime.now(UTC) + timedelta(seconds=plan.due * TICK_S)
    job = NewJob(
        job_id,
        spec,
        queue=plan.queue,
        priority=plan.priority,
        draft=plan.draft,
        due_at=due_at,
    )
    return Submission(job, plan.due)


def insertion(bulk: Sequence[Submission]) -> Step:
    """Store a bulk."""
    return Step(
        submissions.insert,
        [new.job for new in bulk],
        lambda twin, _: twin.insert(bulk),
        lambda answer: [(stored.job_id, stored.status) for stored in answer],
    )


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks of a job: of one where it `fits` best, or of any."""

    verb: str
    index: int
    fits: bool


_VERBS = (
    "cancel", "cancel", "retry", "retry", "pause", "resume", "hold", "release", "execute", "prioritise", "delete",
    "assume_dead",
)  # fmt: skip
REQUESTS = st.builds(
    Request, verb=st.sampled_from(_VERBS), index=ANY_INDEX, fits=st.sampled_from([True, True, True, False])
)


def change(request: Request, name: str) -> Step:
    """Do what a user asks of the job of this name."""
    if request.verb == "prioritise":
        priority = request.index % 5 - 2
        wanted = jobs.Change(name, {"priority": priority})
        return Step(jobs.update, wanted, lambda twin, _: twin.prioritise(name, priority), _row)
    if request.verb == "assume_dead":
        return Step(
            ownership.retry_assuming_dead,
            ownership.AssumeDead(name, "user"),
            lambda twin, _: twin.assume_dead(name),
            _row,
        )
    return Step(getattr(jobs, request.verb), name, lambda twin, _: getattr(twin, request.verb)(name), _row)


def _row(_answer: Any) -> None:
    """The job itself, or nothing of a deleted one: its row is compared after each commit anyway."""


def queue_change(name: str, *, paused: bool, max_running: int | None) -> Step:
    """Pause, resume or limit a queue."""
    return Step(
        queues.change,
        QueueChange(name, {"paused": paused, "max_running": max_running}),
        lambda twin, _: twin.change_queue(name, paused=paused, max_running=max_running),
        lambda queue: (queue.paused, queue.max_running),
    )


def promotion() -> Step:
    """Queue what is due."""
    return Step(waiting.promote_due, 100, lambda twin, _: twin.promote_due())


@dataclass(frozen=True, slots=True)
class Wish:
    """A dispatcher's wish to claim."""

    dispatcher: str
    slots: int = 3
    cpus: int = 6
    answer_is_lost: bool = False


WISHES = st.builds(
    Wish,
    dispatcher=st.sampled_from(DISPATCHERS),
    slots=st.integers(1, 3),
    cpus=st.integers(0, 3),
    answer_is_lost=st.sampled_from([False, False, False, True]),
)


def claiming(wish: Wish, then: Callable[[Sequence[Claimed]], None]) -> Step:
    """Claim, with the dispatcher's real choice among candidates."""

    def twin(twin: Twin, answer: Any) -> Any:
        took = None if answer is None else [claimed.job_id for claimed in answer]
        return twin.claim(wish.dispatcher, wish.slots, wish.cpus, took)

    return Step(
        claims.claim,
        Claim(wish.dispatcher, "local", replace(PLENTY, slots=wish.slots, cpus=wish.cpus), choose),
        twin,
        lambda answer: [(claimed.job_id, claimed.number) for claimed in answer],
        None if wish.answer_is_lost else then,
        _service(wish.dispatcher),
    )


@dataclass(frozen=True, slots=True)
class Report:
    """What is written about an attempt, by whom: one of _NEWS, or one of the ENDINGS.

    `wish` is what a user asks of the job a moment before, if anything.
    """

    who: Who
    index: int
    what: str
    tells_start: bool
    wish: str


_NEWS = ("start", "start", "start", "start", "pause", "pause", "resume", "resume", "unreachable", "reachable")


def reports(*who: Who) -> st.SearchStrategy[Report]:
    """Reports by these."""
    return st.builds(
        Report,
        who=st.sampled_from(who),
        index=ANY_INDEX,
        what=st.sampled_from([*_NEWS, *sorted(ENDINGS)]),
        tells_start=st.booleans(),
        wish=st.sampled_from(["", "", "", "", "cancel", "pause"]),
    )


def writing(key: Key, report: Report) -> Step:
    """Write what is reported, with this right to do so."""
    service = report.index % 2
    if report.what == "start":
        start = Start(key, "handle", datetime.now(UTC), "/run")
        return Step(attempts.start, start, lambda twin, _: twin.start(key), service=service)
    if report.what in ("pause", "resume"):
        is_paused = report.what == "pause"
        turn = Turn(key, is_paused)
        return Step(attempts.turn, turn, lambda twin, _: twin.turn(key, is_paused=is_paused), service=service)
    if report.what == "unreachable":
        unreachable = ownership.Unreachable(key, "its files are not there")
        return Step(
            ownership.unreachable, unreachable, lambda twin, _: twin.unreachable(key), service=service
        )
    if report.what == "reachable":
        return Step(ownership.reachable, key, lambda twin, _: twin.reachable(key), service=service)
    ending = ENDINGS[report.what]
    tells_start = report.tells_start and ending.way not in ("released", "lost")
    return Step(
        attempts.finish,
        _finish(key, ending, tells_start=tells_start),
        lambda twin, _: twin.finish(key, ending, tells_start=tells_start),
        _verdict,
        service=service,
    )


def _finish(key: Key, ending: Ending, *, tells_start: bool) -> Finish:
    def by_rules(rules: Rules, at: datetime) -> Outcome:
        return decide(ending.end, rules, (), at, jitter=0.5)

    now = datetime.now(UTC)
    return Finish(
        key=key,
        end=ending.end,
        decide=by_rules,
        started_at=now if tells_start else None,
        finished_at=now,
        work_dir="/run",
        handle="handle" if tells_start else None,
    )


def _verdict(outcome: Outcome | None) -> Verdict | None:
    if outcome is None:
        return None
    error = outcome.error.code if outcome.error else None
    return Verdict(outcome.status, outcome.attempt, error, outcome.counted)


def adoption(owner: str, formers: Sequence[str], then: Callable[[Sequence[Claimed]], None]) -> Step:
    """Take over what others hold."""
    return Step(
        ownership.adopt,
        Adoption(owner, formers),
        lambda twin, _: twin.adopt(owner, formers),
        _names,
        then,
        _service(owner),
    )


def reclaim(owner: str, tokens: Sequence[str], then: Callable[[Sequence[Claimed]], None]) -> Step:
    """Take up rows of one's own that are not in memory."""
    return Step(
        ownership.reclaim,
        (owner, tokens),
        lambda twin, _: twin.reclaim(owner, tokens),
        _names,
        then,
        _service(owner),
    )


def desertion(dispatcher: str) -> Step:
    """Say that nobody looks after what a silent dispatcher holds."""
    return Step(ownership.unattended, dispatcher, lambda twin, _: twin.unattended(dispatcher))


def _names(claimed: Sequence[Claimed]) -> list[str]:
    return sorted(one.job_id for one in claimed)


def _service(dispatcher: str) -> int:
    """Which of the two services a dispatcher belongs to."""
    return DISPATCHERS.index(dispatcher) % 2

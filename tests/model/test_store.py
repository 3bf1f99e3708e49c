"""The store against its twin: random walks of users, dispatchers and crashes, on both databases."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from jobmgr.dispatch.roster import key_of
from jobmgr.domain.status import Status
from jobmgr.errors import JobmgrError
from jobmgr.store import claims, ownership, waiting
from jobmgr.store.claims import Claimed
from jobmgr.store.fence import Key
from tests.model import campaign, comparison, step
from tests.model.law import LAWS
from tests.model.stage import DISPATCHERS, QUEUES, Stage
from tests.model.step import Plan, Report, Request, Step, Wish
from tests.model.twin import JobState, Submission, Twin

logger = logging.getLogger(__name__)

_MOST_TOGETHER = 5
_MOST_WAITING = 3


class StoreMachine(RuleBasedStateMachine):
    """Users, and three dispatchers of two services. What is drawn never depends on what the store answered."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        stage.empty()
        self.twin = Twin(QUEUES)
        self.names: list[str] = []
        self.bulks: list[Sequence[Submission]] = []
        self.keys: list[Key] = []
        self.memory: dict[str, set[str]] = {name: set() for name in DISPATCHERS}
        self.before = self.seen = stage.look()
        self.together: list[Step] | None = None

    @initialize(plans=st.lists(step.PLANS, min_size=2, max_size=4), limit=st.sampled_from([None, 1, 2]))
    def begin(self, plans: list[Plan], limit: int | None) -> None:
        self._write(step.queue_change("narrow", paused=False, max_running=limit))
        self._submit(plans)

    # Users

    @rule(
        plans=st.lists(step.PLANS, min_size=1, max_size=3),
        repeated=st.sampled_from([None, None, None, 0, 1, 2]),
    )
    def submit(self, plans: list[Plan], repeated: int | None) -> None:
        """Submit a bulk; or, because the answer was lost, once more an old one: refused unless all is deleted."""
        if repeated is None or repeated >= len(self.bulks):
            self._submit(plans)
        else:
            self._write(step.insertion(self.bulks[repeated]))

    def _submit(self, plans: Sequence[Plan]) -> None:
        bulk: list[Submission] = []
        for plan in plans:
            known = [*self._possible_parents(plan.priority), *(new.job.job_id for new in bulk)]
            bulk.append(step.submission(plan, f"j{len(self.names)}", known))
            self.names.append(bulk[-1].job.job_id)
        self.bulks.append(bulk)
        self._write(step.insertion(bulk))

    def _possible_parents(self, kind: int) -> list[str]:
        """Jobs that others wait for already, jobs that are still to end, or all."""
        jobs = self.twin.jobs.values()
        waited_for = {name for job in jobs for name, (_, met) in job.conditions.items() if met is None}
        if kind > 0 and waited_for:
            return sorted(waited_for)
        return [job.job_id for job in jobs if kind < 0 or not job.has_ended]

    @rule(requests=st.lists(step.REQUESTS, min_size=1, max_size=6))
    def ask(self, requests: list[Request]) -> None:
        for request in requests:
            name = self._pick_job(request)
            if name is not None:
                self._write(step.change(request, name))

    @rule(
        name=st.sampled_from(QUEUES),
        paused=st.sampled_from([False, False, False, True]),
        max_running=st.sampled_from([None, None, 1, 2]),
        ticks=st.sampled_from([0, 0, 3, 6]),
    )
    def change_queue(self, name: str, paused: bool, max_running: int | None, ticks: int) -> None:
        """A queue is changed; meanwhile time passes, and jobs become due."""
        self._write(step.queue_change(name, paused=paused, max_running=max_running))
        if ticks:
            self._settle()
            self.stage.pass_time(ticks)
            self.twin.now += ticks
            self._look()
        self._write(step.promotion())

    # Dispatchers

    @rule(plans=st.lists(step.PLANS, max_size=3), wishes=st.lists(step.WISHES, min_size=1, max_size=2))
    def claim(self, plans: list[Plan], wishes: list[Wish]) -> None:
        """One dispatcher claims, or two in one commit; most of the time there is something new."""
        if plans:
            self._submit(plans)
        with self._one_commit():
            for wish in wishes:
                self._claim(wish)

    def _claim(self, wish: Wish) -> None:
        self._write(step.claiming(wish, partial(self._remember, wish.dispatcher)))

    def _remember(self, dispatcher: str, claimed: Sequence[Claimed]) -> None:
        for one in claimed:
            self.keys.append(key_of(one))
            self.memory[dispatcher].add(one.token)

    @rule(reports=st.lists(step.reports("holder"), min_size=1, max_size=6), is_batch=st.booleans())
    def report(self, reports: list[Report], is_batch: bool) -> None:
        """Holders of attempts write; if there is none, somebody claims first."""
        if not self.twin.live():
            self._make_live(reports[0].index)
        if is_batch:
            with self._one_commit():
                self._report(reports)
        else:
            self._report(reports)

    @rule(reports=st.lists(step.reports("former", "former", "forger", "holder"), min_size=1, max_size=4))
    def report_late(self, reports: list[Report]) -> None:
        """Somebody writes again, or who was adopted from does, or a forger."""
        owners = [attempt.dispatcher for _, attempt in self.twin.live()]
        if owners:
            # So that there is somebody to be late.
            index = reports[0].index
            owner = DISPATCHERS[index % len(DISPATCHERS)]
            former = owners[index % len(owners)]
            self._write(step.adoption(owner, [former], partial(self._remember, owner)))
        self._report(reports)

    def _report(self, reports: Sequence[Report]) -> None:
        for report in reports:
            key = self._pick_key(report)
            if key is None:
                continue
            job = self.twin.may_write(key)
            if job is not None and report.wish:
                self._write(step.change(Request(report.wish, 0, fits=True), job.job_id))
            if not self._contradicts(key, report):
                self._write(step.writing(key, report))

    def _make_live(self, index: int) -> None:
        self._settle()
        if not any(job.status is Status.QUEUED for job in self.twin.jobs.values()):
            self._submit([Plan()])
        self._claim(Wish(DISPATCHERS[index % len(DISPATCHERS)], slots=1))
        self._settle()

    def _contradicts(self, key: Key, report: Report) -> bool:
        # A void gate of what was seen running: files of ours were deleted, and nothing is promised.
        job = self.twin.may_write(key)
        return report.what == "released" and job is not None and job.attempts[-1].has_started

    @rule(
        owner=st.sampled_from(DISPATCHERS),
        formers=st.sets(st.sampled_from(DISPATCHERS), min_size=1),
        how=st.sampled_from(["adopt", "adopt", "recover", "late", "crash", "desert"]),
    )
    def take_up(self, owner: str, formers: set[str], how: str) -> None:
        """Adopt from others, who may wake up and write at any later step; or find out about one's own rows.

        Those are in the database but not in memory after a lost answer, and all of them after a crash. Or others say
        that nobody looks after them.
        """
        if how == "desert":
            self._write(step.desertion(owner))
            return
        if how == "adopt":
            self._write(step.adoption(owner, sorted(formers - {owner}), partial(self._remember, owner)))
            return
        self._settle()
        if how == "crash":
            self.memory[owner].clear()
        own = self.stage.run(self.stage.databases[0].read(ownership.of_dispatcher, owner))
        # It may be late with that: what it has in memory may be others' by now.
        tokens = self.memory[owner] if how == "late" else set(own) - self.memory[owner]
        self._write(step.reclaim(owner, sorted(tokens), partial(self._remember, owner)))

    # Writes that come together

    @rule(limit=st.integers(1, 20))
    def gather(self, limit: int) -> None:
        """The next writes go into one transaction. Who read all events from the beginning missed none of them."""
        self._settle()
        assert self.stage.read_log(limit) == list(self.seen.log)
        self.together = []

    @contextmanager
    def _one_commit(self) -> Iterator[None]:
        """What is written inside shares a commit, at least."""
        is_outer = self.together is None
        if is_outer:
            self.together = []
        yield
        if is_outer:
            self._settle()

    def _write(self, one: Step) -> None:
        if self.together is None:
            self._commit([one])
            return
        self.together.append(one)
        if len(self.together) == _MOST_TOGETHER:
            self._settle()

    def _settle(self) -> None:
        """Write what was to be written together."""
        steps, self.together = self.together, None
        if steps:
            self._commit(steps)

    def _commit(self, steps: Sequence[Step]) -> None:
        answers = self.stage.run(comparison.write_together(self.stage, steps))
        self._look()
        shown = [comparison.shown(one, answer) for one, answer in zip(steps, answers, strict=True)]
        expected = comparison.play_together(self.twin, steps)
        self.twin.learn(self.seen.keys, self.seen.tokens)
        difference = comparison.difference(self.twin, self.seen, expected, shown, is_alone=len(steps) == 1)
        self._judge(difference)
        _tell(steps, answers)

    def _look(self) -> None:
        self.before, self.seen = self.seen, self.stage.look()

    def _judge(self, difference: str) -> None:
        for law in LAWS:
            law(self.before, self.seen)
        assert not difference, difference
        self.twin.facts.clear()

    # What rules are made of

    def _pick_job(self, request: Request) -> str | None:
        names = self.names
        if request.fits:
            weight = _FITTING[request.verb]
            names = [name for name, job in self.twin.jobs.items() for _ in range(weight(job))]
        return names[request.index % len(names)] if names else None

    def _pick_key(self, report: Report) -> Key | None:
        keys = self._keys(report)
        if not keys:
            return None
        key = keys[report.index % len(keys)]
        if report.who == "forger":
            forged = (
                replace(key, token="0" * 32),
                replace(key, lease=key.lease + 1),
                replace(key, lease=key.lease - 1),
                replace(key, number=key.number + 1),
                replace(key, job=key.job + 1),
            )
            key = forged[report.index % len(forged)]
        return key

    def _keys(self, report: Report) -> list[Key]:
        """The keys in question: those that the report suits, if there are any."""
        held = {key: job for key in self.keys if (job := self.twin.may_write(key))}
        if report.who == "former":
            live = {attempt.token for _, attempt in self.twin.live()}
            late = [key for key in self.keys if key not in held]
            return [key for key in late if key.token in live] or late
        suits = _SUITING.get(report.what)
        return [key for key, job in held.items() if suits is None or suits(job)] or list(held)


class RaceMachine(StoreMachine):
    """Like it, but two writes run at the same time, in transactions that wait for each other.

    What both did must be what they do one after the other, in either order; only a claim may also have passed
    over what the other one held.
    """

    def _write(self, one: Step) -> None:
        """Write at once with one of another kind; claims also run into claims.

        A promotion has its turn alone: it leaves to the next one what others hold, and does not say which jobs.
        """
        if one.batch is waiting.promote_due:
            self._commit([one])
            return
        alone = self.together = self.together or []
        for other in alone:
            if other.batch is not one.batch or one.batch is claims.claim:
                alone.remove(other)
                self._race([other, one])
                return
        alone.append(one)
        if len(alone) > _MOST_WAITING:
            self._commit([alone.pop(0)])

    @rule(
        plans=st.lists(step.PLANS, min_size=2, max_size=4),
        wish=step.WISHES,
        rival=step.WISHES | st.sampled_from(["hold", "cancel", "prioritise"]),
        index=step.ANY_INDEX,
    )
    def contend(self, plans: list[Plan], wish: Wish, rival: Wish | str, index: int) -> None:
        """A dispatcher claims while another one does, or while a user changes a queued job."""
        self._submit(plans)
        self._settle()
        queued = [name for name, job in self.twin.jobs.items() if job.status is Status.QUEUED]
        if isinstance(rival, Wish):
            other = step.claiming(rival, partial(self._remember, rival.dispatcher))
        elif queued:
            other = step.change(Request(rival, index, fits=True), queued[index % len(queued)])
        else:
            return
        self._race([other, step.claiming(wish, partial(self._remember, wish.dispatcher))])

    @contextmanager
    def _one_commit(self) -> Iterator[None]:
        yield

    def _settle(self) -> None:
        for one in self.together or []:
            self._commit([one])
        self.together = None

    def _race(self, steps: Sequence[Step]) -> None:
        answers = self.stage.run(comparison.write_at_once(self.stage, steps))
        self._look()
        differences = []
        for order in itertools.permutations(range(len(steps))):
            twin = self.twin.copy()
            ordered, given = [steps[index] for index in order], [answers[index] for index in order]
            expected = comparison.play_in_turn(twin, ordered, given)
            twin.learn(self.seen.keys, self.seen.tokens)
            shown = [comparison.shown(one, answer) for one, answer in zip(ordered, given, strict=True)]
            differences.append(comparison.difference(twin, self.seen, expected, shown, is_alone=False))
            if not differences[-1]:
                self.twin = twin
                break
        difference = "" if "" in differences else "\nor\n".join(differences)
        if difference:
            # A race may not repeat itself, and then the error is not shown.
            logger.error("%s at once: %s", [one.batch.__name__ for one in steps], difference)
        self._judge(difference)
        _tell(steps, answers)


def _tell(steps: Sequence[Step], answers: Sequence[object]) -> None:
    """Let those who wrote remember what they were answered."""
    for one, answer in zip(steps, answers, strict=True):
        if one.then is not None and not isinstance(answer, JobmgrError):
            one.then(answer)


_SUITING: dict[str, Callable[[JobState], bool]] = {
    "start": lambda job: job.status is Status.CLAIMED or job.attempts[-1].is_unreachable,
    "pause": lambda job: job.status is Status.RUNNING,
    "resume": lambda job: job.status is Status.PAUSED,
    "unreachable": lambda job: not job.attempts[-1].is_unreachable,
    "reachable": lambda job: job.attempts[-1].is_unreachable,
}
# How well what a user asks fits a job; those that wait for others are rarer and more interesting.
_FITTING: dict[str, Callable[[JobState], int]] = {
    "cancel": lambda job: job.is_live,
    "pause": lambda job: job.is_live,
    "resume": lambda job: job.is_pause_wished,
    "retry": lambda job: 5 if job.error == "dependency_failed" else job.has_ended,
    "hold": lambda job: 0 if job.has_ended or job.is_live else 1 + 3 * (job.deps_left > 0),
    "release": lambda job: job.is_held,
    "execute": lambda job: job.draft,
    "delete": lambda job: job.has_ended,
    "prioritise": lambda job: not job.has_ended,
    "assume_dead": lambda job: job.is_live and job.attempts[-1].is_unreachable,
}


@pytest.mark.timeout(600)
def test_store_does_what_its_twin_does(stage: Stage) -> None:
    campaign.run_short(partial(StoreMachine, stage), examples=60 if stage.is_sqlite else 25)


@pytest.mark.timeout(600)
def test_writes_at_once_are_writes_one_after_the_other(postgresql_stage: Stage) -> None:
    campaign.run_short(partial(RaceMachine, postgresql_stage), examples=12)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_store_does_what_its_twin_does_for_long(stage: Stage, first_seed: int) -> None:
    campaign.run_long(partial(StoreMachine, stage), first_seed=first_seed)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_writes_at_once_are_writes_one_after_the_other_for_long(
    postgresql_stage: Stage, first_seed: int
) -> None:
    campaign.run_long(partial(RaceMachine, postgresql_stage), first_seed=first_seed)

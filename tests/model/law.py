"""What holds at every moment, whatever was done: each law looks at the database before and after a step."""

from __future__ import annotations

from collections.abc import Callable

from jobmgr.domain.queue import Tally
from jobmgr.domain.status import Status
from tests.model.stage import Seen

Law = Callable[[Seen, Seen], None]

_WAITING = (Status.PENDING, Status.QUEUED)


def live_job_has_one_live_attempt(_before: Seen, seen: Seen) -> None:
    for job in seen.jobs.values():
        live = [number for number, attempt in enumerate(job.attempts, 1) if attempt.outcome is None]
        assert live == ([len(job.attempts)] if job.is_live else []), f"{job.job_id}: live attempts {live}"


def attempts_only_grow(before: Seen, seen: Seen) -> None:
    for name, job in seen.jobs.items():
        old = before.jobs[name].attempts if name in before.jobs else []
        assert seen.rows[name].attempt == len(job.attempts) >= len(old), f"{name}: an attempt is gone"
        for earlier, attempt in zip(old, job.attempts, strict=False):
            assert attempt.token == earlier.token, f"{name}: a token changed"
            assert attempt.lease >= earlier.lease, f"{name}: a lease fell"
            if attempt.dispatcher != earlier.dispatcher:
                assert attempt.lease > earlier.lease, f"{name}: another owner, the same lease"


def recorded_outcome_stands(before: Seen, seen: Seen) -> None:
    for name in before.jobs.keys() & seen.jobs.keys():
        for earlier, attempt in zip(before.jobs[name].attempts, seen.jobs[name].attempts, strict=False):
            assert earlier.outcome is None or attempt == earlier, f"{name}: an ended attempt changed"


def budget_counts_what_ran(_before: Seen, seen: Seen) -> None:
    for name, job in seen.jobs.items():
        # A user's retry begins to count anew, so these are the newest ones.
        counted = [attempt for attempt in job.attempts if attempt.counted]
        assert 0 <= job.counted <= len(counted), f"{name}: {job.counted} of {len(counted)} attempts count"
        assert all(a.counted == (a.outcome != "released") for a in job.attempts), f"{name}: counted wrongly"


def ended_job_has_its_end(_before: Seen, seen: Seen) -> None:
    for name, job in seen.jobs.items():
        assert job.has_ended == (seen.rows[name].finished_at is not None), f"{name}: {job.status}, finished?"


def tallies_equal_counts(_before: Seen, seen: Seen) -> None:
    for name, queue in seen.queues.items():
        counts: dict[str, int] = {}
        for job in seen.jobs.values():
            if job.queue == name:
                tally = Tally.of(job.status).value
                counts[tally] = counts.get(tally, 0) + 1
        assert queue.counts == counts, f"queue {name}: the tallies are {queue.counts}, the counts {counts}"


def every_version_has_its_event(_before: Seen, seen: Seen) -> None:
    told: dict[str, list[int]] = {}
    for event in seen.log:
        if event.kind == "deleted":
            del told[str(event.job_id)]  # Another job may have this id from now on.
        elif event.job_id is not None and event.kind != "assumed_dead":  # Who said so; its effect follows.
            told.setdefault(event.job_id, []).append(event.v)
    for name, job in seen.jobs.items():
        assert told[name] == list(range(1, job.v + 1)), f"{name} is at {job.v}, told were {told[name]}"


def change_raises_the_version(before: Seen, seen: Seen) -> None:
    for name in before.jobs.keys() & seen.jobs.keys():
        old, new = before.rows[name]._asdict(), seen.rows[name]._asdict()
        # What a parent's end counts down is not told before the job is free, and time passes untold.
        changed = {column for column in old if old[column] != new[column]} - {"deps_left", "due_at"}
        assert not changed or "v" in changed, f"{name}: {changed} changed silently"


def queued_job_is_free_to_run(_before: Seen, seen: Seen) -> None:
    for name, job in seen.jobs.items():
        if job.status is Status.QUEUED or job.is_live:
            held_back = job.draft or job.is_held or job.deps_left or (job.due is not None and job.due > 0)
            assert not held_back, f"{name} is {job.status} although something holds it back"


def open_conditions_are_counted(_before: Seen, seen: Seen) -> None:
    for name, job in seen.jobs.items():
        if not job.has_ended:
            left = [parent for parent, (_, met) in job.conditions.items() if met is None]
            assert job.deps_left == len(left), f"{name}: deps_left is {job.deps_left}, open are {left}"
            assert all(met is not False for _, met in job.conditions.values()), f"{name} can never run"


def wish_to_cancel_is_never_forgotten(before: Seen, seen: Seen) -> None:
    for name, job in seen.jobs.items():
        assert not (job.is_cancel_wished and job.status in _WAITING), f"{name} goes on in spite of a wish"
        was = before.jobs.get(name)
        if was is not None and was.is_live and was.is_cancel_wished and not job.has_ended:
            facts = [fact for fact in seen.facts if fact.job_id == name]
            # Only a user's retry, which is of no attempt, takes it back.
            is_retried = any(fact.kind == "retrying" and fact.attempt is None for fact in facts)
            assert job.is_cancel_wished or is_retried, f"{name}: the wish is gone"


LAWS: tuple[Law, ...] = (
    live_job_has_one_live_attempt,
    attempts_only_grow,
    recorded_outcome_stands,
    budget_counts_what_ran,
    ended_job_has_its_end,
    tallies_equal_counts,
    every_version_has_its_event,
    change_raises_the_version,
    queued_job_is_free_to_run,
    open_conditions_are_counted,
    wish_to_cancel_is_never_forgotten,
)

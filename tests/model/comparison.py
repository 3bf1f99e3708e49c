"""Steps played on the store and on its twin, and where the two differ."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from jobmgr.errors import IllegalTransition, JobmgrError
from jobmgr.store import claims
from jobmgr.store.transaction import Transaction
from tests.model.stage import Seen, Stage
from tests.model.step import Step
from tests.model.twin import Twin, Verdict

# Long enough that the other transaction comes as far as it can.
_LINGER_S = 0.004


async def write_together(stage: Stage, steps: Sequence[Step]) -> list[Any]:
    """Write all steps in one commit. Answers, or the errors of those that were refused."""
    database = stage.databases[steps[0].service]
    return _checked(
        await asyncio.gather(
            *(database.write(step.batch, step.item) for step in steps), return_exceptions=True
        )
    )


async def write_at_once(stage: Stage, steps: Sequence[Step]) -> list[Any]:
    """Write two steps through the connections of two services at the same time."""
    return _checked(
        await asyncio.gather(
            *(
                database.write(_lingering(step.batch), step.item)
                for database, step in zip(stage.databases, steps, strict=True)
            ),
            return_exceptions=True,
        )
    )


def _checked(answers: Sequence[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, JobmgrError):
            raise answer
    return list(answers)


def _lingering(batch: Callable[[Transaction, Sequence[Any]], Sequence[Any]]) -> Any:
    """The same, but its transaction stays open for a moment after its statements."""

    def linger(tx: Transaction, items: Sequence[Any]) -> Sequence[Any]:
        answers = batch(tx, items)
        tx.connection.execute(sa.select(sa.func.pg_sleep(_LINGER_S)))
        return answers

    return linger


def play_together(twin: Twin, steps: Sequence[Step]) -> list[Any]:
    """What the twin answers to steps of one commit; if one of them is refused, the two halves are tried alone."""
    answers: list[Any] = [None] * len(steps)
    trial = twin.copy()
    groups: dict[Any, list[int]] = {}
    for index, step in enumerate(steps):
        groups.setdefault(step.batch, []).append(index)
    # Claims come last, into the room that the others make.
    ordered = sorted(groups.items(), key=lambda group: group[0] is claims.claim)
    try:
        for index in itertools.chain.from_iterable(members for _, members in ordered):
            answers[index] = steps[index].twin(trial, None)
    except JobmgrError as error:
        if len(steps) == 1:
            return [refusal(error)]
        middle = len(steps) // 2
        return play_together(twin, steps[:middle]) + play_together(twin, steps[middle:])
    twin.become(trial)
    return answers


def play_in_turn(twin: Twin, steps: Sequence[Step], answers: Sequence[Any]) -> list[Any]:
    """What the twin answers to steps that each have a transaction, given what the store answered."""
    expected: list[Any] = []
    for step, answer in zip(steps, answers, strict=True):
        try:
            expected.append(step.twin(twin, None if isinstance(answer, JobmgrError) else answer))
        except JobmgrError as error:
            expected.append(refusal(error))
        except AssertionError as error:
            expected.append(str(error))
    return expected


def difference(
    twin: Twin, seen: Seen, expected: Sequence[Any], answers: Sequence[Any], *, is_alone: bool
) -> str:
    """Where store and twin differ, in words; empty if nowhere."""
    found = []
    wanted = [replace(answer, due=None) if isinstance(answer, Verdict) else answer for answer in expected]
    if wanted != list(answers):
        found.append(f"answered {list(answers)}, expected {wanted}")
    for name in sorted(twin.jobs.keys() | seen.jobs.keys()):
        job = twin.jobs.get(name)
        if job is not None and job.due is not None:
            job = replace(job, due=job.due - twin.now)
        if job != seen.jobs.get(name):
            found.append(f"stored {seen.jobs.get(name)}\nexpected {job}")
    if twin.queues != seen.queues:
        found.append(f"queues {seen.queues}\nexpected {twin.queues}")
    told, facts = list(seen.facts), list(twin.facts)
    if not is_alone:
        # What happens to different jobs in one commit is told in an order of the store's own.
        told.sort(key=lambda fact: fact.job_id or "")
        facts.sort(key=lambda fact: fact.job_id or "")
    if told != facts:
        found.append(f"told {told}\nexpected {facts}")
    return "\n".join(found)


def shown(step: Step, answer: Any) -> Any:
    """What is compared of an answer."""
    return refusal(answer) if isinstance(answer, JobmgrError) else step.shown(answer)


def refusal(error: JobmgrError) -> tuple[type[JobmgrError], list[str]]:
    """What is compared of a refusal: its kind, and which jobs a transition's refusal names."""
    return type(error), re.findall(r"'(j\d+)'", str(error)) if isinstance(error, IllegalTransition) else []

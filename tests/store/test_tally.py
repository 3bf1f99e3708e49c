"""The tallies of queues equal real counts, whatever is done in whatever order."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import pytest

from jobmgr.domain.job import Dependency, When
from jobmgr.errors import IllegalTransition
from jobmgr.store import jobs, waiting
from jobmgr.store.claims import Claimed
from tests.store.worker import Worker, kept_counts, new_job, now, real_counts

QUEUES = ("default", "second", "third")


class Chaos:
    """Many users and services at once, from a seed."""

    def __init__(self, workers: Sequence[Worker], seed: int) -> None:
        self._random = random.Random(seed)
        self._workers = workers
        self._numbers = itertools.count(1)
        self._names: list[str] = []
        self._held: dict[str, list[Claimed]] = {worker.id: [] for worker in workers}

    async def act(self) -> None:
        worker = self._random.choice(self._workers)
        verbs: list[Callable[[Worker], Awaitable[object]]] = [
            self._submit, self._submit, self._claim, self._finish, self._finish, self._start, self._release,
            self._change, self._promote,
        ]  # fmt: skip
        # Many a random change does not fit the job's state; that is refused and changes nothing.
        with contextlib.suppress(IllegalTransition):
            await self._random.choice(verbs)(worker)

    async def _submit(self, worker: Worker) -> None:
        fresh = [f"j{next(self._numbers)}" for _ in range(self._random.randint(1, 5))]
        parents = self._random.sample(self._names, min(2, len(self._names)))
        draw = self._random.random
        await worker.insert(
            *(
                new_job(
                    name,
                    queue=self._random.choice(QUEUES),
                    priority=self._random.randint(-3, 3),
                    draft=draw() < 0.1,
                    due_at=now() + timedelta(seconds=draw() - 0.5) if draw() < 0.2 else None,
                    max_attempts=self._random.randint(1, 3),
                    backoff_s=0.0,
                    depends_on=tuple(
                        Dependency(parent, self._random.choice(list(When))) for parent in parents
                    )
                    if draw() < 0.4
                    else (),
                )
                for name in fresh
            )
        )
        self._names += fresh

    async def _claim(self, worker: Worker) -> None:
        self._held[worker.id] += await worker.claim(slots=self._random.randint(1, 4))

    def _take(self, worker: Worker) -> Claimed | None:
        held = self._held[worker.id]
        return held.pop(self._random.randrange(len(held))) if held else None

    async def _finish(self, worker: Worker) -> None:
        if (claimed := self._take(worker)) is not None:
            await worker.finish(claimed, self._random.choice([0, 0, 1]))

    async def _release(self, worker: Worker) -> None:
        if (claimed := self._take(worker)) is not None:
            await worker.release(claimed)

    async def _start(self, worker: Worker) -> None:
        if self._held[worker.id]:
            await worker.start(self._random.choice(self._held[worker.id]))

    async def _promote(self, worker: Worker) -> None:
        await worker.database.write(waiting.promote_due, 100)

    async def _change(self, worker: Worker) -> None:
        if self._names:
            verb = self._random.choice([jobs.cancel, jobs.retry, jobs.hold, jobs.release, jobs.execute])
            await worker.database.write(verb, self._random.choice(self._names))


@pytest.mark.parametrize("seed", [1, 2])
async def test_tallies_equal_real_counts_after_anything(worker: Worker, other: Worker, seed: int) -> None:
    for queue in QUEUES[1:]:
        await worker.queue(queue, max_running=6)
    chaos = Chaos([worker, other], seed)

    for _ in range(25):
        await asyncio.gather(*(chaos.act() for _ in range(8)))

    kept = await worker.database.read(kept_counts)
    assert kept == await worker.database.read(real_counts)
    assert sum(kept.values()) > 50


async def test_tallies_after_deletion(worker: Worker) -> None:
    await worker.insert(*(new_job(f"j{number}") for number in range(5)))
    for claimed in await worker.claim(slots=3):
        await worker.finish(claimed)

    await worker.database.write(jobs.delete, "j0")

    kept = await worker.database.read(kept_counts)
    assert kept == await worker.database.read(real_counts)

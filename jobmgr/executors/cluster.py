"""What a cluster tells of itself: a dialect's questions over a transport, asked anew each time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from jobmgr.dialects.answers import plain
from jobmgr.dialects.dialect import (
    Answer,
    Command,
    Dialect,
    Listing,
    Node,
    NotUnderstood,
    Partition,
    Standing,
)
from jobmgr.errors import SiteUnreachable
from jobmgr.executors.scheduler import Scheduler
from jobmgr.transports.transport import Transport

# One answer, and the way to it besides: less than a client waits for ours.
_TIMEOUT_S = 20.0
_PATIENCE_S = 25.0
# A program that only tells its version asks nobody.
_VERSION_TIMEOUT_S = 5.0
_NUMBERS = re.compile(r"\d{1,18}")

T = TypeVar("T")


class Cluster:
    """The machines, partitions and jobs behind one scheduler. Its questions raise SiteUnreachable, NotUnderstood."""

    def __init__(self, scheduler: Scheduler, transport: Transport) -> None:
        self._scheduler = scheduler
        self._transport = transport

    async def version(self, timeout_s: float = _TIMEOUT_S) -> str:
        """Which scheduler it is."""
        dialect = self._scheduler.dialect
        answer = await self._transport.run(dialect.version(), timeout_s)
        version = dialect.read_version(answer)
        if version is None:
            said = plain((answer.stderr or answer.stdout).strip()[:500])
            raise NotUnderstood(f"there is no {dialect.name} that answers: {said or 'nothing was said'}")
        return version

    async def partitions(self) -> tuple[Partition, ...]:
        """Its partitions, in the scheduler's order."""
        return await self._ask(lambda dialect: (dialect.partitions(), dialect.read_partitions))

    async def nodes(self) -> tuple[Node, ...]:
        """Its machines, in the scheduler's order."""
        return await self._ask(lambda dialect: (dialect.nodes(), dialect.read_nodes))

    async def jobs(self) -> Listing:
        """The jobs of all users that have not ended, in the order of their ids (see `place_of`)."""
        return await self._ask(lambda dialect: (dialect.everything(), partial(_read_jobs, dialect)))

    async def _ask(self, question: Callable[[Dialect], tuple[Command, Callable[[Answer], T]]]) -> T:
        """What was answered to a command, by what reads its answer."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                command, read = question(await self._scheduler.fitted())
                answer = await self._transport.run(command, _TIMEOUT_S)
        except TimeoutError as error:
            raise NotUnderstood(f"no answer within {_PATIENCE_S:g} s") from error
        if answer.exit_code is None:
            # The transport knows why: it came too late, or was too much.
            raise NotUnderstood(answer.stderr.strip().rpartition("\n")[2] or "no answer")
        # Reading a hundred thousand jobs takes seconds, in which others want answers.
        return await asyncio.to_thread(read, answer)


def _read_jobs(dialect: Dialect, answer: Answer) -> Listing:
    listing = dialect.read_everything(answer)
    if not listing.complete and not listing.jobs:
        raise NotUnderstood(listing.why)
    return replace(listing, jobs=tuple(sorted(listing.jobs, key=_place)))


def _place(job: Standing) -> tuple[tuple[int, ...], str]:
    return place_of(job.id)


def place_of(id_: str) -> tuple[tuple[int, ...], str]:
    """Where a job stands among others: the numbers of its id count as numbers, so elements follow their arrays."""
    return tuple(map(int, _NUMBERS.findall(id_))), id_


async def installed(dialects: Iterable[Dialect], transport: Transport) -> Mapping[str, str]:
    """What the schedulers' programs answer to the question for their versions, by kind; those that answer it."""
    languages = tuple(dialects)
    versions = await asyncio.gather(
        *(_version(Cluster(Scheduler(dialect, transport), transport)) for dialect in languages)
    )
    return {
        dialect.name: version
        for dialect, version in zip(languages, versions, strict=True)
        if version is not None
    }


async def _version(cluster: Cluster) -> str | None:
    try:
        return await cluster.version(_VERSION_TIMEOUT_S)
    except (NotUnderstood, SiteUnreachable):
        return None

"""Handing attempts in at a scheduler: until it has them, will not have them, or nobody wants them any more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jobmgr.dialects import holder
from jobmgr.dialects.dialect import Busy, Dialect, Doubtful, Listing, Order, Refused, Submitted
from jobmgr.domain.job import JobError
from jobmgr.errors import InvalidRequest, SiteUnreachable
from jobmgr.executors import process
from jobmgr.executors.pace import Pace
from jobmgr.executors.place import Files, NotPlaced, Place, PlacedForOther
from jobmgr.executors.protocol import Launch
from jobmgr.failure import Failure
from jobmgr.transports.transport import Transport

_TIMEOUT_S = 60.0
_AT_ONCE = 4
_LOOKS_IN_DOUBT = 3


@dataclass(frozen=True, slots=True)
class Given:
    """The scheduler has it, under these ids; more than one after a doubt."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The scheduler will not have it."""

    error: JobError


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Nobody wants it any more. Whether the scheduler has it may not be known."""


class Desk:
    """Where a site's attempts are handed in, a few at once."""

    def __init__(
        self,
        site: str,
        dialect: Dialect,
        transport: Transport,
        place: Place,
        job_env: Callable[[], Mapping[str, str]],
        pace: Pace,
    ) -> None:
        self._site = site
        self._dialect = dialect
        self._transport = transport
        self._place = place
        self._job_env = job_env
        self._pace = pace
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def name_of(self, launch: Launch) -> str:
        """The name under which the scheduler knows an attempt."""
        return f"jm-{launch.token}"

    async def hand_in(
        self,
        launch: Launch,
        is_unwanted: Callable[[], bool],
        tell: Callable[[str], None],
        *,
        is_doubtful: bool,
    ) -> Given | Refusal | Withdrawn:
        """Hand one attempt in; `is_doubtful`: it may have been before. Goes on until that is decided.

        `tell` is told why it takes so long.
        """
        pause_s = self._pace.again_first_s
        while not is_unwanted():
            if is_doubtful:
                given = await self._look_up(launch, is_unwanted, tell)
                if given is not None:
                    return given
            async with self._turns:
                answer = None if is_unwanted() else await self._submit(launch)
            match answer:
                case Given() | Refusal():
                    return answer
                case Busy() | Doubtful():
                    is_doubtful = isinstance(answer, Doubtful)
                    tell(f"it was not taken: {answer.words}")
            await asyncio.sleep(pause_s * random.uniform(0.75, 1.25))
            pause_s = min(pause_s * 2, self._pace.again_max_s)
        return Withdrawn()

    async def _submit(self, launch: Launch) -> Given | Refusal | Busy | Doubtful:
        place = f"{launch.job_id}/{launch.number}"
        try:
            order = self._order(launch, place)
            script = self._dialect.script(order)
            command = self._dialect.submit(self._place.script(place), order)
            answer = await self._place.submit(place, launch.token, script, command, _TIMEOUT_S)
        except InvalidRequest as error:
            return _refusal(str(error))
        except PlacedForOther:
            # The watch finds the other token and says what that means.
            return Given(())
        except (NotPlaced, SiteUnreachable) as error:
            return Busy(str(error))
        match self._dialect.submitted(answer):
            case Submitted(id=id_):
                return Given((id_,))
            case Refused(words=words):
                return _refusal(words)
            case Busy() | Doubtful() as open_:
                return open_

    async def listing(self, launch: Launch) -> Listing:
        """What the scheduler has under the name of an attempt."""
        return await self._find(self.name_of(launch))

    async def _look_up(
        self, launch: Launch, is_unwanted: Callable[[], bool], tell: Callable[[str], None]
    ) -> Given | Withdrawn | None:
        """What became of an attempt that may have been handed in; None if it was not, or may be again.

        It may be if the queue was listed several times over some time without it, and nothing of it has passed the
        gate: should it appear after all, one of the two will be refused.
        """
        looks, pause_s = 0, self._pace.in_doubt_s / _LOOKS_IN_DOUBT
        while not is_unwanted():
            async with self._turns:
                files = await self._files(launch, tell)
                if files is not None and _is_decided(launch, files):
                    # The watch knows by the gate whose it is, and says what that means.
                    return Given(())
                if files is not None and (not files.token or looks == _LOOKS_IN_DOUBT):
                    return None
                listing = await self._find(self.name_of(launch))
            if listing.jobs:
                return Given(_ids(listing))
            if listing.has_whole_queue:
                looks += 1
            else:
                tell(f"whether it was handed in cannot be found out now: {listing.why}")
                pause_s = min(pause_s * 2, self._pace.again_max_s)
            await asyncio.sleep(pause_s)
        return Withdrawn()

    async def _files(self, launch: Launch, tell: Callable[[str], None]) -> Files | None:
        place = f"{launch.job_id}/{launch.number}"
        try:
            return (await self._place.look([place]))[place]
        except SiteUnreachable as error:
            tell(f"whether it was handed in cannot be found out now: {error}")
            return None

    async def _find(self, name: str) -> Listing:
        try:
            answers = [await self._transport.run(command, _TIMEOUT_S) for command in self._dialect.find(name)]
        except SiteUnreachable as error:
            return Listing((), complete=False, why=str(error))
        return self._dialect.found(name, answers)

    def _order(self, launch: Launch, place: str) -> Order:
        control, run = self._place.control(place), self._place.run(place)
        resources = launch.resources
        element = holder.Element(
            site=self._site,
            control=control,
            run=run,
            token=launch.token,
            command=launch.command,
            env=self._environment(launch, run),
            cwd=launch.cwd,
            modules=resources.modules,
            setup=resources.setup,
        )
        told = holder.describe(element)
        words = {"id_word": self._dialect.id_word, "restarts_word": self._dialect.restarts_word}
        return Order(
            name=self.name_of(launch),
            body=holder.body(told, **words),
            stdout=f"{control}/output",
            stderr=f"{control}/output",
            cwd=run,
            resources=resources,
            directives=resources.directives,
        )

    def _environment(self, launch: Launch, run: str) -> dict[str, str]:
        return {
            **launch.env,
            **self._job_env(),
            "JOBMGR_JOB_ID": launch.job_id,
            "JOBMGR_ATTEMPT": str(launch.number),
            process.RUN_VARIABLE: run,
            process.ATTEMPT_VARIABLE: launch.token,
        }


def _ids(listing: Listing) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.id for one in listing.jobs))


def _refusal(words: str) -> Refusal:
    return Refusal(JobError(Failure.SUBMIT_REFUSED, words))


def _is_decided(launch: Launch, files: Files) -> bool:
    is_another = bool(files.token) and files.token != launch.token
    return is_another or files.gate is not None or files.record is not None

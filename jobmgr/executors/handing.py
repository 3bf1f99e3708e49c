"""Handing attempts in at a scheduler: until it has them, will not have them, or nobody wants them any more."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from jobmgr.dialects import holder
from jobmgr.dialects.answers import together
from jobmgr.dialects.dialect import (
    Busy,
    Command,
    Dialect,
    Doubtful,
    Listing,
    NotUnderstood,
    Order,
    Phase,
    Refused,
    Submitted,
)
from jobmgr.domain.environment import Environment
from jobmgr.domain.job import JobError
from jobmgr.errors import InvalidRequest, SiteUnreachable
from jobmgr.executors import gate, process
from jobmgr.executors.breaker import Breaker
from jobmgr.executors.courier import Courier, Delivery, Wanted
from jobmgr.executors.live import Sending
from jobmgr.executors.pace import Pace
from jobmgr.executors.parcel import Member, Parcel, alone, halves, parcels
from jobmgr.executors.place import Files, Place, Placed, Stock
from jobmgr.executors.protocol import JobToken, Launch
from jobmgr.executors.scheduler import NAMED_AT_ONCE, Scheduler
from jobmgr.executors.transcript import PlacedForOther
from jobmgr.failure import Failure

_LOOKS_IN_DOUBT = 3


@dataclass(frozen=True, slots=True)
class Given:
    """The scheduler has it, under these ids (of arrays, if it is one); more than one after a doubt.

    `is_doubtful`: a command that was given up may hand in another one.
    """

    ids: tuple[str, ...]
    is_doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """The scheduler will not have it."""

    error: JobError


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Nobody wants it any more. Whether the scheduler has it may not be known."""


@dataclass(frozen=True, slots=True)
class Absent:
    """It was not handed in, as far as can be told, and cannot be now."""


@dataclass(frozen=True, slots=True)
class Parted:
    """The scheduler has no room for all of it: none of it was taken, for certain. Its parts may go one by one."""

    parcels: Sequence[Parcel]


Tell = Callable[[str], None]


class Desk:
    """Where a site's attempts are handed in, a few parcels at once."""

    def __init__(
        self,
        site: str,
        scheduler: Scheduler,
        place: Place,
        job_env: Callable[[], Mapping[str, str]],
        job_token: JobToken,
        pace: Pace,
        breaker: Breaker,
        sending: Callable[[Sequence[Launch]], Sending],
        spawn: Callable[[Awaitable[None]], None],
    ) -> None:
        """`sending` and `spawn`: see Courier."""
        self._site = site
        self._scheduler = scheduler
        self._place = place
        self._job_env = job_env
        self._job_token = job_token
        self._pace = pace
        self._breaker = breaker
        self._courier = Courier(scheduler, place, pace, breaker, self._pack, sending, spawn)

    async def sort(self, wanted: Wanted, tell: Tell) -> Sequence[Parcel]:
        """The parcels that these attempts make, once it is known what the installation takes."""
        pause_s = self._pace.again_first_s
        while wanted():
            try:
                dialect = await self._scheduler.fitted()
            except (SiteUnreachable, NotUnderstood) as error:
                tell(f"it cannot be handed in now: {error}")
                pause_s = await self._rest(pause_s)
                continue
            # What cannot be said of one attempt must not be said of its array.
            plain: list[Launch] = []
            odd: list[Launch] = []
            for launch in wanted():
                (plain if self._can_describe(launch, dialect) else odd).append(launch)
            arrays = parcels(plain, dialect.array_cap, _new_token)
            return [*arrays, *map(alone, odd)]
        return []

    async def hand_in(
        self, parcel: Parcel, wanted: Wanted, tell: Tell, *, is_doubtful: bool
    ) -> Given | Refusal | Withdrawn | Absent | Parted:
        """Hand a parcel in; `is_doubtful`: it may have been before. Goes on until that is decided.

        `tell` is told why it takes so long.
        """
        pause_s = self._pace.again_first_s
        # Who may have been taken once must not be given another name.
        was_doubtful = is_doubtful
        while wanted():
            if is_doubtful:
                found = await self._breaker.insist(lambda: self._look_up(parcel, wanted, tell), tell)
                if found is not None:
                    return found
                if not parcel.is_whole:
                    return Absent()
            # Who could not be heard of may take as long again.
            delivery = await self._courier.deliver(parcel, wanted, is_alone=was_doubtful)
            answer = _answer(delivery)
            match answer:
                case Given():
                    return replace(answer, is_doubtful=was_doubtful)
                case Refusal() | Withdrawn():
                    return answer
                case Busy(is_full=True, words=words) if parcel.is_array and not was_doubtful:
                    tell(f"it was not taken: {words}")
                    return Parted(halves(parcel.name, wanted(), _new_token))
                case Busy() | Doubtful():
                    is_doubtful = isinstance(answer, Doubtful)
                    was_doubtful |= is_doubtful
                    tell(f"it was not taken: {answer.words}")
            pause_s = await self._rest(pause_s)
        return Withdrawn()

    async def listing(self, names: Sequence[str]) -> Listing:
        """What the scheduler has under these names; who is known there by id only is looked at."""
        portions = [names[start : start + NAMED_AT_ONCE] for start in range(0, len(names), NAMED_AT_ONCE)]
        return together([await self._listing(portion) for portion in portions])

    async def _listing(self, names: Sequence[str]) -> Listing:
        async with self._breaker.turn():
            found = await self._find(names)
            unknown = [one.id for one in found.jobs if one.phase is Phase.UNKNOWN]
            if not unknown:
                return found
            try:
                looked = await self._scheduler.look(unknown)
            except SiteUnreachable as error:
                looked = Listing((), complete=False, why=str(error))
        return Listing(
            (
                *(one for one in found.jobs if one.id not in unknown),
                # Where a look cannot be narrowed it has the jobs of others too.
                *(one for one in looked.jobs if one.name in names),
            ),
            complete=found.complete and looked.complete,
            why=found.why or looked.why,
            has_queue=found.has_whole_queue and looked.has_whole_queue,
        )

    async def _rest(self, pause_s: float) -> float:
        await self._breaker.rest(pause_s)
        return min(pause_s * 2, self._pace.again_max_s)

    async def _find(self, names: Sequence[str]) -> Listing:
        listing = await self._scheduler.find(names)
        # That it answers questions does not say that it takes jobs, so an answer ends no silence.
        if not listing.has_whole_queue:
            self._breaker.in_vain(listing.why)
        return listing

    async def _look_up(self, parcel: Parcel, wanted: Wanted, tell: Tell) -> Given | Withdrawn | None:
        """What became of a parcel that may have been handed in; None if it was not, or may be again.

        It may be if the queue was listed several times over some time without it, and nothing of it has passed its
        gate: should it appear after all, one of the two will be refused.
        """
        looks, pause_s = 0, self._pace.in_doubt_s / _LOOKS_IN_DOUBT
        while launches := wanted():
            async with self._breaker.turn():
                told = await self._files(launches, tell)
                holders = _holders(told or [])
                if holders or (told is not None and all(_is_decided(*one) for one in told)):
                    # The watch knows by the gates whose they are, and says what that means.
                    return self._given(holders)
                if told is not None and (
                    looks == _LOOKS_IN_DOUBT or not any(files.token for _, files in told)
                ):
                    return None
                listing = await self._find([parcel.name])
            if listing.jobs:
                return self._given([one.id for one in listing.jobs])
            if listing.has_whole_queue:
                looks += 1
            else:
                tell(f"whether it was handed in cannot be found out now: {listing.why}")
                pause_s = min(pause_s * 2, self._pace.again_max_s)
            await self._breaker.rest(pause_s)
        return Withdrawn()

    def _given(self, ids: Sequence[str]) -> Given:
        dialect = self._scheduler.dialect  # How ids are written depends on no installation.
        return Given(tuple(dict.fromkeys(dialect.array(id_) for id_ in ids)), is_doubtful=True)

    async def _files(self, launches: Sequence[Launch], tell: Tell) -> Sequence[tuple[Launch, Files]] | None:
        try:
            told = await self._place.look([launch.place for launch in launches])
        except SiteUnreachable as error:
            self._breaker.in_vain(str(error))
            tell(f"whether it was handed in cannot be found out now: {error}")
            return None
        return [(launch, told[launch.place]) for launch in launches]

    def _pack(self, parcel: Parcel, dialect: Dialect, launches: Sequence[Launch]) -> tuple[Stock, Command]:
        """What has to lie at the site, and the command that hands it in then. Raises InvalidRequest.

        Of an array only `launches` are to run.
        """
        tokens = {launch.token for launch in launches}
        told = tuple(
            self._describe(member.launch, dialect) if member.launch.token in tokens else holder.WITHDRAWN
            for member in parcel.members
        )
        resources = parcel.members[0].launch.resources
        if parcel.is_array:
            home = cwd = self._place.array(parcel.token)
            first = holder.reading(home, dialect.index_word)
        else:
            place = parcel.members[0].launch.place
            home, cwd, first = self._place.control(place), self._place.run(place), told[0]
        order = Order(
            name=parcel.name,
            body=holder.body(first, id_word=dialect.id_word, restarts_word=dialect.restarts_word),
            stdout=f"{home}/output",
            stderr=f"{home}/output",
            cwd=cwd,
            resources=resources,
            directives=resources.directives,
            elements=len(told) if parcel.is_array else None,
            priority=parcel.members[0].launch.priority,
        )
        attempts = tuple(
            self._placed(parcel, member) for member in parcel.members if member.launch.token in tokens
        )
        stock = Stock(attempts, home, cwd, dialect.script(order), told if parcel.is_array else ())
        return stock, dialect.submit(self._place.script(home), order)

    def _can_describe(self, launch: Launch, dialect: Dialect) -> bool:
        try:
            self._describe(launch, dialect)
        except InvalidRequest:
            return False
        return True

    def _describe(self, launch: Launch, dialect: Dialect) -> str:
        """The attempt as its script knows it. Raises InvalidRequest."""
        run = self._place.run(launch.place)
        element = holder.Element(
            site=self._site,
            control=self._place.control(launch.place),
            run=run,
            token=launch.token,
            command=launch.command,
            env=self._environment(launch, run, dialect.directory_variable),
            cwd=launch.cwd,
            modules=launch.resources.modules,
            setup=launch.resources.setup,
        )
        return holder.describe(element)

    def _environment(self, launch: Launch, run: str, directory_variable: str) -> Environment:
        has_token = self._job_token(launch) is not None
        return {
            # An array is handed in from a directory that is nobody's own.
            **({directory_variable: run} if directory_variable else {}),
            **launch.env,
            **self._job_env(),
            "JOBMGR_JOB_ID": launch.job_id,
            "JOBMGR_ATTEMPT": str(launch.number),
            process.RUN_VARIABLE: run,
            process.ATTEMPT_VARIABLE: launch.token,
            **({process.JOB_TOKEN_VARIABLE: self._place.job_token(launch.place)} if has_token else {}),
        }

    def _placed(self, parcel: Parcel, member: Member) -> Placed:
        launch = member.launch
        token = self._job_token(launch) or ""
        return Placed(launch.place, launch.token, parcel.name, member.index, parcel.former, token)


def _new_token() -> str:
    return secrets.token_hex(16)


def _answer(delivery: Delivery) -> Given | Refusal | Withdrawn | Busy | Doubtful:
    match delivery:
        case None:
            return Withdrawn()
        case Submitted(id=id_):
            return Given((id_,))
        case PlacedForOther():
            # The watch finds the other token and says what that means.
            return Given(())
        case Refused(words=words):
            return Refusal(JobError(Failure.SUBMIT_REFUSED, words))
        case Busy() | Doubtful():
            return delivery


def _is_decided(launch: Launch, files: Files) -> bool:
    is_another = bool(files.token) and files.token != launch.token
    return is_another or files.is_decided


def _holders(told: Sequence[tuple[Launch, Files]]) -> list[str]:
    """The runs that passed gates."""
    gates = [files.gate for _, files in told if files.gate is not None]
    return [content["holder"]["id"] for content in gates if content["decision"] == gate.RUN]

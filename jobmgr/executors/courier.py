"""Takes parcels to a scheduler: those that wait at the same time go together, with one command at the site.

Nothing is waited for to make them more: while one command is under way, others come. The scheduler is asked for one
after the other all the same, up to the first that it does not take; those behind that one wait again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from jobmgr.dialects.dialect import (
    Answer,
    Busy,
    Command,
    Dialect,
    Doubtful,
    NotUnderstood,
    Refused,
    Submission,
    Submitted,
)
from jobmgr.errors import InvalidRequest, SiteUnreachable
from jobmgr.executors.breaker import AT_ONCE, Breaker, unforeseen
from jobmgr.executors.live import Sending, Trace
from jobmgr.executors.pace import Pace
from jobmgr.executors.parcel import MOST, Parcel
from jobmgr.executors.place import Place, Stock
from jobmgr.executors.protocol import Launch
from jobmgr.executors.scheduler import Scheduler
from jobmgr.executors.transcript import Heard, NoPlace, NotAsked, NotPlaced, PlacedForOther

logger = logging.getLogger(__name__)

# So many commands are one argument of the site's shell, and a shell is a small part of what they cost.
_MOST_TOGETHER = 16
# Within this part of the time that a scheduler has for one answer the last of them is begun.
_BEGUN_WITHIN = 1 / 6
# What storing one element may take on a slow disk.
_ELEMENT_S = 0.1

# Which attempts of a parcel are still to be run.
Wanted = Callable[[], Sequence[Launch]]
# What has to lie at the site for a parcel of which these are to run, and the command that hands it in then. Raises
# InvalidRequest.
Pack = Callable[[Parcel, Dialect, Sequence[Launch]], tuple[Stock, Command]]
# None: nobody wanted it any more.
Delivery = Submission | PlacedForOther | None


@dataclass(slots=True)
class _Load:
    """A parcel on its way. One `is_alone` that must keep no other waiting."""

    parcel: Parcel
    wanted: Wanted
    is_alone: bool
    delivery: asyncio.Future[Delivery | NotAsked] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def settle(self, delivery: Delivery | NotAsked) -> None:
        """Tell who waits for it, if anybody still does."""
        if not self.delivery.done():
            self.delivery.set_result(delivery)


@dataclass(frozen=True, slots=True)
class _Packed:
    """A load with all that is sent for it, and for whom that is."""

    load: _Load
    stock: Stock
    command: Command
    launches: Sequence[Launch]


class Courier:
    """As many rounds at once as the breaker has turns; `spawn` owns them.

    `sending` notes that attempts are about to be sent, and what is proven of that later.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        place: Place,
        pace: Pace,
        breaker: Breaker,
        pack: Pack,
        sending: Callable[[Sequence[Launch]], Sending],
        spawn: Callable[[Awaitable[None]], None],
    ) -> None:
        self._scheduler = scheduler
        self._place = place
        self._pace = pace
        self._breaker = breaker
        self._pack = pack
        self._sending = sending
        self._spawn = spawn
        self._waiting: deque[_Load] = deque()
        self._rounds = 0
        self._most = _MOST_TOGETHER
        self._trouble = ""  # the last that nobody foresaw

    async def deliver(self, parcel: Parcel, wanted: Wanted, *, is_alone: bool) -> Delivery:
        """Hand it in when it is its turn, if any of it is wanted then; what came of it. `is_alone`: with no other."""
        while True:
            load = _Load(parcel, wanted, is_alone)
            self._waiting.append(load)
            if self._rounds < AT_ONCE:
                self._rounds += 1
                self._spawn(self._go_round())
            delivery = await load.delivery
            if not isinstance(delivery, NotAsked):
                return delivery
            is_alone = load.is_alone

    async def _go_round(self) -> None:
        try:
            while self._waiting:
                async with self._breaker.turn():
                    await self._deliver_all(self._together())
        finally:
            self._rounds -= 1

    def _together(self) -> list[_Load]:
        """Those that go with whoever waits longest, so many that other rounds have as much to do."""
        loads: list[_Load] = []
        most = min(self._most, -(-len(self._waiting) // AT_ONCE))
        members = 0
        while self._waiting and len(loads) < most:
            load = self._waiting[0]
            members += len(load.parcel.members)
            # While the scheduler does not answer one is enough to try it.
            is_apart = load.is_alone or members > MOST or bool(self._breaker.words)
            if loads and is_apart:
                break
            loads.append(self._waiting.popleft())
            if is_apart:
                break
        return loads

    async def _deliver_all(self, loads: Sequence[_Load]) -> None:
        try:
            await self._hand_in(loads)
        except Exception as error:  # boundary: without its round none of those that wait goes anywhere
            if (words := unforeseen(error)) != self._trouble:
                logger.exception("%d parcels were not delivered", len(loads))
            self._trouble = words
            # They may have left or not, so they are looked up before the next try.
            for load in loads:
                load.settle(Doubtful(words))
        finally:
            for load in loads:
                load.delivery.cancel()

    async def _hand_in(self, loads: Sequence[_Load]) -> None:
        try:
            dialect = await self._scheduler.fitted()
        except (NotUnderstood, SiteUnreachable) as error:
            self._breaker.in_vain(str(error))
            for load in loads:
                load.settle(Busy(str(error)))
            return
        # From here to the sending nothing is waited for: who is not wanted now may be told never to have left.
        if packed := self._packed(loads, dialect):
            await self._send(packed, dialect)

    def _packed(self, loads: Sequence[_Load], dialect: Dialect) -> list[_Packed]:
        packed = []
        for load in loads:
            if not (launches := load.wanted()):
                load.settle(None)
                continue
            try:
                packed.append(_Packed(load, *self._pack(load.parcel, dialect, launches), launches))
            except InvalidRequest as error:
                load.settle(Refused(str(error)))
        return packed

    async def _send(self, packed: Sequence[_Packed], dialect: Dialect) -> None:
        loads = [one.load for one in packed]
        sendings = [self._sending(one.launches) for one in packed]
        try:
            heard = await self._submit(packed)
        except InvalidRequest as error:
            # What no system takes as text, so nobody was asked.
            for sending in sendings:
                sending.left_at_most(Trace.NOTHING)
            _settle(loads, [Refused(str(error))] * len(loads), is_spoilt=len(loads) > 1)
            return
        self._scheduler.asked["submit"] += sum(not isinstance(one, NotAsked) for one in heard)
        outcomes = [_outcome(one, dialect) for one in heard]
        for sending, (_, trace) in zip(sendings, outcomes, strict=True):
            sending.left_at_most(trace)
        deliveries = [delivery for delivery, _ in outcomes]
        self._judge(deliveries)
        self._learn(deliveries)
        is_spoilt = len(heard) > 1 and all(isinstance(one, NotPlaced) for one in heard)
        _settle(loads, deliveries, is_spoilt=is_spoilt)

    async def _submit(self, packed: Sequence[_Packed]) -> Sequence[Heard]:
        within_s = max(round(self._pace.command_s * _BEGUN_WITHIN), 1) if len(packed) > 1 else 0
        members = sum(len(one.load.parcel.members) for one in packed)
        timeout_s = within_s + self._pace.command_s + _ELEMENT_S * members
        try:
            return await self._place.submit([(one.stock, one.command) for one in packed], within_s, timeout_s)
        except SiteUnreachable as error:
            return [NoPlace(str(error))] * len(packed)

    def _judge(self, deliveries: Sequence[Delivery | NotAsked]) -> None:
        """Tell the breaker how it went. Several in a row that were in vain are one try: the first spoilt the others."""
        is_vain = False
        for delivery in deliveries:
            match delivery:
                case Busy(is_general=True, words=words) | Doubtful(words=words):
                    if not is_vain:
                        self._breaker.in_vain(words)
                    is_vain = True
                case Submitted() | Refused() | Busy():
                    self._breaker.well()
                    is_vain = False

    def _learn(self, deliveries: Sequence[Delivery | NotAsked]) -> None:
        """How many go together next: those behind one that is not taken are stored in vain, and later once more."""
        taken = sum(isinstance(one, Submitted) for one in deliveries)
        is_all = taken == len(deliveries)
        self._most = min(2 * self._most, _MOST_TOGETHER) if is_all else max(taken, 1)


def _settle(loads: Sequence[_Load], deliveries: Sequence[Delivery | NotAsked], *, is_spoilt: bool) -> None:
    """Tell those who wait. `is_spoilt`: one of them spoilt it for all, and nobody knows which."""
    for load, delivery in zip(loads, deliveries, strict=True):
        load.is_alone |= is_spoilt
        load.settle(NotAsked() if is_spoilt else delivery)


def _outcome(heard: Heard, dialect: Dialect) -> tuple[Delivery | NotAsked, Trace]:
    """What it means for who waits, and what there may be at the site of what was sent."""
    match heard:
        case Answer():
            said = dialect.submitted(heard)
            return said, Trace.JOB if isinstance(said, Submitted | Doubtful) else Trace.FILES
        case NotPlaced(words=words):
            return Busy(words), Trace.FILES
        case NoPlace(words=words):
            return Busy(words), Trace.NOTHING
        case NotAsked():
            return heard, Trace.FILES
        case PlacedForOther():
            return heard, Trace.JOB

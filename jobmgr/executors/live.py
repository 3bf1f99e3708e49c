"""An attempt in the hands of a foreign queue's executor, and what was seen of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from jobmgr.dialects.dialect import Phase, Standing
from jobmgr.domain.wish import Pause, Wished
from jobmgr.executors import gate
from jobmgr.executors.errand import Errand
from jobmgr.executors.place import Files
from jobmgr.executors.protocol import Launch

_EXPLAINED = frozenset({Phase.PENDING, Phase.HELD, Phase.SUSPENDED})


class Trace(IntEnum):
    """What there may be of an attempt at its site. More is assumed before anything is sent, less has to be proven."""

    NOTHING = 0
    FILES = 1
    JOB = 2


@dataclass(slots=True)
class Live:
    """One attempt.

    `name` is that of the submission that it was handed in with, `index` its element if that is an array. Of one that
    another service had in hand there may be anything at the site. It `may_double` if a command that was given up may
    hand in another job for it. `strange_ids` are those of its ids that were given to other attempts since.
    """

    launch: Launch
    name: str
    index: int | None = None
    ids: tuple[str, ...] = ()
    strange_ids: frozenset[str] = frozenset()
    trace: Trace = Trace.JOB
    is_handed_in: bool = False
    may_double: bool = False
    is_cancelled: bool = False
    is_over: bool = False
    has_started: bool = False
    is_paused: bool | None = False  # None: not known
    is_unreachable: bool = False
    has_vanished: bool = False
    gone_since: float | None = None
    waits_since: float | None = None
    waits_s: float = 0.0
    recorded_at: float | None = None
    said: str = ""
    reported: str = ""  # of its reason, what was reported last
    files: Files | None = None
    standings: Sequence[Standing] = ()
    complete: bool = False
    has_whole_queue: bool = False
    errand: Errand = field(default_factory=Errand)

    @property
    def place(self) -> str:
        """Where its directories lie."""
        return self.launch.place

    @property
    def holder_id(self) -> str:
        """Under which id the run that passed the gate is known; empty if none did, as far as was seen.

        An earlier service may have seen it, and stored its id as the handle.
        """
        if self.files is None or self.files.gate is None or self.files.gate["decision"] != gate.RUN:
            return (self.launch.handle or "") if self._had_started else ""
        return str(self.files.gate["holder"]["id"])

    @property
    def own_ids(self) -> Sequence[str]:
        """The ids under which a scheduler may be told something about it."""
        return [id_ for id_ in self.ids if id_ not in self.strange_ids]

    @property
    def is_known_to_start(self) -> bool:
        """Whether its start was seen, by this service or an earlier one."""
        return self.has_started or self._had_started

    @property
    def _had_started(self) -> bool:
        origin = self.launch.origin
        return origin is not None and origin.has_started

    @property
    def reason(self) -> str:
        """Why the scheduler lets it wait, or suspended it, in its own words; empty if it does not.

        Also that it takes for running what has not begun: what a node lost it may believe in for half an hour.
        """
        explained = (one.reason or one.word for one in self.standings if one.phase in _EXPLAINED)
        return next(explained, "") or ("" if self.is_known_to_start else self._false_start)

    @property
    def _false_start(self) -> str:
        places = (
            f" on {one.nodes}" if one.nodes else "" for one in self.standings if one.phase is Phase.RUNNING
        )
        return next((f"said to run{where}, and nothing of its script was seen yet" for where in places), "")

    @property
    def is_wanted(self) -> bool:
        """Whether it is to be run."""
        return not self.is_cancelled and not self.is_over

    def concerned(self, wished: Wished) -> Sequence[str]:
        """The ids under which it is what the wish is about: one that runs, or one that may wait."""
        if self.is_over or not self.is_handed_in:
            return ()
        if isinstance(wished, Pause):
            return [self.holder_id] if self.holder_id and self.holder_id not in self.strange_ids else ()
        if self.has_started:
            return ()
        ended = {one.id for one in self.standings if one.phase is Phase.ENDED}
        return [id_ for id_ in self.own_ids if id_ not in ended]

    @property
    def has_ended(self) -> bool:
        """Whether no run of it is known that waits or runs."""
        return all(one.phase is Phase.ENDED for one in self.standings)


class Sending:
    """One try to hand attempts in: until something is proven, all of it may have come to the site."""

    def __init__(self, lives: Sequence[Live]) -> None:
        self._before = [(live, live.trace) for live in lives]
        for live in lives:
            live.trace = Trace.JOB

    def left_at_most(self, trace: Trace) -> None:
        """It is certain that no more than this came of it."""
        for live, before in self._before:
            live.trace = max(before, trace)

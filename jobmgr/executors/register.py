"""The attempts that one foreign queue's executor has in hand, and what it reports of them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from jobmgr.dialects.dialect import Phase, Standing
from jobmgr.domain.resources import counted
from jobmgr.domain.wish import Pause
from jobmgr.executors import gate
from jobmgr.executors.live import Live, Sending, Trace
from jobmgr.executors.parcel import name_of
from jobmgr.executors.place import Files
from jobmgr.executors.protocol import (
    Final,
    Launch,
    Paused,
    Report,
    Resumed,
    Scheduled,
    Started,
    Unreachable,
    Waiting,
)

logger = logging.getLogger(__name__)

_NUMBER = re.compile(r"\d+")
_TURNS = frozenset({Phase.RUNNING, Phase.SUSPENDED})
_WAITS = frozenset({Phase.PENDING, Phase.HELD})


class Register:
    """By token. Of each attempt only news are reported, and nothing after its end."""

    def __init__(self, site: str, report: Callable[[Report], None]) -> None:
        self._site = site
        self._report = report
        self._lives: dict[str, Live] = {}

    def __iter__(self) -> Iterator[Live]:
        return iter(list(self._lives.values()))

    def get(self, token: str) -> Live | None:
        """The attempt, if it is in hand."""
        return self._lives.get(token)

    def take(self, launch: Launch, *, trace: Trace = Trace.JOB) -> Live:
        """Have an attempt in hand; one that is there already begins anew. `trace` is what there may be of it."""
        if launch.token in self._lives:
            trace = Trace.JOB
        self.forget(launch.token)
        live = Live(launch, name_of(launch.token), ids=tuple((launch.handle or "").split()), trace=trace)
        self._lives[launch.token] = live
        return live

    def forget(self, token: str) -> None:
        """Say no more about it."""
        live = self._lives.pop(token, None)
        if live is not None:
            live.is_over = True

    def clear(self) -> None:
        """Have none in hand."""
        self._lives.clear()

    def sending(self, launches: Sequence[Launch]) -> Sending:
        """These are about to be sent to the site."""
        return Sending([live for one in launches if (live := self._lives.get(one.token)) is not None])

    def meet(self, live: Live, seen: Sequence[Standing]) -> None:
        """Know of all jobs that wait for it: a command that was given up may have handed one in afterwards."""
        late = [one.id for one in seen if one.phase in _WAITS and one.id not in live.ids]
        if late and not live.is_over:
            live.ids = (*live.ids, *late)
            live.errand.again()
            if not live.has_started:
                self.waits(live)

    def waits(self, live: Live) -> None:
        """Report that the scheduler has it."""
        self._report(Scheduled(live.launch.token, " ".join(live.ids)))

    def progress(self, live: Live, files: Files) -> None:
        """Report what is new in its files, and in what the scheduler says of it."""
        token = live.launch.token
        holder = files.gate["holder"] if files.gate and files.gate["decision"] == gate.RUN else None
        if holder is not None and holder["id"] not in live.ids:
            # One command may have handed in several; which of them holds the attempt only the gate knows.
            live.ids = (*live.ids, holder["id"])
        if holder is not None and not live.has_started:
            # It was not asked about, or what was said of its job is older than this run.
            live.complete = live.has_whole_queue = False
        is_back = live.is_unreachable and not live.has_vanished
        if holder is not None and (not live.has_started or is_back):
            live.has_started, live.is_unreachable = True, False
            self._report(Started(token, holder["id"], datetime.fromisoformat(holder["at"])))
        elif is_back:
            live.is_unreachable = False
            self.waits(live)
        self._explain(live)
        turns = [one.phase for one in live.standings if one.phase in _TURNS]
        is_paused = Phase.SUSPENDED in turns
        # What is not listed now has not therefore gone on.
        if live.has_started and turns and is_paused != live.is_paused:
            live.is_paused = is_paused
            if is_paused:
                live.errand.undone(Pause(is_paused=False))
            self._report(Paused(token) if is_paused else Resumed(token))

    def _explain(self, live: Live) -> None:
        # Some count in their reasons what is free or missing, and say another number each time.
        if live.reason and _NUMBER.sub("", live.reason) != _NUMBER.sub("", live.reported):
            live.reported = live.reason
            self._report(Waiting(live.launch.token, live.reason))

    def unreachable(self, lives: Sequence[Live], why: str) -> None:
        """Report that nothing can be said of them now."""
        for live in lives:
            if not live.is_over and not live.is_unreachable:
                live.is_unreachable = True
                self._report(Unreachable(live.launch.token, why))

    def end(self, live: Live, report: Final) -> None:
        """Report its end."""
        if not live.is_over:
            self.forget(live.launch.token)
            live.is_over = True
            self._report(report)

    def teller(self, lives: Sequence[Live]) -> Callable[[str], None]:
        """Notes why these are not handed in yet."""

        return lambda why: self.explain([live for live in lives if live.is_wanted], why)

    def explain(self, lives: Sequence[Live], why: str) -> None:
        """Note why these are not where they are to be."""
        news = [live for live in lives if live.said != why]
        for live in news:
            live.said = why
        if news:
            others = f" and {counted(len(news) - 1, 'other job')}" if len(news) > 1 else ""
            logger.warning("job %s%s at %s: %s", news[0].launch.job_id, others, self._site, why)

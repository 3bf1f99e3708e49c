"""What Socket.IO clients are sent of one batch of events: each thing encoded once, and only if somebody wants it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property

from jobmgr.api.frames import Frames, Message
from jobmgr.api.rooms import Rooms
from jobmgr.domain.job import Event
from jobmgr.wire.translation import event_answer

_NAME = "events"


class Tick:
    """A batch, and the `messages` it is for clients that ask for no rooms."""

    def __init__(self, epoch: str, batch: Sequence[Event], messages: Sequence[Message]) -> None:
        self._epoch = epoch
        self._batch = batch
        self._messages = messages
        self._of_job: dict[str, Frames] = {}

    def frames(self, rooms: Rooms | None) -> Iterator[Frames]:
        """What a client in these rooms is sent, None for one that asked for none."""
        if rooms is None:
            yield self._singly
        elif rooms.everything:
            yield self._all
        else:
            for job_id in rooms.job_ids & self._by_job.keys():
                if job_id not in self._of_job:
                    self._of_job[job_id] = self._together(self._by_job[job_id])
                yield self._of_job[job_id]

    @cached_property
    def _singly(self) -> Frames:
        return Frames(self._messages)

    @cached_property
    def _all(self) -> Frames:
        return self._together(self._batch)

    @cached_property
    def _by_job(self) -> dict[str, list[Event]]:
        found: defaultdict[str, list[Event]] = defaultdict(list)
        for event in self._batch:
            if event.job_id is not None:
                found[event.job_id].append(event)
        return found

    def _together(self, events: Sequence[Event]) -> Frames:
        told = [event_answer(event) for event in events]
        return Frames([(_NAME, {"epoch": self._epoch, "events": told})])

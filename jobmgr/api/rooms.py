"""Rooms: what a Socket.IO client asks for, instead of each message that everybody gets."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from jobmgr.errors import InvalidRequest
from jobmgr.wire.mismatch import invalid
from jobmgr.wire.requests import Subscription
from jobmgr.wire.submission import is_job_id

EVERYTHING = "events"
_OF_JOB = "job:"


@dataclass(frozen=True, slots=True)
class Rooms:
    """The events of these jobs, or of all; whoever is told everything is told nothing twice."""

    everything: bool
    job_ids: frozenset[str]

    @property
    def names(self) -> list[str]:
        """As they were asked for."""
        return [EVERYTHING] * self.everything + [_OF_JOB + job_id for job_id in sorted(self.job_ids)]


def parse_rooms(asked: object) -> Rooms:
    """The rooms in a Subscription that came as JSON. Raises InvalidRequest, which names what is wrong with it."""
    try:
        names = msgspec.convert(asked, Subscription).rooms
    except msgspec.ValidationError as error:
        raise invalid(error, Subscription) from None
    except UnicodeEncodeError:
        raise InvalidRequest("", "contains an unpaired surrogate") from None
    job_ids = set()
    for index, name in enumerate(names):
        job_id = name.removeprefix(_OF_JOB)
        if job_id != name and is_job_id(job_id):
            job_ids.add(job_id)
        elif name != EVERYTHING:
            raise InvalidRequest(f"rooms[{index}]", f"is no room; known ones: {EVERYTHING}, {_OF_JOB}ID")
    return Rooms(EVERYTHING in names, frozenset(job_ids))

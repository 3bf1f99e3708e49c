"""In which manner a family of routes tells that something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web

from jobmgr.api import problems
from jobmgr.errors import JobmgrError
from jobmgr.wire.answers import ProblemAnswer


@dataclass(frozen=True, slots=True)
class Manner:
    """`answer` makes the response of an error, whose body is a `body` as `media_type`; `status_of` knows its status.

    `family` tells its routes from others of the same path elsewhere.
    """

    family: str
    answer: Callable[[JobmgrError], web.Response]
    status_of: Callable[[type[JobmgrError]], int]
    body: type[msgspec.Struct]
    media_type: str


PROBLEMS = Manner("", problems.from_error, problems.status_of, ProblemAnswer, problems.MEDIA_TYPE)


def part_of(path: str) -> str:
    """What paths of one family have in common: `/jobs/J1/cancel` is of `jobs`, `/api/jobs/J1/log` of `api/jobs`."""
    first, *others = path.removeprefix("/").split("/")
    return f"{first}/{others[0]}" if first == "api" and others else first

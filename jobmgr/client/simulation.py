"""Simulations as they are sent: by the routes that pyedb's job manager had (see docs/hfss.md), in JSON."""

from __future__ import annotations

import contextlib

import msgspec

from jobmgr.client import bulk
from jobmgr.domain.queue import DEFAULT_QUEUE
from jobmgr.errors import InvalidConfig
from jobmgr.hfss import script
from jobmgr.hfss.config import HFSSSimulationConfig
from jobmgr.hfss.job import payload
from jobmgr.wire.answers import ProblemAnswer
from jobmgr.wire.mismatch import NOT_JSON
from jobmgr.wire.pyedb import PyedbProblem

SUBMIT = "/jobs/submit"
SCHEDULER = "/api/scheduler_type"


def encoded(config: HFSSSimulationConfig, priority: int, queue: str = DEFAULT_QUEUE) -> bytes:
    """The body of a submission.

    Raises InvalidRequest for what JSON cannot hold, and for what is no configuration or no priority.
    """
    if not isinstance(config, HFSSSimulationConfig):
        raise InvalidConfig(
            "config",
            f"is of the type {type(config).__name__}; create_hfss_config(...) or HFSSSimulationConfig.from_dict(...)"
            " makes a configuration",
        )
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise InvalidConfig(
            "priority", f"{priority!r} is no whole number; larger ones run first, and 0 is the normal one"
        )
    # The service runs in another directory, and must not take options for a wish.
    kept = payload(script.absolute(config))
    body = {
        "config": kept,
        "priority": priority,
        "scheduler_type": config.scheduler_type.value,
        "queue": queue,
    }
    return bulk.encode(body, "config")


def problem_of(status: int, body: bytes) -> ProblemAnswer | None:
    """What these routes say of an error, as a problem document; None if it is no such answer."""
    with contextlib.suppress(*NOT_JSON):
        said = msgspec.json.decode(body, type=PyedbProblem)
        return ProblemAnswer("", "", status, said.error, said.code, said.field)
    return None

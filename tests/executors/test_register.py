"""What is known of attempts in a foreign queue, and what of that is news."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jobmgr.dialects.dialect import Phase, Standing
from jobmgr.executors.place import Files
from jobmgr.executors.protocol import Launch, Report, Started, Waiting
from jobmgr.executors.register import Register

TOKEN = "a" * 32
HOLDER = {"site": "lab", "id": "12", "restarts": 0, "host": "n1", "at": "2026-11-21T10:00:00.000000Z"}
RUN: dict[str, Any] = {"v": 1, "token": TOKEN, "decision": "run", "nonce": "77", "holder": HOLDER}


def standing(phase: Phase, reason: str = "") -> Standing:
    return Standing("12", "jm-a", phase, "PEND", reason=reason, restarts=0)


def test_another_reason_is_news_and_another_number_in_it_is_not() -> None:
    told: list[Report] = []
    register = Register("lab", told.append)
    live = register.take(Launch("job", 1, "a", ("true",)))
    for one in [
        standing(Phase.PENDING, "Not enough slots: 3 hosts"),
        standing(Phase.PENDING, "Not enough slots: 2 hosts"),
        standing(Phase.PENDING, "Closed by the administrator: 2 hosts"),
        standing(Phase.UNKNOWN),
        standing(Phase.PENDING, "Closed by the administrator: 2 hosts"),
        standing(Phase.HELD),
    ]:
        live.standings = [one]
        register.progress(live, Files())

    assert told == [
        Waiting("a", "Not enough slots: 3 hosts"),
        Waiting("a", "Closed by the administrator: 2 hosts"),
        Waiting("a", "PEND"),
    ]


def test_that_it_is_said_to_run_and_has_not_begun_is_news_until_it_has() -> None:
    """As when a node loses what it was to start: SLURM goes on taking it for running."""
    told: list[Report] = []
    register = Register("lab", told.append)
    live = register.take(Launch("job", 1, TOKEN, ("true",), handle="12"))
    live.standings = [replace(standing(Phase.RUNNING), word="RUNNING", nodes="n1")]

    for files in (Files(), Files(), Files(TOKEN, RUN), Files(TOKEN, RUN)):
        register.progress(live, files)

    assert told[0] == Waiting(TOKEN, "said to run on n1, and nothing of its script was seen yet")
    assert [type(one) for one in told] == [Waiting, Started]
    assert live.reason == ""


def test_what_was_listed_before_a_start_was_seen_says_nothing_of_that_run() -> None:
    """Its job may have ended once, refused for want of space, and been put back into the queue by somebody."""
    reports: list[Report] = []
    register = Register("lab", reports.append)
    live = register.take(Launch("job", 1, TOKEN, ("true",), handle="12"))
    live.complete = live.has_whole_queue = True

    register.progress(live, Files(TOKEN, RUN))
    seen = live.complete, live.has_whole_queue
    live.complete = live.has_whole_queue = True
    register.progress(live, Files(TOKEN, RUN))

    assert seen == (False, False)
    assert (live.complete, live.has_whole_queue) == (True, True)
    assert [type(one) for one in reports] == [Started]

"""What is reported of attempts in a foreign queue: news, once each."""

from __future__ import annotations

from jobmgr.dialects.dialect import Phase, Standing
from jobmgr.executors.place import Files
from jobmgr.executors.protocol import Launch, Report, Waiting
from jobmgr.executors.register import Register


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
        standing(Phase.RUNNING),
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

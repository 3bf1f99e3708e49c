"""What is still to be told of an attempt: of each kind the last wish, until it is taken or not."""

from __future__ import annotations

import time
from collections.abc import Callable

from jobmgr.dialects.shell import Shell
from jobmgr.domain.wish import Hold, Rank, Wished
from jobmgr.executors.breaker import Breaker
from jobmgr.executors.errand import Errand, Messenger
from jobmgr.executors.pace import DEFAULT_PACE
from jobmgr.executors.scheduler import Scheduler
from jobmgr.transports.local import LocalTransport

HOLD, RELEASE, RANK = Hold(is_held=True, v=4), Hold(is_held=False, v=5), Rank(7, v=6)


def test_last_wish_of_each_kind_is_told() -> None:
    errand = Errand()

    for wished in (HOLD, RANK, RELEASE, RELEASE):
        errand.add(wished)

    assert errand.open == [RANK, RELEASE]


def test_wish_that_is_known_is_not_told_again() -> None:
    errand = Errand()
    errand.add(HOLD)
    errand.close(HOLD, "not by you")

    errand.add(HOLD)

    assert (errand.open, errand.said) == ([], {Hold: "not by you"})
    errand.add(RELEASE)
    assert (errand.open, errand.said) == ([RELEASE], {})


def test_answer_to_a_wish_says_nothing_of_the_one_that_came_meanwhile() -> None:
    errand = Errand()
    errand.add(HOLD)
    errand.add(RELEASE)

    errand.close(HOLD, "not by you")

    assert (errand.open, errand.said) == ([RELEASE], {})


def test_words_of_a_wish_that_stays_open_are_not_the_last_ones() -> None:
    errand = Errand()
    errand.add(HOLD)

    errand.doubt(HOLD, "Socket timed out\nslurm_suspend error: Socket timed out\n")

    assert errand.said == {Hold: "Socket timed out; slurm_suspend error: Socket timed out; it is told again"}
    errand.close(HOLD, "not by you")
    assert errand.said == {Hold: "not by you"}


async def test_what_a_scheduler_has_no_word_for_is_said_at_once() -> None:
    told: list[Wished] = []
    messenger = _messenger(lambda _token, wished: told.append(wished))
    errand = Errand()
    errand.add(HOLD)
    errand.add(RANK)

    await messenger.run("token", errand, lambda: ["1:2:boot"])

    assert (errand.open, told) == ([], [])
    assert errand.said == {Hold: "shell has no word for that", Rank: "shell has no word for that"}


async def test_nothing_is_told_of_what_does_not_wait() -> None:
    messenger = _messenger(lambda _token, _wished: None)
    errand = Errand()
    errand.add(HOLD)

    await messenger.run("token", errand, list)

    assert (errand.open, errand.said) == ([HOLD], {})


def _messenger(told: Callable[[str, Wished], None]) -> Messenger:
    transport = LocalTransport({})
    breaker = Breaker("lab", DEFAULT_PACE, time.monotonic)
    return Messenger(Scheduler(Shell(), transport), transport, DEFAULT_PACE, breaker, told)

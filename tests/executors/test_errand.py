"""What is still to be told of an attempt: of each kind the last wish, until it is taken or not."""

from __future__ import annotations

from jobmgr.domain.wish import Hold, Pause, Rank
from jobmgr.executors.errand import Errand

HOLD, RELEASE, RANK = Hold(is_held=True, v=4), Hold(is_held=False, v=5), Rank(7, v=6)
PAUSE, RESUME = Pause(is_paused=True), Pause(is_paused=False)


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


def test_remark_tells_apart_what_is_open_refused_and_taken() -> None:
    errand = Errand()
    remarks = [errand.remark(Hold)]
    errand.add(HOLD)
    remarks.append(errand.remark(Hold))
    errand.doubt(HOLD, "away")
    remarks.append(errand.remark(Hold))
    errand.close(HOLD)
    remarks.append(errand.remark(Hold))

    assert remarks == [None, "", "away; it is told again", None]


def test_another_job_of_an_attempt_is_told_of_what_was_taken_already() -> None:
    errand = Errand()
    for wished in (HOLD, RANK, PAUSE):
        errand.add(wished)
        errand.close(wished)

    errand.again()
    errand.again()

    # Its rank would release it.
    assert errand.open == [HOLD]


def test_job_that_appears_later_is_told_of_its_rank_and_not_of_a_release() -> None:
    errand = Errand()
    for wished in (RELEASE, RANK):
        errand.add(wished)
        errand.close(wished)

    errand.again()

    assert errand.open == [RANK]


def test_what_is_not_so_any_more_may_be_wished_again() -> None:
    errand = Errand()
    errand.add(RESUME)
    errand.undone(RESUME)  # open still
    errand.close(RESUME)
    errand.undone(RESUME)

    errand.add(RESUME)

    assert errand.open == [RESUME]

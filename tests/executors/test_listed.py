"""Which jobs of a scheduler are runs of an attempt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobmgr.dialects.dialect import Cause, Listing, Phase, Standing
from jobmgr.domain.job import Origin
from jobmgr.domain.wish import Hold, Pause
from jobmgr.executors.listed import Listed
from jobmgr.executors.live import Live
from jobmgr.executors.protocol import Launch

OWN = Standing("200_4", "jm-b", Phase.ENDED, "FAILED", Cause.FAILED, index=4)
OTHER = Standing("200_5", "jm-b", Phase.PENDING, "PENDING", index=5)
HOLDER = Standing("100_4", "jm-a", Phase.RUNNING, "RUNNING", index=4)
STRANGER = Standing("100_4", "nightly", Phase.RUNNING, "RUNNING", index=4)
OVER = Standing("100_4", "jm-a", Phase.ENDED, "CANCELLED", Cause.CANCELLED, index=4)


def live(name: str, index: int | None = None, *, holder_id: str = "") -> Live:
    """An attempt of an earlier service, which saw its start if it has a holder."""
    origin = Origin("/w", "", "here", "boot", has_started=bool(holder_id))
    launch = Launch(f"job-of-{name}", 1, "a" * 32, ("true",), handle=holder_id or None, origin=origin)
    return Live(launch, name, index, ids=tuple(holder_id.split()))


def of_listing(*jobs: Standing, holder_id: str = "100_4", others: tuple[Live, ...] = ()) -> list[Standing]:
    own = live("jm-b", 4, holder_id=holder_id)
    return list(Listed(Listing(jobs, complete=True), [own, *others]).of(own))


def test_runs_of_an_attempt_have_its_name_and_index() -> None:
    assert of_listing(OWN, OTHER, HOLDER, holder_id="") == [OWN]


def test_holder_that_lives_is_a_run_of_it_whatever_its_name() -> None:
    assert of_listing(OWN, HOLDER) == [OWN, HOLDER]
    assert of_listing(OWN, holder_id="200_4") == [OWN]


def test_stranger_or_an_end_of_the_same_id_is_not() -> None:
    assert of_listing(OWN, STRANGER) == [OWN]
    assert of_listing(OWN, OVER) == [OWN]


@pytest.mark.parametrize("other", [live("jm-a", 4), live("jm-a", 4, holder_id="100_4")])
def test_run_of_another_attempt_that_got_the_id_of_its_holder_is_not(other: Live) -> None:
    """A scheduler that was installed anew counts from the beginning."""
    own = live("jm-b", 4, holder_id="100_4")
    listed = Listed(Listing((HOLDER,), complete=True), [own, other])

    assert of_listing(OWN, HOLDER, others=(other,)) == [OWN]
    assert of_listing(OWN, HOLDER, others=(live("jm-a", 5), live("jm-a"))) == [OWN, HOLDER]
    assert (set(listed.strange(own)), set(listed.strange(other))) == ({"100_4"}, set())
    assert listed.of(other) == [HOLDER]


def test_what_is_told_of_an_attempt_does_not_go_to_another_ones_id() -> None:
    own = live("jm-b", 4, holder_id="100_4")
    own.is_handed_in, own.ids = True, ("100_4", "200_4")
    before = own.own_ids, own.concerned(Pause(is_paused=True)), own.concerned(Hold(is_held=True, v=1))

    own.strange_ids = frozenset({"100_4"})

    assert before == (["100_4", "200_4"], ["100_4"], ["100_4", "200_4"])
    assert own.own_ids == ["200_4"]
    assert own.concerned(Pause(is_paused=True)) == ()
    assert own.concerned(Hold(is_held=True, v=1)) == ["200_4"]


def test_holder_is_known_by_its_handle_if_an_earlier_service_saw_its_start() -> None:
    """Of an element whose files are gone nothing else tells in which array it was handed in."""
    launch = Launch("job", 1, "a" * 32, ("true",), handle="100_4")
    seen, unseen = (
        Origin("/w", "", "here", "boot", has_started=has_started) for has_started in (True, False)
    )

    assert Live(replace(launch, origin=seen), "jm-b").holder_id == "100_4"
    assert Live(replace(launch, origin=unseen), "jm-b").holder_id == ""
    assert Live(launch, "jm-b").holder_id == ""

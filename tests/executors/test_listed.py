"""Which jobs of a scheduler are runs of an attempt."""

from __future__ import annotations

from dataclasses import replace

from jobmgr.dialects.dialect import Cause, Listing, Phase, Standing
from jobmgr.domain.job import Origin
from jobmgr.executors.listed import Listed
from jobmgr.executors.live import Live
from jobmgr.executors.protocol import Launch

OWN = Standing("200_4", "jm-b", Phase.ENDED, "FAILED", Cause.FAILED, index=4)
OTHER = Standing("200_5", "jm-b", Phase.PENDING, "PENDING", index=5)
HOLDER = Standing("100_4", "jm-a", Phase.RUNNING, "RUNNING", index=4)
STRANGER = Standing("100_4", "nightly", Phase.RUNNING, "RUNNING", index=4)
OVER = Standing("100_4", "jm-a", Phase.ENDED, "CANCELLED", Cause.CANCELLED, index=4)


def of_listing(*jobs: Standing, holder_id: str = "100_4") -> list[Standing]:
    return list(Listed(Listing(jobs, complete=True)).of("jm-b", 4, holder_id))


def test_runs_of_an_attempt_have_its_name_and_index() -> None:
    assert of_listing(OWN, OTHER, HOLDER, holder_id="") == [OWN]


def test_holder_that_lives_is_a_run_of_it_whatever_its_name() -> None:
    assert of_listing(OWN, HOLDER) == [OWN, HOLDER]
    assert of_listing(OWN, holder_id="200_4") == [OWN]


def test_stranger_or_an_end_of_the_same_id_is_not() -> None:
    assert of_listing(OWN, STRANGER) == [OWN]
    assert of_listing(OWN, OVER) == [OWN]


def test_holder_is_known_by_its_handle_if_an_earlier_service_saw_its_start() -> None:
    """Of an element whose files are gone nothing else tells in which array it was handed in."""
    launch = Launch("job", 1, "a" * 32, ("true",), handle="100_4")
    seen, unseen = (
        Origin("/w", "", "here", "boot", has_started=has_started) for has_started in (True, False)
    )

    assert Live(replace(launch, origin=seen), "jm-b").holder_id == "100_4"
    assert Live(replace(launch, origin=unseen), "jm-b").holder_id == ""
    assert Live(launch, "jm-b").holder_id == ""

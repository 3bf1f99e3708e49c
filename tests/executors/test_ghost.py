"""What has ended and is called alive: when it is let go, and when it is laid to rest."""

from __future__ import annotations

import pytest

from jobmgr.dialects.dialect import Cause, Listing, Phase, Standing
from jobmgr.executors.ghost import Ghost, ghost_of, sort
from jobmgr.executors.live import Live
from jobmgr.executors.pace import Pace
from jobmgr.executors.place import Files
from jobmgr.executors.protocol import Launch

PACE = Pace(ghost_s=300.0)
GHOST = Ghost("12", "jm-a", 0, "job", since=1000.0)
RECORDED = Files("a", {"holder": {"id": "12", "restarts": 0}}, {"exit_code": 0})
SOON, LATE, TOO_LATE = 1299.0, 1300.0, 1600.0


def told(phase: Phase, *, name: str = "jm-a", restarts: int | None = 0, complete: bool = True) -> Listing:
    cause = Cause.COMPLETED if phase is Phase.ENDED else None
    return Listing((Standing("12", name, phase, phase.name, cause, restarts=restarts),), complete=complete)


def fate(listing: Listing, now: float) -> str:
    again, to_rest = sort([GHOST], listing, now, PACE)
    return "again" if again else "to rest" if to_rest else "forgotten"


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.SUSPENDED])
def test_what_takes_room_for_long_is_laid_to_rest(phase: Phase) -> None:
    assert fate(told(phase), SOON) == "again"
    assert fate(told(phase), LATE) == "to rest"
    assert fate(told(phase, restarts=None), LATE) == "to rest"


def test_what_is_being_ended_is_left_to_its_scheduler() -> None:
    assert fate(told(Phase.ENDING), LATE) == "again"
    assert fate(told(Phase.ENDING), TOO_LATE) == "forgotten"


def test_what_is_not_called_alive_is_forgotten() -> None:
    assert fate(told(Phase.ENDED), SOON) == "forgotten"
    assert fate(Listing((), complete=True), SOON) == "forgotten"
    assert fate(Listing((), complete=False, has_queue=True), SOON) == "forgotten"


def test_listing_that_is_not_whole_decides_nothing() -> None:
    assert fate(told(Phase.RUNNING, complete=False), LATE) == "again"
    assert fate(Listing((), complete=False), LATE) == "again"
    assert fate(Listing((), complete=False), TOO_LATE) == "forgotten"


def test_other_jobs_and_other_runs_of_the_same_id_are_no_ghosts() -> None:
    assert fate(told(Phase.RUNNING, name="jm-b"), LATE) == "forgotten"
    assert fate(told(Phase.RUNNING, restarts=1), LATE) == "forgotten"


def test_attempt_leaves_one_unless_its_scheduler_knows_of_its_end() -> None:
    live = Live(Launch("job", 1, "a", ("true",)), "jm-a", files=RECORDED)

    unknown = ghost_of(live, 1000.0)
    live.standings = told(Phase.RUNNING).jobs
    running = ghost_of(live, 1000.0)
    live.standings = told(Phase.ENDED).jobs
    ended = ghost_of(live, 1000.0)
    live.files = Files("a", RECORDED.gate)

    assert (unknown, running, ended, ghost_of(live, 1000.0)) == (GHOST, GHOST, None, None)

"""The table of transitions, pair by pair."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobmgr.domain.queue import Tally
from jobmgr.domain.status import LIVE, TERMINAL, TRANSITIONS, WAITING, Status, may_follow, waiting_status

# Row by row what may follow, as the architecture tells it; the columns are in the order of the enum:
# pending queued claimed scheduled running paused completed failed cancelled.
TABLE = {
    Status.PENDING: ". Q . . . . c f x",
    Status.QUEUED: "p . C . . . c f x",
    Status.CLAIMED: "p Q . S R . c f x",
    Status.SCHEDULED: "p Q . . R . c f x",
    Status.RUNNING: "p Q . . . P c f x",
    Status.PAUSED: "p Q . . R . c f x",
    Status.COMPLETED: "p Q . . . . . . .",
    Status.FAILED: "p Q . . . . c f x",
    Status.CANCELLED: "p Q . . . . . . .",
}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("old", list(Status))
@pytest.mark.parametrize("new", list(Status))
def test_pair_is_legal_as_the_table_says(old: Status, new: Status) -> None:
    mark = TABLE[old].split()[list(Status).index(new)]

    assert may_follow(old, new) is (mark != ".")


def test_every_status_has_a_row_and_a_kind() -> None:
    assert set(TRANSITIONS) == set(Status)
    assert set(Status) == WAITING | LIVE | TERMINAL
    assert len(Status) == len(WAITING) + len(LIVE) + len(TERMINAL)


@pytest.mark.parametrize("status", list(Status))
def test_status_knows_its_kind_and_its_tally(status: Status) -> None:
    assert status.is_terminal is (status in TERMINAL)
    assert status.is_live is (status in LIVE)
    assert Tally.of(status) is (Tally.LIVE if status.is_live else Tally(status.value))


@pytest.mark.parametrize("status", sorted(LIVE))
def test_what_is_live_may_end(status: Status) -> None:
    assert TRANSITIONS[status] >= TERMINAL


@pytest.mark.parametrize(
    ("draft", "held", "due_in_s", "deps_left", "expected"),
    [
        (False, False, None, 0, Status.QUEUED),
        (True, False, None, 0, Status.PENDING),
        (False, True, None, 0, Status.PENDING),
        (False, False, 1, 0, Status.PENDING),
        (False, False, 0, 0, Status.QUEUED),
        (False, False, -1, 0, Status.QUEUED),
        (False, False, None, 1, Status.PENDING),
    ],
)
def test_job_waits_while_anything_holds_it_back(
    draft: bool, held: bool, due_in_s: int | None, deps_left: int, expected: Status
) -> None:
    due_at = None if due_in_s is None else NOW + timedelta(seconds=due_in_s)

    found = waiting_status(
        draft=draft, held_at=NOW if held else None, due_at=due_at, deps_left=deps_left, now=NOW
    )

    assert found is expected

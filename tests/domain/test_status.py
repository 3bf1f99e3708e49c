from datetime import UTC, datetime, timedelta

import pytest

from jobmgr.domain.status import LIVE, TERMINAL, WAITING, Status, may_follow, waiting_status

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_every_status_is_waiting_live_or_terminal() -> None:
    kinds = [WAITING, LIVE, TERMINAL]

    assert sorted(status for kind in kinds for status in kind) == sorted(Status)


@pytest.mark.parametrize("status", sorted(set(Status) - TERMINAL))
def test_every_status_that_is_not_terminal_may_end(status: Status) -> None:
    assert all(may_follow(status, end) for end in TERMINAL)


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.QUEUED}))
def test_only_a_queued_job_is_claimed(status: Status) -> None:
    assert not may_follow(status, Status.CLAIMED)


def test_a_completed_job_never_fails_later() -> None:
    assert not may_follow(Status.COMPLETED, Status.FAILED)
    assert may_follow(Status.FAILED, Status.COMPLETED)  # lost, until its exit record was found


@pytest.mark.parametrize(
    ("draft", "held_at", "due_at", "deps_left", "expected"),
    [
        (False, None, None, 0, Status.QUEUED),
        (True, None, None, 0, Status.PENDING),
        (False, NOW, None, 0, Status.PENDING),
        (False, None, NOW + timedelta(seconds=1), 0, Status.PENDING),
        (False, None, NOW, 0, Status.QUEUED),
        (False, None, None, 1, Status.PENDING),
    ],
)
def test_a_job_is_pending_while_anything_holds_it_back(
    draft: bool, held_at: datetime | None, due_at: datetime | None, deps_left: int, expected: Status
) -> None:
    found = waiting_status(draft=draft, held_at=held_at, due_at=due_at, deps_left=deps_left, now=NOW)

    assert found is expected

"""How often somebody may do something."""

from __future__ import annotations

import pytest

from jobmgr.api.rates import MOST_KNOWN, Rates


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_so_many_at_once_and_then_one_after_the_other(clock: Clock) -> None:
    rates = Rates(per_s=2, burst=3, clock=clock)

    for _ in range(3):
        assert rates.wait_s("ann") == 0
        rates.spend("ann")

    assert rates.wait_s("ann") == pytest.approx(0.5)
    assert rates.wait_s("bob") == 0
    clock.now += 0.5
    assert rates.wait_s("ann") == 0
    rates.spend("ann")
    assert rates.wait_s("ann") == pytest.approx(0.5)


def test_a_long_rest_saves_no_more_than_the_burst(clock: Clock) -> None:
    rates = Rates(per_s=1, burst=2, clock=clock)
    rates.spend("ann")
    clock.now += 1000

    for _ in range(2):
        assert rates.wait_s("ann") == 0
        rates.spend("ann")

    assert rates.wait_s("ann") == pytest.approx(1)


def test_what_is_too_much_costs_nothing_later(clock: Clock) -> None:
    rates = Rates(per_s=1, burst=1, clock=clock)

    for _ in range(10):
        rates.spend("ann")

    assert rates.wait_s("ann") == pytest.approx(1)


def test_those_who_were_quiet_longest_are_forgotten(clock: Clock) -> None:
    rates = Rates(per_s=1, burst=1, clock=clock)

    for number in range(MOST_KNOWN + 1):
        rates.spend(number)

    assert rates.wait_s(0) == 0
    assert rates.wait_s(1) > 0

from __future__ import annotations

import pytest

from benchmarks import table
from benchmarks.table import Figure, Goal


def _figure(value: float, goal: Goal | None = None) -> Figure:
    return Figure("no-op jobs", "/s", value, 1000.0, "bare spawns", goal)


@pytest.mark.parametrize(
    ("goal", "below", "at", "above"),
    [
        (Goal("≥", 0.5), False, True, True),
        (Goal("≤", 0.5), True, True, False),
        (Goal("<", 0.5), True, False, False),
    ],
)
def test_goal_is_about_the_ratio_to_the_limit(goal: Goal, below: bool, at: bool, above: bool) -> None:
    met = [_figure(value, goal).is_met for value in (499.0, 500.0, 501.0)]

    assert met == [below, at, above]


def test_table_and_document_show_each_goal_and_whether_it_is_met() -> None:
    figures = [_figure(700.0, Goal("≥", 0.65)), _figure(600.0, Goal("≥", 0.65)), _figure(600.0)]

    lines = [line.split() for line in table.text(figures).splitlines()[1:]]
    document = table.document(figures, {"cpus": 2})

    assert lines[0][-5:] == ["≥", "0.65", "yes", "bare", "spawns"]
    assert lines[1][-5:] == ["≥", "0.65", "NO", "bare", "spawns"]
    assert lines[2][-3:] == ["0.60", "bare", "spawns"]
    shown = [(record["ratio"], record["goal"], record["is_met"]) for record in document["figures"]]
    assert shown == [(0.7, "≥ 0.65", True), (0.6, "≥ 0.65", False), (0.6, None, None)]


def test_median_of_rounds_keeps_the_goal() -> None:
    goal = Goal("≥", 0.65)

    (median,) = table.medians([[_figure(value, goal)] for value in (500.0, 900.0, 700.0)])

    assert (median.value, median.is_met) == (700.0, True)

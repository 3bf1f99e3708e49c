"""Figures beside their limits: the median of all rounds, as a table and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, assert_never

_COLUMNS = ("figure", "measured", "limit", "ratio", "goal", "met", "the limit is")


@dataclass(frozen=True, slots=True)
class Goal:
    """What the ratio of a figure shall be."""

    relation: Literal["≥", "≤", "<"]
    ratio: float

    def is_met(self, ratio: float) -> bool:
        """Whether a figure with this ratio reaches the goal."""
        match self.relation:
            case "≥":
                return ratio >= self.ratio
            case "≤":
                return ratio <= self.ratio
            case "<":
                return ratio < self.ratio
            case _:
                assert_never(self.relation)

    def __str__(self) -> str:
        return f"{self.relation} {self.ratio:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value beside what it cannot be better than, or (`limit_name` says so) should not exceed."""

    name: str
    unit: str
    value: float
    limit: float
    limit_name: str
    goal: Goal | None = None

    @property
    def ratio(self) -> float:
        """The value as a multiple of the limit."""
        return self.value / self.limit

    @property
    def is_met(self) -> bool | None:
        """Whether the figure reaches its goal; None if it has none."""
        return None if self.goal is None else self.goal.is_met(self.ratio)


def medians(rounds: Iterable[Sequence[Figure]]) -> list[Figure]:
    """Each figure's median over the rounds; its ratio is that of the medians."""
    return [
        replace(
            first,
            value=statistics.median(figure.value for figure in (first, *others)),
            limit=statistics.median(figure.limit for figure in (first, *others)),
        )
        for first, *others in zip(*rounds, strict=True)
    ]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine() -> dict[str, Any]:
    """Where and when it was measured. `load` is the mean number of running processes over the last minute."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def text(figures: Iterable[Figure]) -> str:
    """The table: one line per figure, columns (figure, measured, limit, ratio, goal, met, the limit is)."""
    rows = [_COLUMNS]
    for figure in figures:
        value, limit = (f"{_short(number)} {figure.unit}" for number in (figure.value, figure.limit))
        goal = "" if figure.goal is None else str(figure.goal)
        met = {None: "", True: "yes", False: "NO"}[figure.is_met]
        rows.append((figure.name, value, limit, f"{figure.ratio:.2f}", goal, met, figure.limit_name))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def document(figures: Iterable[Figure], about: dict[str, Any]) -> dict[str, Any]:
    """The same for programs."""
    return {**about, "figures": [_record(figure) for figure in figures]}


def _record(figure: Figure) -> dict[str, Any]:
    goal = None if figure.goal is None else str(figure.goal)
    return {**asdict(figure), "ratio": figure.ratio, "goal": goal, "is_met": figure.is_met}


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers, limit_name = row
    cells = [number.rjust(width) for number, width in zip(numbers, widths[1:-1], strict=True)]
    return "  ".join([name.ljust(widths[0]), *cells, limit_name])


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.2f}"

"""What a check of an installation may say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad it is. A warning is worth a look; with a problem jobs do not run, or are not safe."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was found, and one sentence of what to do unless it is ok."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def ok(name: str, found: str) -> Check:
    """Nothing has to be done."""
    return Check(name, Verdict.OK, found)


def warning(name: str, found: str, remedy: str) -> Check:
    """Somebody should know."""
    return Check(name, Verdict.WARNING, found, remedy)


def problem(name: str, found: str, remedy: str) -> Check:
    """Somebody has to act."""
    return Check(name, Verdict.PROBLEM, found, remedy)


def unchecked(name: str, reason: str) -> Check:
    """It could not be looked at, because something else is not in order."""
    return warning(name, f"not checked: {reason}", "correct what is said above, then run this again")


def worst(checks: Iterable[Check]) -> Verdict:
    """The verdict on all of them."""
    order = list(Verdict)
    return max((check.verdict for check in checks), key=order.index, default=Verdict.OK)

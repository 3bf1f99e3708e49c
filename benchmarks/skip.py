"""What one machine can measure and another cannot."""

from __future__ import annotations

_SHOWN_LINES = 5


class Skipped(Exception):
    """A measurement that this machine cannot make; the text says why. The run goes on without it."""


def last_lines(text: str) -> str:
    """The end of what a program said, where the reason stands."""
    return "\n".join(text.strip().splitlines()[-_SHOWN_LINES:])

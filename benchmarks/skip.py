"""What one machine can measure and another cannot."""

from __future__ import annotations


class Skipped(Exception):
    """A measurement that this machine cannot make; the text says why. The run goes on without it."""

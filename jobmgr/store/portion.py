"""Long lists in portions that fit into one statement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

# PostgreSQL takes at most 32,767 values in one statement, some builds of SQLite 999.
AT_MOST = 500


def portions(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """`items` in order, some at a time: every list whose length a user decides is looked up this way.

    None for no items, so that nothing is asked then.
    """
    for start in range(0, len(items), AT_MOST):
        yield items[start : start + AT_MOST]

"""Long lists in portions that fit into one statement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

# PostgreSQL takes at most 32,767 values in one statement, some builds of SQLite 999.
AT_MOST = 500


def portions(items: Iterable[T]) -> Iterator[Sequence[T]]:
    """`items` in order, some at a time: every list whose length a user decides is looked up this way.

    None for no items, so that nothing is asked then.
    """
    rest = iter(items)
    while some := list(islice(rest, AT_MOST)):
        yield some

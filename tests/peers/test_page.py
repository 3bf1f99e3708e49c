"""The page for users of the original says what is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "from-pyedb.md"
_DEFECTS = 40
_TEST = re.compile(r"`([\w/]+\.py):(test_\w+)`")


def _rows() -> list[Sequence[str]]:
    """The cells of each row of the table of defects, which begin with their number."""
    lines = _PAGE.read_text().splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")
    ]
    return [row for row in rows if row[0].isdigit()]


def test_all_defects_of_the_original_are_in_the_table() -> None:
    assert [int(row[0]) for row in _rows()] == list(range(1, _DEFECTS + 1))


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[0])
def test_each_defect_names_tests_that_exist(row: Sequence[str]) -> None:
    named = _TEST.findall(row[-1])

    assert named, row
    for file, name in named:
        assert re.search(rf"^(async )?def {name}\(", (_ROOT / "tests" / file).read_text(), re.MULTILINE), name

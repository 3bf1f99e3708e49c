"""CSV that a spreadsheet may open: nothing in it is computed, and nothing is lost."""

from __future__ import annotations

import csv
import io
import math

import pytest

from jobmgr.wire import spreadsheet
from jobmgr.wire.answers import AuditEntryAnswer

FORMULAS = ["=1+1", "+1", "-1", "@SUM(1)", "\tx", "\rx", '=cmd|"/c calc"!A1']


@pytest.mark.parametrize("text", FORMULAS)
def test_what_would_be_computed_is_text(text: str) -> None:
    assert spreadsheet.cell(text) == f"'{text}"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("x;=1+1;y", "x;'=1+1;y"),
        ("x; +1;  @SUM(1)", "x;' +1;'  @SUM(1)"),
        ('x;"=1"', 'x;\'"=1"'),
        ("x\t-1", "x\t'-1"),
        ("x\n=1", "x\n'=1"),
        ("=1;=2", "'=1;'=2"),
    ],
)
def test_what_would_be_computed_behind_another_separator_is_text(text: str, plain: str) -> None:
    assert spreadsheet.cell(text) == plain


@pytest.mark.parametrize("text", ["", "plain", "a=b", "1-1", "'=1", '{"name": "=1"}', "a; b;'=1", "a;b=c\n"])
def test_what_would_not_be_computed_stays_as_it_is(text: str) -> None:
    assert spreadsheet.cell(text) == text


@pytest.mark.parametrize(("number", "text"), [(-1, "-1"), (-0.5, "-0.5"), (-1e-07, "-1e-07"), (2, "2")])
def test_number_stays_one(number: float, text: str) -> None:
    assert spreadsheet.cell(number) == text


def test_what_is_no_number_is_text_again() -> None:
    assert spreadsheet.cell(-math.inf) == "'-inf"


def test_nothing_is_nothing() -> None:
    assert spreadsheet.cell(None) == ""


def test_entries_are_lines_that_can_be_read_again() -> None:
    changed = {"name": 'a "quoted",\r\nname', "groups": ["x"]}
    entry = AuditEntryAnswer(7, "2026-01-31T18:00:00.000000Z", "=ann", None, "user_added", None, changed)

    text = spreadsheet.of_audit([entry])
    head, row = csv.reader(io.StringIO(text))

    assert dict(zip(head, row, strict=True)) == {
        "seq": "7",
        "at": "2026-01-31T18:00:00.000000Z",
        "actor": "'=ann",
        "origin": "",
        "kind": "user_added",
        "job_id": "",
        "changed": r'{"groups":["x"],"name":"a \"quoted\",\r\nname"}',
    }

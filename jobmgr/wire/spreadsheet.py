"""Rows as CSV in which no spreadsheet finds a formula."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from jobmgr.wire.answers import AuditEntryAnswer

MEDIA_TYPE = "text/csv"
# Before what a spreadsheet computes. Source: OWASP, "CSV Injection". In many countries it separates cells by `;`, and
# then neither that nor the end of a line is part of ours, whatever quotes there are.
_FORMULA = re.compile(r"""\A(?=[=+\-@\t\r])|(?<=[;\t\r\n])(?=[ \xa0"]*[=+\-@\t\r])""")


def of_audit(entries: Iterable[AuditEntryAnswer]) -> str:
    """Entries of the audit, one line each, below the names of the columns."""
    rows = [
        [
            msgspec.json.encode(value, order="sorted").decode() if isinstance(value, dict) else value
            for value in msgspec.structs.astuple(entry)
        ]
        for entry in entries
    ]
    return lines([AuditEntryAnswer.__struct_fields__, *rows])


def lines(rows: Iterable[Sequence[Any]]) -> str:
    """These rows as CSV (RFC 4180); None is an empty cell."""
    text = io.StringIO()
    csv.writer(text).writerows([cell(value) for value in row] for row in rows)
    return text.getvalue()


def cell(value: object) -> str:
    """`value` as text; what would be taken for a formula gets an apostrophe in front, as spreadsheets write text,
    also where one could begin behind another separator.

    A number is none, also below zero. A text that looks like one is what somebody wrote.
    """
    text = "" if value is None else str(value)
    if isinstance(value, int | float) and math.isfinite(value):
        return text
    return _FORMULA.sub("'", text)

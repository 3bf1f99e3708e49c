"""The table of guards is whole: each has an attack, each attack a guard, and each row of the document has some."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.security import guards
from tests.security.guards import MARK, Guard

_THEMES = sorted(
    file.stem for file in Path(__file__).parent.glob("test_*.py") if file.stem != Path(__file__).stem
)
_TABLE = {guard.name: guard for guard in vars(guards).values() if isinstance(guard, Guard)}
_DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
# What keeps each row of "Input that is not code" data.
_ROWS: Mapping[str, tuple[Guard, ...]] = {
    "a command and its arguments": (guards.ARGUMENT_LIST, guards.NO_NULS),
    "the same, at a site": (
        guards.QUOTED_WORD,
        guards.PLAIN_REQUEST,
        guards.PLAIN_DIRECTIVE,
        guards.BSUB_ARGUMENT,
        guards.WINDOWS_ARGUMENT,
    ),
    "the job file of Windows HPC": (guards.XML_TEXT,),
    "names of variables": (guards.ENVIRONMENT_NAMES, guards.SHELL_NAMES),
    "filters, names, tags, ids": (guards.BOUND_VALUES, guards.PLAIN_PATTERN),
    "names in log lines": (guards.LOG_LINES,),
    "names, errors, reasons, paths on a terminal": (guards.CLEAN_TEXT,),
    "what a job wrote, on a terminal": (guards.CLEAN_LOGS, guards.COLOURS_ONLY),
    "`[red]`, `[link=…]` in names": (guards.PLAIN_CELLS,),
    "cells of `--csv`": (guards.PLAIN_CELL,),
    "sentences on `/docs`": (guards.ESCAPED_PAGE,),
    "names of files in downloads": (guards.QUOTED_FILE_NAME,),
    "gates, exit records and notes": (
        guards.WHOLE_DECISION,
        guards.WHOLE_HOLDER,
        guards.WHOLE_RECORD,
        guards.WHOLE_NOTE,
        guards.NO_LINKS,
    ),
    "packets of Socket.IO": (guards.UNDERSTOOD,),
    "what keepers and services tell each other": (guards.PEER_OF_HOLDERS, guards.WHOLE_MESSAGES),
}


def _attacks(theme: str) -> Iterator[tuple[str, Any]]:
    module = importlib.import_module(f"tests.security.{theme}")
    for name, attack in vars(module).items():
        if name.startswith("test_"):
            yield name, attack


def _guards_of(attack: Any) -> set[str]:
    marks = [mark for mark in getattr(attack, "pytestmark", []) if mark.name == MARK]
    return {guard.name for mark in marks for guard in mark.args}


@pytest.mark.parametrize("theme", _THEMES)
def test_every_attack_names_its_guard(theme: str) -> None:
    assert [name for name, attack in _attacks(theme) if not _guards_of(attack)] == []


def test_every_guard_stops_an_attack() -> None:
    stopped = {guard for theme in _THEMES for _, attack in _attacks(theme) for guard in _guards_of(attack)}

    assert set(_TABLE) - stopped == set()


def test_every_row_of_the_document_has_guards_that_stop_attacks() -> None:
    section = _DOCUMENT.read_text().partition("\n## Input that is not code\n")[2].partition("\n## ")[0]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in section.splitlines() if line.startswith("| ")]

    # The first two are the head.
    assert rows[2:] == list(_ROWS)
    assert all(guard in _TABLE.values() for of_row in _ROWS.values() for guard in of_row)

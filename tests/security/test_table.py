"""The table of guards is whole: each has an attack that rests on it, and each attack a guard."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.security import guards
from tests.security.guards import MARK, Guard

_THEMES = sorted(
    file.stem for file in Path(__file__).parent.glob("test_*.py") if file.stem != Path(__file__).stem
)
_TABLE = {guard.name: guard for guard in vars(guards).values() if isinstance(guard, Guard)}


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

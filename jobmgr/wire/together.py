"""What the fields of a struct have to be together, as the description has it; the checks are where they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from jobmgr.wire.requests import LimitsChange, SiteAsked, UserChange
from jobmgr.wire.resources import ResourcesAsked


def _given(name: str) -> Mapping[str, Any]:
    return {"required": [name], "properties": {name: {"type": "string"}}}


def _not_given(name: str) -> Mapping[str, Any]:
    return {"properties": {name: {"type": "null"}}}


TOGETHER: Mapping[type[Struct], Mapping[str, Any]] = {
    LimitsChange: {"minProperties": 1},
    ResourcesAsked: {"anyOf": [_not_given("memory"), _not_given("memory_per_cpu")]},
    UserChange: {"minProperties": 1},
    SiteAsked: {"if": _given("host"), "then": _given("work_dir")},
}

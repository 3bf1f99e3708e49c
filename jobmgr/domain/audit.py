"""The audit: who did what, when, and from where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries; what is None does not restrict. `since` is included, `until` is not."""

    actor: str | None = None
    kind: str | None = None
    job_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change that somebody asked for: an event with its `actor`, `changed` being what it says."""

    seq: int
    at: datetime
    actor: str
    origin: str | None
    kind: str
    job_id: str | None
    changed: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuditPage:
    """One page, newest first; `next_cursor` is None on the last one."""

    entries: list[AuditEntry]
    next_cursor: str | None

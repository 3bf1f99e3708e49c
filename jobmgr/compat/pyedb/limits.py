"""The limits that a manager is made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jobmgr.domain import limits
from jobmgr.errors import InvalidConfig, InvalidRequest

Tell = Callable[[Mapping[str, Any]], object]


@dataclass
class ResourceLimits:
    """What may run on this machine: no job starts while one of these is not kept.

    `max_concurrent_jobs` at once; none while the processor is busier than `max_cpu_percent`, or while less than
    `min_memory_gb` or `min_disk_gb` is free. What is left out is as in pyedb's job manager, and only here.
    What is set while a manager uses them holds at once, also in its service. If that is one of others, which has limits
    of its own, the rest is what was asked for, and holds in the manager's own. Raises InvalidConfig, a ValueError.
    """

    max_concurrent_jobs: int = 1
    max_cpu_percent: float = 80.0
    min_memory_gb: float = 2.0
    min_disk_gb: float = 2.0

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a limit, here and where it holds."""
        if (tell := self.__dict__.get("_tell")) is not None:
            check({name: value})
            tell({name: value})
        super().__setattr__(name, value)

    def bind(self, tell: Tell | None) -> None:
        """From now on what is set is told first; None: no more."""
        self.__dict__["_tell"] = tell

    def take(self, changes: Mapping[str, Any]) -> None:
        """Be what was told already."""
        self.__dict__.update(changes)


def check(changes: Mapping[str, Any]) -> None:
    """Raise InvalidConfig for a limit that makes no sense, or for none, which pyedb did not know."""
    for name, value in changes.items():
        whole = name == "max_concurrent_jobs"
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise InvalidConfig(name, f"{value!r} is no {'whole ' if whole else ''}number")
    try:
        limits.ResourceLimits(**changes)
    except InvalidRequest as error:
        raise InvalidConfig(error.field, error.message) from error

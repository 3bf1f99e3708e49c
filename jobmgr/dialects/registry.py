"""The dialects by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from jobmgr.dialects.dialect import Dialect
from jobmgr.errors import InvalidRequest

# Where each is; imported when a site needs it.
_DIALECTS: Mapping[str, tuple[str, str]] = {
    "slurm": ("slurm", "Slurm"),
    "shell": ("shell", "Shell"),
    "pbs": ("pbs", "Pbs"),
    "lsf": ("lsf", "Lsf"),
    "windows_hpc": ("windows_hpc", "WindowsHpc"),
}


def schedulers() -> tuple[str, ...]:
    """Those that are of a scheduler; a plain host has none."""
    return tuple(name for name in _DIALECTS if name != "shell")


def dialect(name: str | None) -> Dialect:
    """The dialect of this name. Raises InvalidRequest."""
    if name is None or name not in _DIALECTS:
        raise InvalidRequest(
            "kind", f"{name!r} is not a scheduler that can be talked to: {', '.join(_DIALECTS)}"
        )
    module, kind = _DIALECTS[name]
    make: Callable[[], Dialect] = getattr(import_module(f"jobmgr.dialects.{module}"), kind)
    return make()


def check_options(kind: str, options: Sequence[str]) -> None:
    """Raise InvalidRequest for an option that no scheduler of this kind takes; of others nothing is known here."""
    if options and kind in _DIALECTS:
        dialect(kind).check_options(options)

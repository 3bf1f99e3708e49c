"""Which versions of ANSYS Electronics Desktop are installed on this machine.

The installer sets ANSYSEM_ROOT and the version for each: ANSYSEM_ROOT252 is 2025 R2.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jobmgr.errors import InvalidConfig, PathNotFound

_VARIABLE = re.compile(r"ANSYSEM_ROOT(\d{3})", re.IGNORECASE)
_LONG = re.compile(r"(?:20)?(\d\d)\s*[.R]\s*(\d)", re.IGNORECASE)
_FIELD = "ansys_edt_path"
# Given instead of a path: what `find` finds on the machine that runs it, which may not be the one where it is said.
NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class Installation:
    """One version: `version` as its variable has it ("252"), `root` the directory that it names."""

    version: str
    root: str
    variable: str

    @property
    def executable(self) -> str:
        """The program. Whether it is there is another question: see `find`."""
        return os.path.join(self.root, "ansysedt.exe" if os.name == "nt" else "ansysedt")


def installations(environ: Mapping[str, str]) -> tuple[Installation, ...]:
    """All that the environment names, oldest first; an empty variable names none."""
    found = {
        match[1]: Installation(match[1], root.rstrip(os.sep) or os.sep, name)
        for name, root in sorted(environ.items())
        if (match := _VARIABLE.fullmatch(name)) is not None and root
    }
    return tuple(found[version] for version in sorted(found, key=int))


def select(known: tuple[Installation, ...], version: str | None = None) -> Installation:
    """The newest, or that of a version written as 252, 25.2, 2025.2 or 2025R2. Raises InvalidConfig."""
    if not known:
        raise InvalidConfig(
            _FIELD,
            f"no ANSYS Electronics Desktop is known on {platform.node()}: give its path, or set ANSYSEM_ROOTnnn there"
            " (252: 2025 R2)",
        )
    if version is None:
        return known[-1]
    short = _short(version)
    for installation in known:
        if installation.version == short:
            return installation
    versions = ", ".join(installation.version for installation in known)
    raise InvalidConfig(
        _FIELD,
        f"version {version[:40]!r} is not known here ({versions} are): set ANSYSEM_ROOT{short}, or give its path",
    )


def find(environ: Mapping[str, str], version: str | None = None) -> str:
    """The path of ansysedt, of the newest version or of `version`. Raises InvalidConfig; PathNotFound if none is there.

    A newer version whose program is missing is told, not passed over: the older one would give other results.
    """
    chosen = select(installations(environ), version)
    if not Path(chosen.executable).is_file():
        raise PathNotFound(
            _FIELD,
            f"{chosen.variable} names {chosen.root}, where no ansysedt is: correct or unset it, choose another version,"
            " or give the path",
        )
    return chosen.executable


def _short(version: str) -> str:
    match = _LONG.fullmatch(version.strip())
    return f"{match[1]}{match[2]}" if match is not None else version.strip()

"""Which programs a client may name as ansysedt.

Whoever posts a configuration names a program that this machine then starts. A configuration is taken for data, is
handed on, and is posted by scripts that somebody else wrote: it must not be a way to start just anything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jobmgr.errors import InvalidConfig
from jobmgr.hfss import installation

SETTING = "JOBMGR_HFSS_PROGRAMS"
_FIELD = "ansys_edt_path"


@dataclass(frozen=True, slots=True)
class Programs:
    """Those that are `named`, each a program or a directory of them.

    None: the installations of this machine, and what belongs to `uid`, the service's user, who is not root.
    """

    named: tuple[str, ...] | None = None
    uid: int | None = None

    @classmethod
    def of(cls, setting: str | None, uid: int | None) -> Programs:
        """As the setting has them: paths with colons (on Windows semicolons) between. `uid`: the service's user."""
        # Nearly every program of a machine is root's: that is no choice of programs.
        owner = uid or None
        return cls(None if setting is None else tuple(filter(None, setting.split(os.pathsep))), owner)

    def check(self, path: str, environ: Mapping[str, str]) -> str:
        """The program behind a path, by a name in which no link is the client's; InvalidConfig if it may not be named.

        What is beside a program is started too, and links may lead elsewhere tomorrow: so only what this answers may be
        kept. Blocks as long as the file system does.
        """
        if not os.path.isabs(path):  # noqa: PTH117 -- a rule on text
            raise InvalidConfig(_FIELD, f"{path[:200]!r} is relative; give the absolute path of ansysedt")
        real = Path(os.path.realpath(path))
        found = self._installed(real, environ) if self.named is None else self._named(real)
        if found is None:
            raise InvalidConfig(
                _FIELD,
                f"{path[:200]!r} may not be started on request: it is no installation that this service knows"
                f" (ANSYSEM_ROOTnnn), and not of its user (unless that is root); give {installation.NEWEST!r}, or name"
                f" it in {SETTING}",
            )
        return found

    def _named(self, real: Path) -> str | None:
        is_named = any(real.is_relative_to(os.path.realpath(each)) for each in self.named or ())
        return str(real) if is_named else None

    def _installed(self, real: Path, environ: Mapping[str, str]) -> str | None:
        for each in installation.installations(environ):
            if real == Path(os.path.realpath(each.executable)):
                # Its launcher lies below its own root, wherever its ansysedt is a link to.
                return each.executable
        return str(real) if self._is_own(real) else None

    def _is_own(self, real: Path) -> bool:
        try:
            return self.uid is not None and real.stat().st_uid == self.uid
        except OSError:
            return False

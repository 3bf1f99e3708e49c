"""Programs that answer as schedulers do which cannot be had here, and really run what they are given.

`install` puts them into a directory. They keep their jobs in it, with nobody in the background but one process per
running job. What they print was recorded of OpenPBS 23.06.06 and volclava 2.2, or is what IBM documents of LSF 10.1.
Standard library only, so that they start quickly.
"""

from __future__ import annotations

import sys
from pathlib import Path

_PROGRAM = """\
#!/bin/sh
exec {python} -I -S -c 'import sys; sys.path.insert(0, sys.argv.pop(1))
from tests.pretenders.{module} import main
main(*sys.argv[1:])' {here} {directory} {kind} {name} "$@"
"""
_PROGRAMS = {
    "openpbs": ("qsub", "qselect", "qstat", "qdel", "qhold", "qrls", "qsig", "qalter", "qmove"),
    "lsf": ("bsub", "bjobs", "bhist", "bkill", "bstop", "bresume", "bmod", "bparams"),
}


def install(directory: Path, scheduler: str, kind: str) -> Path:
    """Make a scheduler without jobs in `directory`; answers where its programs are."""
    programs = directory / "bin"
    programs.mkdir(parents=True)
    for name in _PROGRAMS[scheduler]:
        text = _PROGRAM.format(
            python=sys.executable,
            module=scheduler,
            here=Path(__file__).parents[2],
            directory=directory,
            kind=kind,
            name=name,
        )
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return programs

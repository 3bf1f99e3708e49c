"""A stand-in for an installation of ANSYS: its directory with a program that is told what to do."""

from __future__ import annotations

from pathlib import Path

# ANSYS's own launcher sets up an environment and starts what it is given.
_LAUNCHER = '#!/bin/sh\nexec "$@"\n'


def install(directory: Path, body: str) -> str:
    """Make an installation whose ansysedt is the shell text `body`; the path of that program."""
    scripts = directory / "schedulers" / "scripts" / "utils"
    scripts.mkdir(parents=True)
    for file, text in (
        (scripts / "ansysedt_launcher.sh", _LAUNCHER),
        (scripts / "slurm_srun_wrapper.sh", _LAUNCHER),
        (directory / "ansysedt", f"#!/bin/sh\n{body}"),
    ):
        file.write_text(text)
        file.chmod(0o755)
    return str(directory / "ansysedt")

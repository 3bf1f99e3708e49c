"""Stand-ins for installations of ANSYS: a directory whose ansysedt is told what to do."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from tests import ansysedt

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


def install_solver(directory: Path) -> str:
    """Make an installation whose ansysedt behaves as one (tests/ansysedt.py); the path of that program.

    Its directory is what `ANSYSEM_ROOT252` names.
    """
    # Without site-packages it starts in a fraction of the time.
    program = shlex.join((sys.executable, "-I", "-S", ansysedt.__file__))
    return install(directory, f'exec {program} "$@"\n')


def make_project(path: Path, **plan: Any) -> str:
    """Make a project, a file .aedt or a directory .aedb, or change its plan (`ansysedt.Plan`); its path."""
    ansysedt.Plan(**plan)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path
    if path.suffix == ".aedb":
        path.mkdir(exist_ok=True)
        file = path / "edb.def"
    file.write_text(json.dumps(plan))
    return str(path)


def log_of(project: str | Path) -> Path:
    """The log of the latest run of a project."""
    path = Path(project)
    found = sorted(
        path.parent.glob(f"{path.stem}.aedb.batchinfo.*"), key=lambda folder: int(folder.suffix[1:])
    )
    assert found, f"no run of {path} has begun"
    return found[-1] / f"{path.stem}.log"


def engines_of(project: str | Path) -> list[int]:
    """The pids of the engines of the latest run of a project."""
    return [int(line) for line in (log_of(project).parent / "engines").read_text().split()]

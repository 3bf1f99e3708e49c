"""The programs that pyedb's job manager had, under their names: `python -m jobmgr.compat.pyedb.NAME`.

They are commands of `jobmgr hfss` with the same flags; where these say nothing, what the original took.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import click

from jobmgr.cli import hfss, output
from jobmgr.cli.main import run

# As pyedb's documents say.
_SERVICE = MappingProxyType(
    {
        "host": os.environ.get("PYEDB_JOB_MANAGER_HOST") or "localhost",
        "port": os.environ.get("PYEDB_JOB_MANAGER_PORT") or hfss.PORT,
    }
)
# Each with what it took where its flags say nothing.
PROGRAMS: Mapping[str, tuple[click.Command, Mapping[str, Any]]] = MappingProxyType(
    {
        "start_service": (hfss.start, {}),
        # It had no flag for the disk, and the limit of its class.
        "job_manager_handler": (hfss.start, {"min_disk_gb": 2.0}),
        "submit_local_job": (hfss.submit, _SERVICE),
        "submit_job_on_scheduler": (hfss.submit_scheduler, _SERVICE),
        "submit_batch_jobs": (hfss.submit_batch, _SERVICE),
    }
)


def tell() -> None:
    """Print them, with what each does."""
    for name, (command, _) in PROGRAMS.items():
        output.line(f"python -m jobmgr.compat.pyedb.{name:<24}{command.get_short_help_str(60)}")


def main(name: str, arguments: Sequence[str] | None = None) -> None:
    """Run one of them and exit with what the shell is to learn; see `jobmgr --help`."""
    command, defaults = PROGRAMS[name]
    sys.exit(run(arguments, command, name, defaults))

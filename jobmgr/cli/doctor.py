"""`doctor`: is this installation in order, and what is to be done if not. Works with and without a service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict

import click

from jobmgr.cli import output, table
from jobmgr.cli.database import warn_of_password
from jobmgr.doctor.visit import examine
from jobmgr.domain.checkup import Check, Verdict, worst

_PROBLEM = 1


@click.command()
@click.option("--database", metavar="URL", help="Another one than JOBMGR_DATABASE.")
@click.option("--work-dir", metavar="DIR", help="Another one than JOBMGR_WORK_DIR.")
@click.option("--full", is_flag=True, help="Leave nothing out, however long it takes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(*, database: str | None, work_dir: str | None, full: bool, as_json: bool) -> int:
    """Check this installation and say what to do. Nothing is changed.

    Give the same options as to `jobmgr serve`. Exit codes: 0 nothing but warnings, 1 a problem was found.
    """
    warn_of_password(database)
    url = click.get_current_context().find_root().params["url"]
    flags = {"database": database, "work_dir": work_dir}
    checks = asyncio.run(examine(flags, os.environ, url=url, full=full))
    if as_json:
        output.as_json({"verdict": worst(checks), "checks": [asdict(check) for check in checks]})
    else:
        output.show(table.checks_table(checks))
        output.lines(_remedies(checks))
    return _PROBLEM if worst(checks) is Verdict.PROBLEM else 0


def _remedies(checks: Sequence[Check]) -> list[str]:
    """A line for each thing that can be done, after an empty one."""
    names: dict[str, list[str]] = {}
    for check in checks:
        if check.remedy:
            names.setdefault(check.remedy, []).append(check.name)
    return ["", *(f"{', '.join(group)}: {remedy}" for remedy, group in names.items())] if names else []

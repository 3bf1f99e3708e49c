"""Judges directories of attempts that the database does not know."""

from __future__ import annotations

from jobmgr.doctor.amount import in_bytes, some
from jobmgr.doctor.facts import Remains, Trouble
from jobmgr.domain.checkup import Check, ok, unchecked, warning
from jobmgr.domain.resources import counted

_OTHER_DATABASE = "if no other database uses this work directory"


def judge_controls(remains: Remains | Trouble) -> Check:
    """Control directories: none should be there without a row, unless the job was deleted or a backup restored."""
    name = "control directories"
    if isinstance(remains, Trouble):
        return unchecked(name, remains.reason)
    if not remains.unknown:
        return ok(name, f"{_seen(remains)}, all of known attempts")
    found = f"{len(remains.unknown)} of {_seen(remains)} belong to no known attempt: {_names(remains)}"
    return warning(name, found, f"remove them {_OTHER_DATABASE} and no process is left of them")


def judge_runs(remains: Remains | Trouble) -> Check:
    """Run directories: those of deleted jobs stay until somebody removes them."""
    name = "run directories"
    if isinstance(remains, Trouble):
        return unchecked(name, remains.reason)
    if not remains.unknown:
        return ok(name, f"{_seen(remains)}, all of known attempts")
    size = ""
    if remains.extent is not None:
        size = f", {'at least ' * remains.extent.is_cut}{in_bytes(remains.extent.size_bytes)}"
    found = f"{len(remains.unknown)} of {_seen(remains)} belong to no known attempt{size}: {_names(remains)}"
    return warning(name, found, f"remove what is not needed of them {_OTHER_DATABASE}")


def _seen(remains: Remains) -> str:
    cut = " (not all were looked at, --full does)" if remains.seen.is_cut else ""
    return counted(len(remains.seen.attempts), "directory", "directories") + cut


def _names(remains: Remains) -> str:
    return some([f"{job_id}/{number}" for job_id, number in sorted(remains.unknown)])

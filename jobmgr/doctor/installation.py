"""Judges settings and software."""

from __future__ import annotations

from jobmgr.doctor.facts import Configuration, Software
from jobmgr.domain.checkup import Check, ok, problem, warning

_OLDEST_SQLITE = (3, 35)  # UPDATE … RETURNING


def judge_settings(facts: Configuration) -> Check:
    """Which settings are in force, and whether anything about them is odd."""
    name = "settings"
    origin = "; ".join(f"{where}: {', '.join(names)}" for where, names in facts.origins.items())
    found = f"state directory {facts.settings.home} ({origin or 'nothing set, all defaults'})"
    if facts.open_secrets:
        files = " ".join(map(str, facts.open_secrets))
        return problem(name, f"others may read {files} and so pass as its owner", f"`chmod 600 {files}`")
    if facts.strangers:
        unknown = ", ".join(facts.strangers)
        return warning(
            name, f"{found}; unknown: {unknown}", "correct or unset these variables; they do nothing"
        )
    if facts.faults_are_on:
        return warning(name, f"{found}; fault points are on", "unset JOBMGR_FAULTS, which is for tests only")
    return ok(name, found)


def judge_software(facts: Software) -> Check:
    """Whether this product can work on this machine."""
    name = "software"
    sqlite = ".".join(map(str, facts.sqlite))
    found = f"jobmgr {facts.jobmgr}, Python {facts.python}, SQLite {sqlite}"
    if facts.sqlite < _OLDEST_SQLITE:
        oldest = ".".join(map(str, _OLDEST_SQLITE))
        return problem(name, found, f"use a Python with SQLite {oldest} or newer")
    if not facts.can_run_commands:
        return problem(name, f"{found}; no commands can be run on this system", "run the service on Linux")
    return ok(name, found)

"""One visit: settings, facts, judgements, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jobmgr.doctor import attempts, clock, database, directories, disk, holders, installation, server, service
from jobmgr.doctor.facts import Facts, Trouble
from jobmgr.doctor.gathering import Request, gather, software
from jobmgr.domain.checkup import Check, problem, unchecked
from jobmgr.errors import InvalidRequest
from jobmgr.settings import load
from jobmgr.store.file import File

_ROWS = ("attempts", "orphans", "control directories", "run directories", "dispatchers")


async def examine(
    flags: Mapping[str, object | None], environment: Mapping[str, str], *, url: str | None, full: bool
) -> list[Check]:
    """Look at the installation that these settings mean. Changes nothing, and raises nothing that can be foreseen."""
    here = software()
    if not here.can_run_commands:
        return [installation.judge_software(here)]  # What else is looked at exists on Linux only.
    try:
        facts = await gather(Request(load(flags, environment), environment, url, full))
    except InvalidRequest as error:
        remedy = "correct it where it is set: jobmgr.toml, a JOBMGR_* variable, or an option"
        return [problem("settings", str(error), remedy), installation.judge_software(here)]
    return list(judge(facts))


def judge(facts: Facts) -> Iterator[Check]:
    """All checks."""
    yield installation.judge_settings(facts.configuration)
    yield installation.judge_software(facts.software)
    if facts.file is not None:
        yield from database.judge_file(facts.file, facts.schema, facts.uid)
        yield disk.judge_space("database disk", facts.file.space)
    if facts.server is not None:
        yield from server.judge(facts, facts.server)
    yield clock.judge(facts)
    yield disk.judge_work(str(facts.configuration.settings.work_dir), facts.place)
    yield disk.judge_space(
        "work disk", facts.place if isinstance(facts.place, Trouble) else facts.place.space
    )
    yield service.judge(facts.left, facts.health, facts.software.jobmgr, is_served=facts.is_served)
    yield from service.judge_sites(facts.health)
    yield from holders.judge(facts.crowd)
    yield from _rows(facts)


def _rows(facts: Facts) -> Iterator[Check]:
    rows = facts.rows
    if facts.file is not None and isinstance(facts.file.file, File) and facts.file.file.is_lost:
        # What is there belongs to attempts of the database that is gone; nothing of it may be called superfluous.
        rows = Trouble("the database is not there")
    if isinstance(rows, Trouble):
        yield from (unchecked(name, rows.reason) for name in _ROWS)
        return
    yield attempts.judge(rows, facts.now, is_served=facts.is_served)
    yield attempts.judge_orphans(rows.orphans)
    yield directories.judge_controls(rows.controls)
    yield directories.judge_runs(rows.runs)
    yield attempts.judge_dispatchers(rows.neighbours, facts.now)

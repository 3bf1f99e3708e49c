"""Gathers the facts. Nothing is changed: the probes of locks and links use files of their own and remove them."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import jobmgr
from jobmgr import fault, monitor, settings
from jobmgr.client import address, health
from jobmgr.client.announcement import last_announced
from jobmgr.client.health import Health
from jobmgr.doctor import traces
from jobmgr.doctor.facts import (
    Configuration,
    Facts,
    Place,
    Rows,
    Software,
    SqliteFile,
    Trouble,
    asked,
    known,
)
from jobmgr.doctor.traces import Left
from jobmgr.errors import NoServiceRunning
from jobmgr.executors import census, probe, process
from jobmgr.settings import Settings
from jobmgr.store import census as registry
from jobmgr.store import durability, file, integrity, locking, postgresql, schema, server, sqlite
from jobmgr.store.address import shown
from jobmgr.store.census import Census
from jobmgr.store.observer import Observer
from jobmgr.store.schema import Standing
from jobmgr.store.server import Server

_DATABASE_TIMEOUT_S = 5.0
_SERVICE_TIMEOUT_S = 3.0
_WRITER_PATIENCE_S = 3.0
_QUICK_CHECK_S = 5.0
_NOTHING_TO_READ = Trouble("there is no database to read")


@dataclass(frozen=True, slots=True)
class Request:
    """What the caller asked for: `url` of another service than this home's, `full` for all that takes long."""

    settings: Settings
    environment: Mapping[str, str]
    url: str | None
    full: bool


async def gather(request: Request) -> Facts:
    """Look at everything; what cannot be looked at is a Trouble. Raises InvalidRequest for a bad setting."""
    given = request.settings
    password = await asyncio.to_thread(given.fetched, "database_password", request.environment)
    observer = Observer(given.database, _DATABASE_TIMEOUT_S, password)
    try:
        # Before the database, because a row is committed before its directory and processes are made.
        left = await asyncio.to_thread(traces.left_in, given.work_dir, full=request.full)
        # Who holds locks is asked before this process has the database open.
        found = await asyncio.to_thread(_outside, observer.file) if observer.is_sqlite else None
        answer = None if observer.is_sqlite else await asked(observer, server.look)
        standing = await _standing(observer, found, answer)
        checked = await _checked(observer, found, standing, full=request.full)
        rows = await _rows(observer, found, standing, left, full=request.full)
        return Facts(
            now=datetime.now(UTC),  # later than all that was read, or what is new would lie in the future
            uid=os.geteuid(),
            software=software(),
            configuration=_configuration(request, observer),
            file=checked,
            server=answer,
            schema=standing,
            connections_needed=postgresql.CONNECTIONS,
            rows=rows,
            place=await asyncio.to_thread(known, _place, given.work_dir),
            left=last_announced(given.home),
            health=await _health(request),
            crowd=await asyncio.to_thread(known, census.crowd, given.work_dir),
        )
    finally:
        await observer.close()


def software() -> Software:
    """What runs here."""
    return Software(
        jobmgr=jobmgr.__version__,
        python=platform.python_version(),
        sqlite=sqlite.LIBRARY_VERSION,
        can_run_commands=process.may_adopt_orphans,
    )


def _configuration(request: Request, observer: Observer) -> Configuration:
    given = request.settings
    return Configuration(
        settings=given,
        database=shown(observer.url),
        origins=settings.origins(request.environment),
        strangers=settings.strangers(request.environment),
        faults_are_on=fault.is_on,
        open_secrets=tuple(
            path for path in (given.token_file, given.job_key_file) if (_mode(path) or 0) & 0o077
        ),
    )


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        return None


def _outside(path: Path) -> SqliteFile:
    found = known(file.look, path)
    directory = known(_nearest, path.parent)
    if isinstance(directory, Trouble):
        return SqliteFile(found, directory, directory, directory)
    kind = durability.file_system(path.resolve())
    return SqliteFile(
        file=found,
        lock_failures=known(locking.failures, directory),
        integrity=_NOTHING_TO_READ,
        space=known(monitor.space, directory),
        file_system=kind,
        is_network=durability.is_network(kind),
        writer=locking.writer(path, _WRITER_PATIENCE_S),
        occupant=locking.occupant(path),
    )


async def _standing(
    observer: Observer, found: SqliteFile | None, answer: Server | Trouble | None
) -> Standing | Trouble:
    if isinstance(answer, Trouble):
        return answer  # Waiting for the server once more would show the same.
    if found is None or found.is_database:
        return await asked(observer, schema.standing)
    return (
        Trouble("the database cannot be looked at") if isinstance(found.file, Trouble) else _NOTHING_TO_READ
    )


async def _checked(
    observer: Observer, found: SqliteFile | None, standing: Standing | Trouble, *, full: bool
) -> SqliteFile | None:
    if found is None:
        return None
    if isinstance(standing, Trouble):
        return replace(found, integrity=standing)
    return replace(found, integrity=await asked(observer, integrity.check, None if full else _QUICK_CHECK_S))


async def _rows(
    observer: Observer, found: SqliteFile | None, standing: Standing | Trouble, left: Left, *, full: bool
) -> Rows | Trouble:
    if found is not None and found.is_new:
        # What is left in a work directory whose database was deleted is known to nobody.
        return await traces.compare(observer, left, Census(), full=full)
    if isinstance(standing, Trouble):
        return standing
    if not standing.is_current:
        return Trouble("its tables are not those of this version")
    taken = await asked(observer, registry.take, left.tokens, left.attempts)
    return taken if isinstance(taken, Trouble) else await traces.compare(observer, left, taken, full=full)


def _place(work_dir: Path) -> Place:
    directory = _nearest(work_dir)
    kind = durability.file_system(work_dir.resolve())
    return Place(
        exists=directory == work_dir,
        file_system=kind,
        is_network=durability.is_network(kind),
        decides_once=known(probe.decides_once, directory),
        space=known(monitor.space, directory),
    )


def _nearest(path: Path) -> Path:
    """`path`, or of what lies above it the next that exists. Raises OSError if that cannot be seen."""
    return path if path.exists() else _nearest(path.parent)


async def _health(request: Request) -> Health | None:
    locate = address.find_service(request.url, request.settings.token, request.environment)
    try:
        found = locate()
    except NoServiceRunning:
        return None
    return await health.ask(found, _SERVICE_TIMEOUT_S)

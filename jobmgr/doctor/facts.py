"""What is known about an installation before anything is judged.

A fact that could not be gathered is a `Trouble` with the reason, and what depends on it says so.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

from jobmgr.client.announcement import Announcement
from jobmgr.client.health import Health
from jobmgr.errors import JobmgrError
from jobmgr.executors.census import Carrier, Crowd
from jobmgr.executors.directories import Extent, Found
from jobmgr.executors.evidence import Finding
from jobmgr.monitor import Space
from jobmgr.settings import Settings
from jobmgr.store.census import LiveAttempt, Registered
from jobmgr.store.file import Content, File
from jobmgr.store.integrity import Integrity
from jobmgr.store.observer import Observer
from jobmgr.store.schema import Standing
from jobmgr.store.server import Server

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why something is not known."""

    reason: str


def known(look: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Trouble:
    """What `look` answers, or why it cannot."""
    try:
        return look(*args, **kwargs)
    except (JobmgrError, OSError, subprocess.TimeoutExpired) as error:
        return Trouble(str(error))


async def asked(observer: Observer, statements: Callable[..., T], *args: object) -> T | Trouble:
    """What the database answers, or why it cannot."""
    try:
        return await observer.read(statements, *args)
    except (JobmgrError, OSError) as error:
        return Trouble(str(error))


@dataclass(frozen=True, slots=True)
class Software:
    """Versions, and whether commands can be run on this operating system at all."""

    jobmgr: str
    python: str
    sqlite: tuple[int, ...]
    can_run_commands: bool


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings and where they came from; `strangers` are variables that are none.

    `open_secrets` are files of secrets that others may read.
    """

    settings: Settings
    database: str
    origins: Mapping[str, list[str]]
    strangers: list[str]
    faults_are_on: bool
    open_secrets: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A database file. `writer` is who keeps its write lock, `occupant` who keeps everybody out (process ids)."""

    file: File | Trouble
    lock_failures: tuple[str, ...] | Trouble
    integrity: Integrity | Trouble
    space: Space | Trouble
    file_system: str | None = None
    is_network: bool = False
    writer: int | None = None
    occupant: int | None = None

    @property
    def is_database(self) -> bool:
        """Whether there is something to be read."""
        return isinstance(self.file, File) and self.file.is_database

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever stored in it: it is not there, or was only just made."""
        return isinstance(self.file, File) and self.file.content in (Content.MISSING, Content.EMPTY)


@dataclass(frozen=True, slots=True)
class Place:
    """The work directory, or where it will be."""

    exists: bool
    file_system: str | None
    is_network: bool
    decides_once: bool | Trouble
    space: Space | Trouble


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A registered dispatcher as seen from here. `is_here`: of this boot and pid namespace, so we see if it lives.

    `is_silent` is None unless its heartbeat was watched.
    """

    registered: Registered
    is_here: bool
    is_other_boot: bool
    is_alive: bool
    is_stopped: bool
    is_silent: bool | None = None

    @property
    def is_elsewhere(self) -> bool:
        """Whether it may live where we cannot see it: on another machine, or in another container."""
        return not self.is_here and not self.is_other_boot


@dataclass(frozen=True, slots=True)
class Sighted:
    """A live attempt and what its control directory shows; `has_holder` and `runs` count if its gate is open."""

    attempt: LiveAttempt
    finding: Finding
    has_holder: bool = False
    runs: bool = False
    detail: str = ""

    @property
    def is_in_order(self) -> bool:
        """Whether it is held as a live attempt should be."""
        return self.finding is Finding.OPEN and self.has_holder


@dataclass(frozen=True, slots=True)
class Remains:
    """Directories of attempts that the database does not know; `extent` only where sizes matter."""

    seen: Found
    unknown: frozenset[tuple[str, int]]
    extent: Extent | None = None


@dataclass(frozen=True, slots=True)
class Orphan:
    """A process of an attempt that has ended, or that the database never heard of."""

    carrier: Carrier
    is_known: bool


@dataclass(frozen=True, slots=True)
class Rows:
    """What the database and this machine say about each other."""

    newest_event: datetime | None
    neighbours: list[Neighbour]
    live: list[Sighted]
    orphans: list[Orphan]
    controls: Remains | Trouble
    runs: Remains | Trouble


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything. Of `file` and `server` one is there, as the database is one or the other."""

    now: datetime
    uid: int
    software: Software
    configuration: Configuration
    file: SqliteFile | None
    server: Server | Trouble | None
    schema: Standing | Trouble
    connections_needed: int
    rows: Rows | Trouble
    place: Place | Trouble
    left: Announcement | None
    health: Health | None
    crowd: Crowd | Trouble

    @property
    def is_served(self) -> bool:
        """Whether a service on this database is seen at work from here."""
        return isinstance(self.rows, Rows) and any(one.is_alive for one in self.rows.neighbours)

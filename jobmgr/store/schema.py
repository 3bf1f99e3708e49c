"""The schema's version: Alembic is the only way it changes, and its files travel inside the wheel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from jobmgr.errors import SchemaMissing, SchemaTooNew, StoreError
from jobmgr.store.backend import MAY_TAKE

# A table of many millions of jobs may have to be gone through.
_UPGRADE_S = 3600.0


def migrations_directory() -> Path:
    """Where the migrations lie: in the installed package, or beside it in a source tree."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "migrations", package.parent / "migrations"):
        if (candidate / "env.py").exists():
            return candidate
    raise StoreError("the migrations are missing from this installation; install jobmgr again")


def head() -> str:
    """The revision this version of jobmgr works with."""
    revision = ScriptDirectory(str(migrations_directory())).get_current_head()
    if revision is None:
        raise StoreError("the migrations are empty; install jobmgr again")
    return revision


def current(connection: sa.Connection) -> str | None:
    """The revision of this database; None for one without our tables."""
    return MigrationContext.configure(connection).get_current_revision()


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a database's schema stands: its revision (None: no tables of ours), and the one that is needed."""

    revision: str | None
    head: str
    is_known: bool

    @property
    def is_current(self) -> bool:
        """Whether this version can work with the tables as they are."""
        return self.revision == self.head


def standing(connection: sa.Connection) -> Standing:
    """Compare the schema of this database with that of this version."""
    revision = current(connection)
    return Standing(revision, head(), revision is None or revision in _known())


def check(connection: sa.Connection) -> None:
    """Raise SchemaMissing if an upgrade is due, SchemaTooNew if the database is ahead of this version."""
    revision = current(connection)
    if revision == head():
        return
    _refuse_newer(revision)
    found = "has no jobmgr tables yet" if revision is None else f"is at revision {revision}, not {head()}"
    raise SchemaMissing(f"the database {found}; run `jobmgr db upgrade` with the same --database")


def upgrade(connection: sa.Connection, revision: str = "head") -> str:
    """Bring the database to `revision` in the caller's transaction; answers what was done in a sentence."""
    before = current(connection)
    _refuse_newer(before)
    if before is None and sa.inspect(connection).has_table("jobs"):
        raise StoreError("the database has a table `jobs` that is not ours; choose another database")
    _take_time(connection)
    command.upgrade(_configuration(connection), revision)
    after = current(connection)
    return f"the schema is at revision {after}" + ("" if before == after else f" (was {before or 'empty'})")


def _take_time(connection: sa.Connection) -> None:
    """Let statements last longer from here to the end of the transaction; locks are waited for as long as before."""
    connection.execution_options(**{MAY_TAKE: _UPGRADE_S})
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            "SELECT set_config('lock_timeout', current_setting('statement_timeout'), true), "
            f"set_config('statement_timeout', '{int(_UPGRADE_S)}s', true)"
        )


def downgrade(connection: sa.Connection, revision: str) -> None:
    """Take the database back to `revision`."""
    command.downgrade(_configuration(connection), revision)


def _known() -> set[str]:
    return {script.revision for script in ScriptDirectory(str(migrations_directory())).walk_revisions()}


def _refuse_newer(revision: str | None) -> None:
    if revision is not None and revision not in _known():
        raise SchemaTooNew(
            f"the database was written by a newer jobmgr (revision {revision}); upgrade jobmgr"
        )


def _configuration(connection: sa.Connection) -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    configuration.attributes["connection"] = connection
    return configuration

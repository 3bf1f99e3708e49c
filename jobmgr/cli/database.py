"""`db`: the schema of the database. These work on the database itself, not through a service."""

from __future__ import annotations

import os

import click

from jobmgr import service
from jobmgr.cli import output
from jobmgr.settings import Settings, has_password, load

_database = click.option("--database", metavar="URL", help="Another one than JOBMGR_DATABASE.")


@click.group()
def db() -> None:
    """Bring the database up to date, or check it."""


@db.command()
@_database
def upgrade(database: str | None) -> None:
    """Bring the tables to this version; needed once after each update with PostgreSQL."""
    output.line(service.upgrade_database(_settings(database)))


@db.command()
@_database
def check(database: str | None) -> None:
    """Say whether the tables fit this version."""
    output.line(service.check_database(_settings(database)))


def _settings(database: str | None) -> Settings:
    warn_of_password(database)
    return load({"database": database}, os.environ)


def warn_of_password(database: str | None) -> None:
    """Say what to do about a password in the URL of a database that was given on the command line."""
    if database is not None and has_password(database):
        output.note(
            "warning: everybody on this machine sees the password in --database (`ps`); leave it out there, and set "
            'database_password = "file:PATH" in jobmgr.toml, or use ~/.pgpass'
        )

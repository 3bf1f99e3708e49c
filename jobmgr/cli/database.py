"""`db`: the schema of the database. These work on the database itself, not through a service."""

from __future__ import annotations

import os

import click

from jobmgr import service
from jobmgr.cli import output
from jobmgr.settings import Settings, load

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
    return load({"database": database}, os.environ)

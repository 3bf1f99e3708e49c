"""The schema and its migrations: the same thing, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from jobmgr.errors import SchemaMissing, SchemaTooNew, StoreError
from jobmgr.store import schema
from jobmgr.store.engine import Database
from jobmgr.store.tables import Base, Job
from jobmgr.store.transaction import Transaction
from tests.store.worker import Worker

REVISIONS = [
    script.revision
    for script in ScriptDirectory(str(schema.migrations_directory())).walk_revisions("base", "heads")
][::-1]
NOTHING_TO_DO_ON_SQLITE = {"0005"}


@pytest_asyncio.fixture
async def empty(empty_database_url: str) -> AsyncIterator[Database]:
    """A database without tables."""
    database = Database(empty_database_url)
    await database.start()
    yield database
    await database.close()


async def execute(database: Database, statement: str) -> None:
    def run(tx: Transaction, _: object) -> list[None]:
        tx.connection.exec_driver_sql(statement)
        return [None]

    await database.write(run, None)


async def move(database: Database, revision: str, *, down: bool) -> None:
    def run(tx: Transaction, _: object) -> list[None]:
        connection = tx.connection
        if down:
            schema.downgrade(connection, revision)
        else:
            schema.upgrade(connection, revision)
        return [None]

    await database.write(run, None)


def differences(connection: sa.Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Base.metadata))


def shape(connection: sa.Connection) -> dict[str, object]:
    """Everything the database says about our tables, as text: also what `compare_metadata` does not look at."""
    inspector = sa.inspect(connection)
    found: dict[str, object] = {}
    for table in sorted(set(inspector.get_table_names()) - {"alembic_version"}):
        found[table] = {
            "columns": sorted(
                (column["name"], str(column["type"]), column["nullable"], str(column["default"]))
                for column in inspector.get_columns(table)
            ),
            "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
            "foreign keys": sorted(
                str(sorted(key.items(), key=str)) for key in inspector.get_foreign_keys(table)
            ),
            "unique": sorted(
                str(unique["column_names"]) for unique in inspector.get_unique_constraints(table)
            ),
            "checks": sorted(
                f"{check['name']}: {check['sqltext']}" for check in inspector.get_check_constraints(table)
            ),
        }
    if connection.dialect.name == "sqlite":
        indexes = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
    else:
        indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"
    found["indexes"] = [
        (name, " ".join(text.split()))
        for name, text in connection.exec_driver_sql(indexes)
        if "alembic" not in name
    ]
    return found


async def test_upgrade_from_empty_equals_the_models(empty: Database) -> None:
    await empty.upgrade()

    assert await empty.read(differences) == []


async def test_migrated_schema_is_the_one_the_models_would_make(empty: Database) -> None:
    def make(tx: Transaction, _: object) -> list[None]:
        Base.metadata.create_all(tx.connection)
        return [None]

    def drop(tx: Transaction, _: object) -> list[None]:
        Base.metadata.drop_all(tx.connection)
        return [None]

    await empty.write(make, None)
    by_models = await empty.read(shape)
    await empty.write(drop, None)
    await empty.upgrade()

    by_migrations = await empty.read(shape)

    assert by_migrations == by_models


@pytest.mark.parametrize("revision", REVISIONS)
async def test_revision_goes_down_and_up_again(empty: Database, revision: str) -> None:
    before = REVISIONS[REVISIONS.index(revision) - 1] if revision != REVISIONS[0] else "base"
    await move(empty, revision, down=False)
    there = await empty.read(shape)

    await move(empty, before, down=True)
    below = await empty.read(shape)
    await move(empty, revision, down=False)

    assert await empty.read(shape) == there
    assert (below == there) is (empty.is_sqlite and revision in NOTHING_TO_DO_ON_SQLITE)


async def test_downgrade_to_the_base_leaves_nothing(empty: Database) -> None:
    await empty.upgrade()

    await move(empty, "base", down=True)

    assert await empty.read(shape) == {"indexes": []}


async def test_upgrade_says_what_it_did(empty: Database) -> None:
    first, second = await empty.upgrade(), await empty.upgrade()

    assert first == f"the schema is at revision {REVISIONS[-1]} (was empty)"
    assert second == f"the schema is at revision {REVISIONS[-1]}"


async def test_upgrade_keeps_what_is_stored(database: Database) -> None:
    worker = await Worker.register(database)
    await worker.add("a")

    await database.upgrade()

    assert [job.job_id for job in await worker.all()] == ["a"]


async def test_missing_schema_is_named_with_the_command_that_makes_it(empty: Database) -> None:
    with pytest.raises(SchemaMissing, match="jobmgr db upgrade"):
        await empty.read(schema.check)


async def test_database_of_a_newer_version_is_left_alone(database: Database) -> None:
    await execute(database, "UPDATE alembic_version SET version_num = 'from_the_future'")

    with pytest.raises(SchemaTooNew, match="from_the_future"):
        await database.read(schema.check)
    with pytest.raises(SchemaTooNew, match="from_the_future"):
        await database.upgrade()


async def test_foreign_table_of_our_name_is_left_alone(empty: Database) -> None:
    await execute(empty, "CREATE TABLE jobs (salary INTEGER)")
    await execute(empty, "INSERT INTO jobs VALUES (7)")

    with pytest.raises(StoreError, match="not ours"):
        await empty.upgrade()

    salary = await empty.read(
        lambda connection: connection.exec_driver_sql("SELECT salary FROM jobs").scalar()
    )
    assert salary == 7


async def test_failed_upgrade_leaves_nothing_half_done(empty: Database) -> None:
    await execute(empty, "CREATE TABLE specs (foreign_column INTEGER)")

    with pytest.raises(Exception, match="specs"):
        await empty.upgrade()

    tables = await empty.read(lambda connection: sa.inspect(connection).get_table_names())
    assert tables == ["specs"]


def test_first_migration_holds_the_columns_of_later_front_doors() -> None:
    later = {"campaign_id", "parent_id", "index", "kind", "label", "user", "description", "draft"}
    later |= {"custom_status", "status_message", "extended_properties"}

    assert later <= set(Job.__table__.columns.keys())


def test_migrations_are_beside_the_package_or_in_it() -> None:
    assert (schema.migrations_directory() / "versions").is_dir()
    assert Path(schema.migrations_directory()).is_absolute()

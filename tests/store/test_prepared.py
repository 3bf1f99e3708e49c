"""Statements that are compiled once: what they refuse, and which limits hold for them too."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa

from jobmgr.errors import QueryTooSlow
from jobmgr.store import address
from jobmgr.store.engine import Database
from jobmgr.store.postgresql import Postgresql
from jobmgr.store.prepared import Prepared, listed
from jobmgr.store.sqlite import Sqlite
from jobmgr.store.tables import Job, Queue, Site

_LIMIT = Prepared(
    sa.update(Queue).where(Queue.name == sa.bindparam("of")).values(max_running=sa.bindparam("limit"))
)
_SITES = Prepared(sa.insert(Site), ("name", "executor", "configuration"))
_NAMES = Prepared(sa.select(Queue.name).where(listed(Queue.name, "names")).order_by(Queue.name))
# Counts for longer than anybody waits.
_COUNT = "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT -i FROM n) SELECT count(*) FROM n)"
_ENDLESS = Prepared(sa.select(sa.literal_column(_COUNT).label("n")))


async def test_parameter_that_is_forgotten_is_an_error(database: Database) -> None:
    with pytest.raises(KeyError, match="limit"):
        await database.read(lambda connection: _LIMIT.run(connection, [{"of": "default"}]))


@pytest.mark.parametrize("names", [[], ["default"], ["default", "nobody's"], ["x"] * 40_000])
async def test_list_of_any_length_is_one_parameter(database: Database, names: list[str]) -> None:
    found = await database.read(lambda connection: _NAMES.rows(connection, {"names": names}))

    assert [row.name for row in found] == [name for name in names if name == "default"]


async def test_nothing_to_run_is_not_sent(database: Database) -> None:
    await database.read(lambda connection: _LIMIT.run(connection, []))


async def test_time_limit_of_its_connection_holds(tmp_path: Path) -> None:
    backend = Sqlite(sa.make_url(f"sqlite:///{tmp_path / 'jobs.db'}"), statement_s=0.2)

    with pytest.raises(QueryTooSlow):
        await backend.read(lambda connection: _ENDLESS.rows(connection, {}))

    await backend.close()


async def test_value_that_does_not_fit_is_no_outage(postgresql_url: str) -> None:
    server = Postgresql(address.parse(postgresql_url))

    with pytest.raises(asyncpg.DataError, match="value out of int32 range"):
        await server.write(lambda connection: _LIMIT.run(connection, [{"of": "default", "limit": 2**40}]))

    await server.close()


async def test_transaction_that_fails_leaves_nothing(postgresql_url: str) -> None:
    server = Postgresql(address.parse(postgresql_url))

    def change_and_fail(connection: sa.Connection) -> None:
        _LIMIT.run(connection, [{"of": "default", "limit": 7}])
        raise KeyError("limit")

    with pytest.raises(KeyError):
        await server.write(change_and_fail)
    unchanged = await server.read(
        lambda connection: connection.scalar(sa.select(Queue.max_running).where(Queue.name == "default"))
    )

    await server.close()
    assert unchanged is None


async def test_rows_of_an_insert_are_one_statement_and_stay_in_order(postgresql_url: str) -> None:
    server = Postgresql(address.parse(postgresql_url))
    sent: list[tuple[str, bool]] = []

    def insert_two(connection: sa.Connection) -> None:
        sa.event.listen(
            connection,
            "before_cursor_execute",
            lambda *arguments: sent.append((arguments[2].partition(" ")[0], arguments[5])),
        )
        _SITES.run(
            connection, [{"name": name, "executor": "none", "configuration": value} for name, value in rows]
        )

    rows: list[tuple[str, object]] = [("b", [[1], []]), ("a", None)]
    await server.write(insert_two)
    found = await server.read(
        lambda connection: connection.execute(
            sa.select(Site.name, Site.configuration).where(Site.executor == "none").order_by(sa.text("ctid"))
        ).all()
    )

    await server.close()
    assert sent == [("INSERT", False)]
    assert [tuple(row) for row in found] == rows


async def test_who_listens_hears_of_them(database: Database) -> None:
    heard: list[str] = []

    def ask(connection: sa.Connection) -> None:
        sa.event.listen(connection, "before_cursor_execute", lambda *arguments: heard.append(arguments[2]))
        Prepared(sa.select(Job.id).where(listed(Job.id, "ids"))).rows(connection, {"ids": [1]})

    await database.read(ask)

    assert len(heard) == 1

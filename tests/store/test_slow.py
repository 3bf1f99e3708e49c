"""A statement that would take for ever: it is given up, said so, and the database is used on."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from jobmgr.errors import QueryTooSlow
from jobmgr.store import address
from jobmgr.store.backend import Backend
from jobmgr.store.postgresql import Postgresql, TimeLimits
from jobmgr.store.sqlite import Sqlite

FOR_EVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT -i FROM n) SELECT count(*) FROM n"


async def test_reading_that_takes_too_long_is_given_up(database_url: str) -> None:
    url = address.parse(database_url)
    backend: Backend = (
        Sqlite(url, statement_s=0.1)
        if url.get_backend_name() == "sqlite"
        else Postgresql(url, TimeLimits(statement_s=0.1))
    )

    with pytest.raises(QueryTooSlow, match=r"gave it up .* or for less"):
        await backend.read(lambda connection: connection.execute(sa.text(FOR_EVER)).scalar())
    afterwards = await backend.read(lambda connection: connection.execute(sa.text("SELECT 1")).scalar())
    await backend.close()

    assert afterwards == 1

"""Plans of the statements whose cost must not grow with the number of jobs, pinned to their indexes.

The statements are those the store really sends, caught on their way, on databases with statistics (ANALYZE) and
without: that is what an SQLite file is for ever, and a new PostgreSQL database in its first minutes.
"""

from __future__ import annotations

import pytest

from jobmgr.dispatch.admission import choose
from jobmgr.dispatch.roster import key_of
from jobmgr.store import attempts, claims
from jobmgr.store.claims import Claim
from jobmgr.store.engine import Database
from jobmgr.store.fence import fenced
from jobmgr.store.tables import Base
from jobmgr.store.transaction import Transaction
from tests.store import pinned, plans
from tests.store.pinned import PINNED, Pinned
from tests.store.worker import PLENTY, Worker, begun

# Those that nothing can take the place of. For pages see test_page_plan.py.
NEEDED = sorted(
    {str(index.name) for name in plans.GROWING for index in Base.metadata.tables[name].indexes}
    & {statement.index for statement in PINNED}
)


class _Undo(Exception):
    """Carries what was found out of a transaction that must not be committed."""


@pytest.mark.parametrize("statement", PINNED, ids=lambda statement: statement.name)
async def test_statement_reads_no_more_than_it_needs(filled: Database, statement: Pinned) -> None:
    def look(tx: Transaction, _: object) -> list[None]:
        raise _Undo(pinned.faults(tx, statement))

    with pytest.raises(_Undo) as undone:
        await filled.write(look, None)

    assert undone.value.args[0] == []


@pytest.mark.parametrize("index", NEEDED)
async def test_statement_that_lost_its_index_is_noticed(filled: Database, index: str) -> None:
    users = [statement for statement in PINNED if statement.index == index]

    def look(tx: Transaction, _: object) -> list[None]:
        tx.connection.exec_driver_sql(f"DROP INDEX {index}")
        raise _Undo([statement.name for statement in users if not pinned.faults(tx, statement)])

    with pytest.raises(_Undo) as undone:
        await filled.write(look, None)

    assert undone.value.args[0] == []


async def test_plan_that_is_kept_from_when_a_table_was_small_does_not_read_all_of_it(
    postgresql_url: str,
) -> None:
    database = Database(postgresql_url)
    await database.start()
    worker = await Worker.register(database)
    claimed = [await worker.claim_one() for _ in range(3) if await worker.add()]

    def work(tx: Transaction) -> None:
        claims.claim(tx, [Claim(worker.id, "local", PLENTY, choose)])
        attempts.start(tx, [begun(one) for one in claimed])
        fenced(tx, [key_of(one) for one in claimed])

    def look(tx: Transaction, _: object) -> list[None]:
        tx.connection.exec_driver_sql("ANALYZE")
        found = plans.of_work(tx.connection, lambda: work(tx), generic=True)
        raise _Undo([step for plan in found for step in plans.full_reads(plan)])

    await worker.add()
    with pytest.raises(_Undo) as undone:
        await database.write(look, None)

    await database.close()
    assert undone.value.args[0] == []

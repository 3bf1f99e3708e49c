"""Plans of the pages and totals that the API offers, pinned to their indexes: every filter in every order.

A page may walk an index, or the table, in its order: it ends where it is full. What it may not do is to gather and sort
what an index gives in that order, or read a table in no order at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from jobmgr.domain.job import JobFilter
from jobmgr.domain.status import Status
from jobmgr.store import listing
from jobmgr.store.engine import Database
from tests.store import plans

BY_TIME = frozenset({"-created", "created"})
NEVER: frozenset[str] = frozenset()
BY_ID = "uq_jobs_job_id|sqlite_autoindex_jobs_1"
# In order of submission SQLite walks the table itself, which is its primary key.
WALKS = "pk_jobs|SCAN jobs|SEARCH jobs USING INTEGER PRIMARY KEY|ix_jobs_priority"


@dataclass(frozen=True, slots=True)
class Listing:
    """A filter, the indexes that find its jobs (a pattern), and the orders in which they need no sorting.

    In other orders as many are sorted as the filter leaves: each index more would cost every submission.
    """

    wanted: JobFilter
    index: str
    ordered: frozenset[str]


LISTINGS = {
    "all": Listing(JobFilter(), WALKS, BY_TIME | {"-priority"}),
    "ids": Listing(JobFilter(ids=("j17", "j18")), BY_ID, NEVER),
    "beginning of an id": Listing(JobFilter(id_prefix="j2700"), BY_ID, NEVER),
    "tag": Listing(JobFilter(tag="tag-7"), "ix_job_tags_tag", NEVER),
    "user": Listing(JobFilter(user="user-8"), f"ix_jobs_user_status|{WALKS}", NEVER),
    "queue": Listing(JobFilter(queue="default"), f"ix_jobs_queue_status|{WALKS}", NEVER),
    "what runs": Listing(JobFilter(status=frozenset({Status.RUNNING})), "ix_jobs_(status|priority)", BY_TIME),
    "what has completed": Listing(
        JobFilter(status=frozenset({Status.COMPLETED})), f"ix_jobs_status|{WALKS}", BY_TIME
    ),
    "two statuses": Listing(
        JobFilter(status=frozenset({Status.QUEUED, Status.PENDING})), f"ix_jobs_status|{WALKS}", NEVER
    ),
    "user and status": Listing(
        JobFilter(user="user-8", status=frozenset({Status.COMPLETED})), "ix_jobs_user_status", BY_TIME
    ),
    "queue and status": Listing(
        JobFilter(queue="default", status=frozenset({Status.RUNNING})),
        "ix_jobs_(queue_status|status|priority)",
        BY_TIME,
    ),
}
WITHOUT_INDEX = {
    "name": JobFilter(name="name-7"),
    "pattern of a name": JobFilter(name="*7"),
    "site": JobFilter(site="local"),
    "executor": JobFilter(executor="local"),
}


# What a page shows, whatever selects it.
SHOWN = re.compile(
    r"SEARCH jobs_1 USING INTEGER PRIMARY KEY.*"
    r"|Index Scan using pk_jobs on jobs jobs_1 .*\n *Index Cond: \(id = ANY.*"
    r"|Bitmap Heap Scan on jobs jobs_1 .*\n *Recheck Cond: .*\n *-> *Bitmap Index Scan on pk_jobs .*"
)


def page_plan(connection: sa.Connection, wanted: JobFilter, order: str, cursor: str | None) -> str:
    """The plan of what selects the page: one statement, which reads what it shows by its key."""

    def read() -> object:
        return listing.page(connection, wanted, order, 100, cursor)

    (plan,) = plans.of_work(connection, read, generic=False)
    rest, times = SHOWN.subn("", plan)
    assert times == 1, plan
    # What is thought to be dear is compiled first, for longer than it takes.
    assert "JIT:" not in plan
    return rest


@pytest.mark.parametrize("is_first", [True, False], ids=["first page", "next page"])
@pytest.mark.parametrize("order", listing.ORDERS)
@pytest.mark.parametrize("name", LISTINGS)
async def test_page_is_read_by_its_index(filled: Database, name: str, order: str, is_first: bool) -> None:
    found = LISTINGS[name]
    cursor = None
    if not is_first:
        cursor = (await filled.read(listing.page, found.wanted, order, 1, None)).next_cursor
        assert cursor is not None

    plan = await filled.read(page_plan, found.wanted, order, cursor)

    assert re.search(found.index, plan)
    assert "Seq Scan on jobs" not in plan
    assert not (plans.full_reads(plan) and plans.sorts(plan))
    # PostgreSQL without statistics takes most filters for narrow, and sorts the few jobs it expects.
    if order in found.ordered and (filled.is_sqlite or await has_statistics(filled) or name == "all"):
        assert plans.sorts(plan) == []


async def has_statistics(database: Database) -> bool:
    return await database.read(
        lambda connection: (
            connection.exec_driver_sql("SELECT count(*) FROM pg_stats WHERE tablename = 'jobs'").scalar_one()
            > 0
        )
    )


@pytest.mark.parametrize("order", sorted(BY_TIME))
@pytest.mark.parametrize("name", WITHOUT_INDEX)
async def test_page_of_a_filter_without_index_ends_where_it_is_full(
    filled: Database, name: str, order: str
) -> None:
    if not filled.is_sqlite:
        pytest.skip("PostgreSQL chooses between walking and sorting by how many jobs it expects")

    plan = await filled.read(page_plan, WITHOUT_INDEX[name], order, None)

    assert plans.sorts(plan) == []


@pytest.mark.parametrize("name", [name for name in LISTINGS if name != "all"])
async def test_total_is_counted_in_its_index(filled: Database, name: str) -> None:
    found = LISTINGS[name]

    def count(connection: sa.Connection) -> str:
        def read() -> object:
            return listing.count(connection, found.wanted)

        return plans.of_work(connection, read, generic=False)[0]

    plan = await filled.read(count)

    # Up to its cap it may also walk: what most jobs are is found at once.
    assert re.search(f"{found.index}|Seq Scan on jobs", plan)
    assert re.search("TEMP B-TREE|Sort|Materialize|MATERIALIZE", plan) is None


async def test_total_of_everything_is_read_up_to_its_cap(filled: Database) -> None:
    def count(connection: sa.Connection) -> str:
        return plans.of_work(connection, lambda: listing.count(connection, JobFilter()), generic=True)[0]

    plan = await filled.read(count)

    # It walks an index, or the table, as long as the limit lets it; nothing is gathered or sorted before.
    assert re.search("TEMP B-TREE|Sort|Materialize|MATERIALIZE|Hash", plan) is None

"""Statements caught on their way to the database, and what its planner means to do for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from jobmgr.store.tables import Base

# The tables that grow with the number of jobs, or of API tokens.
GROWING = (
    "jobs",
    "attempts",
    "specs",
    "events",
    "job_tags",
    "dependencies",
    "idempotency",
    "api_tokens",
)
# Indexes that hold what is live, or wished for, and nothing of the history: they may be read as a whole.
SMALL = ("uq_attempts_live", "ix_jobs_cancelling", "ix_jobs_pausing")

_PLANNED = re.compile(r"\s*(SELECT|UPDATE|DELETE|WITH)")
_GROWING = f"({'|'.join(GROWING)})" + r"(_\d+)?\b"
# Queues are few: to put them in order costs nothing.
_SORT = re.compile(r"Sort Key: (?!(queues\.)?name$)|USE TEMP B-TREE FOR (.* OF )?ORDER BY")

_PREPARER = sa.make_url("postgresql+asyncpg://").get_dialect()().identifier_preparer
_KEYS = (sa.Index, sa.PrimaryKeyConstraint, sa.UniqueConstraint)

Statement = tuple[str, Any]


@contextmanager
def caught(connection: sa.Connection) -> Iterator[list[Statement]]:
    """The statements sent meanwhile that have a plan, each with its (first) parameters."""
    found: list[Statement] = []

    def catch(_connection: object, _cursor: object, text: str, parameters: Any, *_: object) -> None:
        if _PLANNED.match(text):
            found.append((text, parameters[0] if isinstance(parameters, list) else parameters))

    sa.event.listen(connection, "before_cursor_execute", catch)
    try:
        yield found
    finally:
        sa.event.remove(connection, "before_cursor_execute", catch)


def of_work(connection: sa.Connection, work: Callable[[], object], *, generic: bool) -> list[str]:
    """The plans of all statements that `work` runs; a plan is text, one line per step.

    With `generic` PostgreSQL is also asked for the plan for any values, which a prepared statement may end up with. In
    that one a value does not match the condition of a partial index.
    """
    with caught(connection) as statements:
        work()
    if connection.dialect.name == "sqlite":
        return [_of_sqlite(connection, *statement) for statement in statements]
    plans = [_of_postgresql(connection, *statement) for statement in statements]
    return plans + [_generic(connection, *statement) for statement in statements if generic]


def _of_sqlite(connection: sa.Connection, text: str, parameters: Any) -> str:
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", parameters)
    return "\n".join(str(row[3]) for row in rows)


def _of_postgresql(connection: sa.Connection, text: str, parameters: Any) -> str:
    return _lines(connection.exec_driver_sql(f"EXPLAIN {text}", parameters))


def _generic(connection: sa.Connection, text: str, parameters: Sequence[Any]) -> str:
    arguments = f"({', '.join(['NULL'] * len(parameters))})" if parameters else ""
    connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
    connection.exec_driver_sql(f"PREPARE looked_at AS {text}")
    plan = _lines(connection.exec_driver_sql(f"EXPLAIN EXECUTE looked_at{arguments}"))
    connection.exec_driver_sql("DEALLOCATE looked_at")
    return plan


def _lines(rows: Any) -> str:
    return "\n".join(str(row[0]) for row in rows)


def full_reads(plan: str, walks: str = "") -> list[str]:
    """The steps that read all of a growing table, or all of an index of one that is not small and not `walks`."""
    lines = plan.splitlines()
    return [
        line
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if _reads_table(line) or _walks_index(line, following, walks)
    ]


def sorts(plan: str) -> list[str]:
    """The steps that put rows in order: SQLite's temporary trees, and the keys that PostgreSQL sorts by."""
    return [line for line in plan.splitlines() if _SORT.search(line)]


def _reads_table(line: str) -> bool:
    on_sqlite = re.search(rf"SCAN {_GROWING}(?! USING)", line)
    return bool(on_sqlite or re.search(rf"Seq Scan on {_GROWING}", line))


def _walks_index(line: str, following: str, walks: str) -> bool:
    on_sqlite = re.search(rf"SCAN {_GROWING} USING (?:COVERING )?INDEX (?P<index>\w+)", line)
    skipping = re.search(rf"SEARCH {_GROWING} USING (?:COVERING )?INDEX (?P<index>\w+) \(ANY\(", line)
    on_postgresql = re.search(rf"Index (?:Only )?Scan (?:Backward )?using (?P<index>\w+) on {_GROWING}", line)
    on_bitmap = re.search(r"Bitmap Index Scan on (?P<index>\w+)", line)
    found = on_sqlite or skipping or on_postgresql or on_bitmap
    if found is None or found["index"] in (*SMALL, walks):
        return False
    if on_sqlite or skipping:
        return True
    # PostgreSQL says below the step by what it searches the index. A condition on a later column alone is no search:
    # the whole index is read for it.
    condition = following.partition("Index Cond: ")[2]
    return re.search(rf'\b"?{_leading_column(found["index"])}"?\b', condition) is None


def _leading_column(index: str) -> str:
    for table in Base.metadata.tables.values():
        for key in (table.primary_key, *table.indexes, *table.constraints):
            # The preparer makes the name as the naming convention has it.
            if isinstance(key, _KEYS) and _PREPARER.format_constraint(key) == index:
                return str(next(iter(key.columns)).name)
    raise AssertionError(f"there is no index {index!r}")

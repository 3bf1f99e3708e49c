"""Jobs as everybody sees them: from a row to an answer in one step, without a domain object between.

What costs most on a page is not the database, but times that are parsed and written as text again, and JSON that is
decoded and encoded again. So the database gives both as they travel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
import sqlalchemy.orm
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from jobmgr.domain.status import Status
from jobmgr.store import events
from jobmgr.store.prepared import Prepared, listed
from jobmgr.store.tables import Job, JobTag, Moment, Site
from jobmgr.wire.answers import ErrorAnswer, JobAnswer

# Makes the properties of an answer of their JSON: `msgspec.Raw` leaves them as they are.
Properties = Callable[[str], Any]


class travelling(FunctionElement[str]):  # noqa: N801 -- said in statements as a function
    """A time as `translation.moment_text` writes it; null stays null."""

    inherit_cache = True
    type = sa.Text()


@compiles(travelling, "sqlite")
def _of_text(element: travelling, compiler: Any, **options: Any) -> str:
    return f"replace({compiler.process(element.clauses, **options)}, ' ', 'T') || 'Z'"


@compiles(travelling, "postgresql")
def _of_timestamp(element: travelling, compiler: Any, **options: Any) -> str:
    moment = compiler.process(element.clauses, **options)
    return f"""to_char({moment} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


class _Gathered(FunctionElement[Any]):
    """The values of a column as one list, in no order; null or empty if there are none."""

    inherit_cache = True
    # The driver of PostgreSQL makes the list itself.
    type = sa.JSON().with_variant(sa.types.NullType(), "postgresql")


@compiles(_Gathered, "sqlite")
def _as_json(element: _Gathered, compiler: Any, **options: Any) -> str:
    return f"json_group_array({compiler.process(element.clauses, **options)})"


@compiles(_Gathered, "postgresql")
def _as_array(element: _Gathered, compiler: Any, **options: Any) -> str:
    return f"array_agg({compiler.process(element.clauses, **options)})"


class _Among(FunctionElement[bool]):
    """Whether a column is one of the values that a subquery selects, which is run once and before."""

    inherit_cache = True
    _is_implicitly_boolean = True  # `… = 1` behind it would keep SQLite from its key
    type = sa.Boolean()


@compiles(_Among, "sqlite")
def _in_list(element: _Among, compiler: Any, **options: Any) -> str:
    column, found = (compiler.process(part, **options) for part in element.clauses)
    return f"{column} IN {found}"


@compiles(_Among, "postgresql")
def _in_array(element: _Among, compiler: Any, **options: Any) -> str:
    # To IN it would join, by reading the whole table if it thinks that this is cheap.
    column, found = (compiler.process(part, **options) for part in element.clauses)
    return f"{column} = ANY (ARRAY{found})"


# Another name than the table's, which is free for those who select what is shown.
_JOB = sa.orm.aliased(Job)


def _column(name: str) -> Any:
    """What is selected for this field of the answer."""
    match name:
        case "executor":
            return Site.executor
        case "error":
            return _JOB.error_code.label("error")
        case "tags":
            return sa.select(_Gathered(JobTag.tag)).where(JobTag.job == _JOB.id).scalar_subquery().label(name)
        case "extended_properties":
            return sa.cast(_JOB.extended_properties, sa.Text).label(name)
    column = getattr(_JOB, name)
    return travelling(column).label(name) if isinstance(column.type, Moment) else column


_FIELDS = JobAnswer.__struct_fields__
# The columns are the fields of the answer in their order, and behind them what it is made with.
_COLUMNS = (*map(_column, _FIELDS), _JOB.error_message, _JOB.id)
_BY_ID = Prepared(
    sa.select(*_COLUMNS).join(Site, Site.name == _JOB.site).where(listed(_JOB.job_id, "job_ids"))
)


def by_id(connection: sa.Connection, job_ids: Sequence[str], properties: Properties) -> list[JobAnswer]:
    """Those of these jobs that there are, in no order."""
    return [answer(row, properties) for row in _BY_ID.rows(connection, {"job_ids": job_ids})]


def of_keys(found: sa.Select[Any]) -> Prepared:
    """The jobs whose keys `found` selects, in no order, each beside the event position (`epoch`, `seq`).

    That is one row at least; its `id` is null if there is no such job. A statement of its own sees one consistent
    state, so nothing else has to make one.
    """
    position = events.POSITION.subquery()
    shown = position.outerjoin(_JOB, _Among(_JOB.id, found.correlate(None).scalar_subquery())).outerjoin(
        Site, Site.name == _JOB.site
    )
    return Prepared(sa.select(*_COLUMNS, position.c.epoch, position.c.seq).select_from(shown))


def answer(row: Any, properties: Properties) -> JobAnswer:
    """The answer that a row of these shows."""
    shown = JobAnswer(*row[: len(_FIELDS)])
    shown.status = Status(row.status)
    # In the order of Python, not in that of the database, which is a matter of its locale.
    shown.tags = sorted(row.tags or ())
    shown.extended_properties = properties(row.extended_properties)
    if row.error is not None:
        shown.error = ErrorAnswer(row.error, row.error_message or "")
    return shown

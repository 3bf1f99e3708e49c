"""Jobs as everybody sees them: from a row to an answer in one step, without a domain object between.

What costs most on a page is not the database, but times that are parsed and written as text again, and JSON that is
decoded and encoded again. So the database gives both as they travel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from jobmgr.domain.status import Status
from jobmgr.store.prepared import Prepared, listed
from jobmgr.store.tables import Job, JobTag, Moment, Site
from jobmgr.wire.answers import ErrorAnswer, JobAnswer

# Makes the properties of an answer of their JSON: `msgspec.Raw` leaves them as they are.
Properties = Callable[[str], Any]


class _Travelling(FunctionElement[str]):
    """A time as `translation.moment_text` writes it; null stays null."""

    inherit_cache = True
    type = sa.Text()


@compiles(_Travelling, "sqlite")
def _of_text(element: _Travelling, compiler: Any, **options: Any) -> str:
    return f"replace({compiler.process(element.clauses, **options)}, ' ', 'T') || 'Z'"


@compiles(_Travelling, "postgresql")
def _of_timestamp(element: _Travelling, compiler: Any, **options: Any) -> str:
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


def _column(name: str) -> Any:
    """What is selected for this field of the answer."""
    match name:
        case "executor":
            return Site.executor
        case "error":
            return Job.error_code.label("error")
        case "tags":
            return sa.select(_Gathered(JobTag.tag)).where(JobTag.job == Job.id).scalar_subquery().label(name)
        case "extended_properties":
            return sa.cast(Job.extended_properties, sa.Text).label(name)
    column = getattr(Job, name)
    return _Travelling(column).label(name) if isinstance(column.type, Moment) else column


_FIELDS = JobAnswer.__struct_fields__
# The columns are the fields of the answer in their order, and behind them what it is made with.
_SHOWN = sa.select(*map(_column, _FIELDS), Job.error_message, Job.id).join(Site, Site.name == Job.site)
_BY_ID = Prepared(_SHOWN.where(listed(Job.job_id, "job_ids")))
_BY_KEY = Prepared(_SHOWN.where(listed(Job.id, "ids")))


def by_id(connection: sa.Connection, job_ids: Sequence[str], properties: Properties) -> list[JobAnswer]:
    """Those of these jobs that there are, in no order."""
    return [_answer(row, properties) for row in _BY_ID.rows(connection, {"job_ids": job_ids})]


def by_key(connection: sa.Connection, ids: Sequence[int], properties: Properties) -> list[JobAnswer]:
    """The jobs with these keys, in this order; there is one for each."""
    rows = {row.id: row for row in _BY_KEY.rows(connection, {"ids": ids})} if ids else {}
    return [_answer(rows[job], properties) for job in ids]


def _answer(row: Any, properties: Properties) -> JobAnswer:
    answer = JobAnswer(*row[: len(_FIELDS)])
    answer.status = Status(row.status)
    # In the order of Python, not in that of the database, which is a matter of its locale.
    answer.tags = sorted(row.tags or ())
    answer.extended_properties = properties(row.extended_properties)
    if row.error is not None:
        answer.error = ErrorAnswer(row.error, row.error_message or "")
    return answer

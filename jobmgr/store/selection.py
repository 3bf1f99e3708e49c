"""Which jobs a filter selects: their rows, in the order of a page, or their number.

Which statement that is depends on which fields are given; their values are its parameters. So each is made and
compiled once: to do that anew for each page took twice as long as the database.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from jobmgr.domain.job import MAX_LISTED_IDS, EventPosition, JobFilter
from jobmgr.domain.status import Status
from jobmgr.errors import InvalidRequest
from jobmgr.store import view
from jobmgr.store.prepared import Prepared, listed
from jobmgr.store.tables import Job, JobTag, Site

# So many statements are kept; those that nobody asks for any more make room.
_KEPT = 256
_ESCAPE = "\\"


def rows(
    connection: sa.Connection, wanted: JobFilter, order: str, after: tuple[int, int] | None, at_most: int
) -> tuple[list[Any], EventPosition]:
    """The rows (see view.of_keys) of the first jobs in this order, or of the first behind the job with this key and
    priority, and the event position at which they were read: with one statement.

    Raises InvalidRequest for too many ids, and for text that cannot be found.
    """
    dialect = connection.dialect.name
    values = {**_values(wanted, dialect), "at_most": at_most}
    if after is not None:
        values["last"], values["last_priority"] = after
    statement = _page(_Shape.of(wanted, dialect), order, is_next=after is not None)
    found = statement.rows(connection, values)
    position = EventPosition(found[0].epoch, found[0].seq)
    return sorted((row for row in found if row.id is not None), key=_PLACE[order]), position


_PLACE: Mapping[str, Callable[[Any], Any]] = {
    "-created": lambda row: -row.id,
    "created": lambda row: row.id,
    "-priority": lambda row: (-row.priority, row.id),
}


def count(connection: sa.Connection, wanted: JobFilter, at_most: int) -> int:
    """How many jobs there are, counted up to `at_most`. Raises InvalidRequest as `rows`."""
    dialect = connection.dialect.name
    values = {**_values(wanted, dialect), "at_most": at_most}
    (row,) = _number(_Shape.of(wanted, dialect)).rows(connection, values)
    return int(row.number)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What makes the text of a statement: the database, the conditions that it has, and the statuses."""

    dialect: str
    conditions: frozenset[str]
    statuses: frozenset[Status] | None

    @classmethod
    def of(cls, wanted: JobFilter, dialect: str) -> _Shape:
        given = {name for name in _CONDITIONS if getattr(wanted, name) is not None}
        if "*" in (wanted.name or ""):
            given = given - {"name"} | {"pattern"}
        return cls(dialect, frozenset(given), _statuses(wanted, dialect))


def _statuses(wanted: JobFilter, dialect: str) -> frozenset[Status] | None:
    if (
        wanted.status is None
        and dialect == "sqlite"
        and (wanted.user is not None or wanted.queue is not None)
    ):
        # All of them: its indexes have the status between these and the order, and it takes a page of each.
        return frozenset(Status)
    return wanted.status


def _values(wanted: JobFilter, dialect: str) -> dict[str, Any]:
    if wanted.ids is not None and len(wanted.ids) > MAX_LISTED_IDS:
        raise InvalidRequest("ids", f"{len(wanted.ids)} of them; ask for at most {MAX_LISTED_IDS} at once")
    if any(
        "\0" in job_id for job_id in wanted.ids or ()
    ):  # ends a text in SQLite's JSON: it would be another id
        raise InvalidRequest("ids", "contains a NUL character")
    return {
        "ids": wanted.ids,
        "id_prefix": wanted.id_prefix,
        # No character of an id comes after this one.
        "id_end": (wanted.id_prefix or "") + "\x7f",
        "user": wanted.user,
        "users": None if wanted.users is None else sorted(wanted.users),
        "queue": wanted.queue,
        "site": wanted.site,
        "executor": wanted.executor,
        "tag": wanted.tag,
        "name": None if wanted.name is None else _name(wanted.name, dialect),
    }


def _name(pattern: str, dialect: str) -> str:
    """The name that is looked for, or its pattern as this database writes it."""
    if "*" not in pattern:
        return pattern
    if "\0" in pattern:  # ends the pattern for SQLite, which would find other names then
        raise InvalidRequest("name", "contains a NUL character")
    if dialect == "sqlite":
        for special in "[?":
            pattern = pattern.replace(special, f"[{special}]")
        return pattern
    for special in f"{_ESCAPE}%_":
        pattern = pattern.replace(special, _ESCAPE + special)
    return pattern.replace("*", "%")


@functools.lru_cache(_KEPT)
def _page(shape: _Shape, order: str, *, is_next: bool) -> Prepared:
    key = _key(shape)
    columns: dict[str, Sequence[Any]] = {
        "-created": [key.desc()],
        "created": [key],
        "-priority": [Job.priority.desc(), key],
    }
    found = _filtered(shape).order_by(*columns[order]).limit(sa.bindparam("at_most"))
    # First which ones, from an index alone as far as possible, and then the whole rows of those few.
    return view.of_keys(found.where(_after(order, key)) if is_next else found)


@functools.lru_cache(_KEPT)
def _number(shape: _Shape) -> Prepared:
    found = _filtered(shape).limit(sa.bindparam("at_most")).subquery()
    return Prepared(sa.select(sa.func.count().label("number")).select_from(found))


def _key(shape: _Shape) -> sa.ColumnElement[int]:
    """What pages go by. The few jobs that ids select are found by their ids and sorted then."""
    if not shape.conditions & {"ids", "id_prefix"}:
        return Job.id.expression
    # No index holds this sum, so no planner looks for these jobs by walking all others in the order of the page.
    return Job.id + 0


def _after(order: str, key: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    last = sa.bindparam("last", type_=Job.id.type)
    priority = sa.bindparam("last_priority", type_=Job.priority.type)
    match order:
        case "created":
            return key > last
        case "-created":
            return key < last
        case _:
            # The first condition is implied, and one that an index can start from.
            return sa.and_(Job.priority <= priority, sa.or_(Job.priority < priority, key > last))


def _filtered(shape: _Shape) -> sa.Select[Any]:
    found = sa.select(Job.id)
    if shape.statuses is not None:
        statuses = [sa.literal(status.value) for status in sorted(shape.statuses)]
        found = found.where(Job.status.in_(statuses) if statuses else sa.false())
    for name in sorted(shape.conditions):
        found = found.where(_like(shape.dialect) if name == "pattern" else _CONDITIONS[name])
    return found


def _like(dialect: str) -> sa.ColumnElement[bool]:
    pattern = sa.bindparam("name", type_=Job.name.type)
    # LIKE ignores case on SQLite, GLOB does not.
    return Job.name.op("GLOB")(pattern) if dialect == "sqlite" else Job.name.like(pattern, escape=_ESCAPE)


# As `executor` means it in a submitted job (sites.place).
_OF_KIND = sa.select(Site.name).where(
    sa.or_(Site.executor == sa.bindparam("executor"), Site.dialect == sa.bindparam("executor"))
)
_TAGGED = sa.select(JobTag.job).where(JobTag.tag == sa.bindparam("tag"))
_CONDITIONS: Mapping[str, sa.ColumnElement[bool]] = {
    "ids": listed(Job.job_id, "ids"),
    "id_prefix": sa.and_(Job.job_id >= sa.bindparam("id_prefix"), Job.job_id < sa.bindparam("id_end")),
    "user": Job.user == sa.bindparam("user"),
    "users": listed(Job.user, "users"),
    "queue": Job.queue == sa.bindparam("queue"),
    "site": Job.site == sa.bindparam("site"),
    "executor": Job.site.in_(_OF_KIND),
    "tag": Job.id.in_(_TAGGED),
    "name": Job.name == sa.bindparam("name"),
}

"""Statements of the hot path: compiled once for each database, and sent by the driver itself where that is possible.

`Connection.execute` looks each statement up anew, and takes 12 µs for each row of parameters beside the 3 µs of the
database. These are the same statements, defined as all others; they differ only in how they are sent.
"""

from __future__ import annotations

import sqlite3
import time
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import AdaptedConnection
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles

from jobmgr.store.backend import DEADLINE, DIRECT, LIMIT, MAY_TAKE, STATEMENT_S, json_text
from jobmgr.store.portion import portions

Values = Mapping[str, Any]
Processor = Callable[[Any], Any]


class Prepared:
    """One statement. Its parameters are all named, and all given each time; a list is one of them (`listed`)."""

    def __init__(self, statement: Any, columns: Sequence[str] | None = None) -> None:
        self._statement = statement
        self._columns = columns  # of an insert: those that are given
        self._forms: dict[str, _Form] = {}

    def rows(self, connection: sa.Connection, values: Values) -> list[Any]:
        """What it selects or returns: named tuples, with the columns that SQLAlchemy's rows have."""
        form = self._form(connection)
        found = _send(connection, form.text, form.parameters(values))
        return [form.row(raw) for raw in found]

    def run(self, connection: sa.Connection, many: Iterable[Values]) -> None:
        """Run it for each of `many`; nothing if there are none."""
        form = self._form(connection)
        # In portions, because a statement has a time limit, and a user decides how many jobs are submitted at once.
        for some in portions(many):
            if form.takes_columns:
                columns = {name: [values[name] for values in some] for name, _, _ in form.names}
                _send(connection, form.text, form.parameters(columns))
            else:
                _send_many(connection, form.text, [form.parameters(values) for values in some])

    def _form(self, connection: sa.Connection) -> _Form:
        name = connection.dialect.name
        form = self._forms.get(name)
        if form is None:
            # Two threads may do this at once; they come to the same.
            form = self._forms[name] = _compile(self._statement, self._columns, connection.dialect)
        return form


@dataclass(frozen=True, slots=True)
class _Form:
    """The statement in the language of one database."""

    text: str
    names: Sequence[tuple[str, Any, Processor | None]]  # of the parameters in order; no name: a constant
    columns: Sequence[tuple[int, Processor]]  # those that have to be translated
    make: Callable[[Sequence[Any]], Any]
    takes_columns: bool = False  # Each parameter has the values of all rows.

    def parameters(self, values: Values) -> tuple[Any, ...]:
        return tuple(
            [
                constant if not name else values[name] if process is None else process(values[name])
                for name, constant, process in self.names
            ]
        )

    def row(self, raw: Sequence[Any]) -> Any:
        if not self.columns:
            return self.make(raw)
        values = list(raw)
        for index, process in self.columns:
            values[index] = process(values[index])
        return self.make(values)


def _record_of(names: Sequence[str]) -> Callable[[Sequence[Any]], Any]:
    build: Any = namedtuple  # The checker of types takes it for names that are known beforehand only.
    make: Callable[[Sequence[Any]], Any] = build("Found", names)._make
    return make


def _send(connection: sa.Connection, text: str, values: tuple[Any, ...]) -> Sequence[Any]:
    if (driver := _sqlite_driver(connection)) is not None:
        try:
            return driver.execute(text, values).fetchall()
        except sqlite3.Error as error:
            raise _wrapped(error, text, connection) from error
    if (direct := _postgresql_driver(connection)) is not None:
        return direct.run_async(lambda driver: driver.fetch(text, *values))
    found = connection.exec_driver_sql(text, values)
    return found.fetchall() if found.returns_rows else ()


def _send_many(connection: sa.Connection, text: str, many: list[tuple[Any, ...]]) -> None:
    if (driver := _sqlite_driver(connection)) is not None:
        try:
            driver.executemany(text, many)
        except sqlite3.Error as error:
            raise _wrapped(error, text, connection) from error
    elif (direct := _postgresql_driver(connection)) is not None:
        direct.run_async(lambda driver: driver.executemany(text, many))
    else:
        connection.exec_driver_sql(text, many)


def _sqlite_driver(connection: sa.Connection) -> sqlite3.Connection | None:
    """The driver's own connection, which has so much less to do that SQLAlchemy would be most of a statement."""
    pooled = connection.connection
    driver = pooled.dbapi_connection
    if not isinstance(driver, sqlite3.Connection) or _is_listened_to(connection):
        return None
    may_take_s = connection.get_execution_options().get(MAY_TAKE, pooled.info[STATEMENT_S])
    pooled.info[DEADLINE] = time.monotonic() + may_take_s
    return driver


def _postgresql_driver(connection: sa.Connection) -> AdaptedConnection | None:
    """The same of PostgreSQL, where SQLAlchemy has not got to begin the transaction first."""
    options = connection.get_execution_options()
    if not options.get(DIRECT) or _is_listened_to(connection):
        return None
    pooled = connection.connection
    pooled.info[LIMIT](options.get(MAY_TAKE))
    driver: Any = pooled.dbapi_connection
    assert isinstance(driver, AdaptedConnection)
    return driver


def _is_listened_to(connection: sa.Connection) -> bool:
    """Whoever listens to statements, beside our own time limit, hears of these too."""
    return len(connection.dispatch.before_cursor_execute) > 1


def _wrapped(error: sqlite3.Error, text: str, connection: sa.Connection) -> BaseException:
    """What SQLAlchemy would have raised."""
    return sa.exc.DBAPIError.instance(text, None, error, sqlite3.Error, dialect=connection.dialect)


def listed(column: Any, name: str) -> sa.ColumnElement[bool]:
    """Whether the column is in the list that is the parameter `name`; lists of all lengths are one statement."""
    return _Listed(column, sa.bindparam(name, type_=_List(column.type)))


class _Listed(sa.ColumnElement[bool]):
    """`column = ANY (list)`, which SQLite says in another way."""

    inherit_cache = False  # Prepared keeps what is compiled.
    _is_implicitly_boolean = True
    type = sa.Boolean()

    def __init__(self, column: Any, values: sa.BindParameter[Any]) -> None:
        self.column = column
        self.values = values


@compiles(_Listed, "postgresql")
def _any(element: _Listed, compiler: Any, **options: Any) -> str:
    return (
        f"{compiler.process(element.column, **options)} = ANY ({compiler.process(element.values, **options)})"
    )


@compiles(_Listed, "sqlite")
def _each(element: _Listed, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(part, **options) for part in (element.column, element.values))
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 -- a column and a placeholder


class _List(sa.types.TypeDecorator[Sequence[Any]]):
    """Many values of one type as one parameter."""

    impl = sa.Text
    cache_ok = False

    def __init__(self, item: sa.types.TypeEngine[Any]) -> None:
        super().__init__()
        self._item = item

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """An array where there are some."""
        return postgresql.ARRAY(self._item) if dialect.name == "postgresql" else sa.Text()

    def process_bind_param(self, value: Sequence[Any] | None, dialect: sa.Dialect) -> Any:
        """Else JSON."""
        return list(value or ()) if dialect.name == "postgresql" else json_text(value)


def _result_processor(kind: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> Processor | None:
    # Both drivers give floats for floats; SQLAlchemy would ask for the kind of each answer to be sure.
    return None if isinstance(kind, sa.Float) else kind.dialect_impl(dialect).result_processor(dialect, None)


def _parameter(
    name: str, bind: sa.BindParameter[Any], dialect: sa.Dialect
) -> tuple[str, Any, Processor | None]:
    process = bind.type.dialect_impl(dialect).bind_processor(dialect)
    if bind.required:
        return name, None, process
    return "", bind.value if process is None else process(bind.value), None


def _compile(statement: Any, columns: Sequence[str] | None, dialect: sa.Dialect) -> _Form:
    takes_columns = columns is not None and dialect.name == "postgresql"
    if columns is not None and takes_columns:
        statement = _insert_of_columns(statement.table, columns)
    compiled = statement.compile(dialect=dialect, column_keys=None if takes_columns else columns)
    assert not compiled.insert_prefetch, "a column has a default that only SQLAlchemy knows"
    binds = [(name, compiled.binds[name]) for name in compiled.positiontup]
    selected = list(statement.exported_columns)
    translated = [(index, _result_processor(column.type, dialect)) for index, column in enumerate(selected)]
    return _Form(
        compiled.string,
        [_parameter(name, bind, dialect) for name, bind in binds],
        [(index, process) for index, process in translated if process is not None],
        _record_of([column.key for column in selected]),
        takes_columns,
    )


def _insert_of_columns(table: sa.Table, columns: Sequence[str]) -> sa.Insert:
    """Rows as one array per column: PostgreSQL takes as long for each set of parameters as for a row."""
    arrays = [
        sa.bindparam(name, type_=postgresql.ARRAY(table.c[name].type, dimensions=1)) for name in columns
    ]
    rows = sa.func.unnest(*arrays).table_valued(*columns).render_derived(name="given")
    chosen = sa.select(*(rows.c[name] for name in columns))
    return sa.insert(table).from_select(list(columns), chosen, include_defaults=False)

#!/usr/bin/env python3
"""Prints docs/pyedb-routes.md from the table of routes: `python docs/pyedb_routes.py > docs/pyedb-routes.md`."""

from __future__ import annotations

import sys
from collections import defaultdict

import msgspec

from jobmgr.api.pyedb.routes import ROUTES
from jobmgr.api.route import Route

_HEAD = """\
# The routes of pyedb's job manager

Printed by `docs/pyedb_routes.py` from `jobmgr/api/pyedb/routes.py`. [hfss.md](hfss.md) says what is as in pyedb 0.64.0
and what is not; Socket.IO is in [events.md](events.md). Fields with `?` may be null or left out.

What is wrong is answered as `{success: false, error, code, field?}`: 400 with the field that it is about, 404 for what
there is not, 503 with `Retry-After` while the database or a site cannot be reached. What the guard refuses (401, 403,
413, 415, 421), and at the beginnings of these paths what is not there (404) and other methods (405), is told so, too.
Every route that changes something takes an `Idempotency-Key`.

| route | what it does | takes | answers | and if not |
| --- | --- | --- | --- | --- |
"""


def text() -> str:
    """The page."""
    return _HEAD + "".join(f"{_row(route)}\n" for route in ROUTES)


def _row(route: Route) -> str:
    takes = " ".join(_shape(struct) for struct in (route.query, route.body) if struct is not None)
    cells = (f"`{route.method} {route.path}`", route.summary, takes, _answer(route), _errors(route))
    return f"| {' | '.join(cells)} |"


def _answer(route: Route) -> str:
    assert isinstance(route.answer, type)
    shape = _shape(route.answer)
    told = f"{route.status} array of {shape}" if route.is_array else f"{route.status} {shape}"
    return f"{told}; 204 before there is anything" if route.may_be_empty else told


def _errors(route: Route) -> str:
    codes: defaultdict[int, list[str]] = defaultdict(list)
    for error in route.errors:
        codes[route.manner.status_of(error)].append(f"`{error.code}`")
    return "; ".join(f"{status} {', '.join(dict.fromkeys(codes[status]))}" for status in sorted(codes))


def _shape(struct: type[msgspec.Struct]) -> str:
    fields = msgspec.structs.fields(struct)
    return f"`{{{', '.join(_field(field) for field in fields)}}}`"


def _field(field: msgspec.structs.FieldInfo) -> str:
    kind = msgspec.inspect.type_info(field.type)
    kinds = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    can_be_null = any(isinstance(each, msgspec.inspect.NoneType) for each in kinds)
    return field.encode_name + ("?" if can_be_null or not field.required else "")


if __name__ == "__main__":
    sys.stdout.write(text())

#!/usr/bin/env python3
"""Prints docs/pyedb-routes.md from the table of routes: `python docs/pyedb_routes.py > docs/pyedb-routes.md`."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import msgspec
from msgspec import inspect

from jobmgr.api.guard import CHANGES
from jobmgr.api.openapi import refusals
from jobmgr.api.pyedb.refusal import MANNER
from jobmgr.api.pyedb.routes import ROUTES
from jobmgr.api.route import Route
from jobmgr.hfss import HFSS3DLayoutBatchOptions, HFSSSimulationConfig, MachineNode

Struct = type[msgspec.Struct]
Refusals = Iterable[tuple[int, str]]

_HEAD = """\
# The routes of pyedb's job manager

Printed by `docs/pyedb_routes.py` from `jobmgr/api/pyedb/routes.py`. [hfss.md](hfss.md) says what is as in pyedb 0.64.0
and what is not; Socket.IO is in [events.md](events.md). [Shapes](#shapes) are below. Every route that changes something
takes an `Idempotency-Key`.

| route | what it does | takes | answers | and if not |
| --- | --- | --- | --- | --- |
"""
_REFUSALS = """
## What is refused

What is wrong is answered as a `{problem}`: 400 with the field that it is about, 404 for what there is not, 503 with
`Retry-After` while the database or a site cannot be reached. At the beginnings of these paths what is not there (404
`no_such_route`) and other methods (405 `method_not_allowed`) are told so, too; what cannot be read as a request at all
is a 400 in plain text. Beside what the table has,

- every route may answer {every};
- every route that changes something, also {changing}.
"""
_SHAPES = """
## Shapes

As JSON. What has a `?` may be left out of what is sent, or be null there; answers have all fields.

| shape | what it is | its fields |
| --- | --- | --- |
"""
# What is read as it comes, so that what is wrong is told with its place: what reads it.
_READ_BY: Mapping[str, Struct] = {
    "config": HFSSSimulationConfig,
    "machine_nodes": MachineNode,
    "batch_options": HFSS3DLayoutBatchOptions,
}
_NAMES: Mapping[type[inspect.Type], str] = {
    inspect.StrType: "string",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.BoolType: "boolean",
    inspect.NoneType: "null",
}
_EVERY = set.intersection(*(refusals(route) for route in ROUTES))
_CHANGING = set.intersection(*(refusals(route) for route in ROUTES if route.method in CHANGES)) - _EVERY


def text() -> str:
    """The page."""
    rows = "".join(f"{_row(route)}\n" for route in ROUTES)
    refused = _REFUSALS.format(problem=MANNER.body.__name__, every=_codes(_EVERY), changing=_codes(_CHANGING))
    shapes = "".join(f"{_shape(struct)}\n" for struct in _structs())
    return f"{_HEAD}{rows}{refused}{_SHAPES}{shapes}"


def _row(route: Route) -> str:
    cells = (f"`{route.method} {route.path}`", route.summary, _takes(route), _answer(route), _errors(route))
    return f"| {' | '.join(cells)} |"


def _takes(route: Route) -> str:
    query = [] if route.query is None else [f"query `{route.query.__name__}`"]
    return ", ".join(query + ([] if route.body is None else [f"`{route.body.__name__}`"]))


def _answer(route: Route) -> str:
    assert isinstance(route.answer, type)
    shape = f"`{route.answer.__name__}`"
    told = f"{route.status} array of {shape}" if route.is_array else f"{route.status} {shape}"
    return f"{told}; 204 before there is anything" if route.may_be_empty else told


def _errors(route: Route) -> str:
    own = {(route.manner.status_of(error), error.code) for error in route.errors}
    return _codes(own | refusals(route) - _EVERY - _CHANGING)


def _codes(refused: Refusals) -> str:
    codes: defaultdict[int, list[str]] = defaultdict(list)
    for status, code in sorted(refused):
        codes[status].append(f"`{code}`")
    return "; ".join(f"{status} {', '.join(found)}" for status, found in codes.items())


def _structs() -> Iterable[Struct]:
    """All that routes take and answer, and what is in those, in the order of the table."""
    found: dict[Struct, None] = {}
    for route in ROUTES:
        for struct in (route.query, route.body, route.answer):
            if isinstance(struct, type):
                found |= dict.fromkeys(_within(struct))
    return [*found, MANNER.body]


def _within(struct: Struct) -> Iterator[Struct]:
    yield struct
    for field in _fields(struct):
        for kind in _parts(field.type):
            if isinstance(kind, inspect.StructType):
                yield from _within(kind.cls)
            elif _is_open(kind) and field.name in _READ_BY:
                yield from _within(_READ_BY[field.name])


def _parts(kind: inspect.Type) -> Iterator[inspect.Type]:
    """What it is, and what is in it; of what is in a struct, nothing."""
    yield kind
    match kind:
        case inspect.Metadata(type=inner):
            yield from _parts(inner)
        case inspect.UnionType(types=kinds):
            for each in kinds:
                yield from _parts(each)
        case inspect.ListType(item_type=inner) | inspect.VarTupleType(item_type=inner):
            yield from _parts(inner)
        case _:
            pass


def _is_open(kind: inspect.Type) -> bool:
    """Whether it is an object of which the struct itself does not say what is in it."""
    match kind:
        case inspect.RawType() | inspect.DictType(value_type=inspect.AnyType()):
            return True
        case _:
            return False


def _fields(struct: Struct) -> tuple[inspect.Field, ...]:
    kind = inspect.type_info(struct)
    assert isinstance(kind, inspect.StructType)
    return kind.fields


def _shape(struct: Struct) -> str:
    assert struct.__doc__ is not None
    is_of = " ".join(struct.__doc__.split("\n\n")[0].split())
    fields = ", ".join(
        f"{field.encode_name}{'' if field.required else '?'}: {_kind(field.type, field.name)}"
        for field in _fields(struct)
    )
    return f"| `{struct.__name__}` | {is_of} | `{{{fields}}}` |"


def _kind(kind: inspect.Type, name: str) -> str:
    """In words of JSON; `name` is that of the field."""
    match kind:
        case _ if _is_open(kind):
            return _READ_BY[name].__name__
        case inspect.Metadata(type=inner):
            return _kind(inner, name)
        case inspect.UnionType(types=kinds):
            return " or ".join(_kind(each, name) for each in kinds)
        case inspect.ListType(item_type=inner) | inspect.VarTupleType(item_type=inner):
            return f"array of {_kind(inner, name)}"
        case inspect.DictType(value_type=inner):
            return f"object of {_kind(inner, name)}"
        case inspect.EnumType(cls=words) | inspect.LiteralType(values=words):
            return " or ".join(f'"{word!s}"' for word in words)
        case inspect.StructType(cls=struct):
            return struct.__name__
        case _:
            return _NAMES[type(kind)]


if __name__ == "__main__":
    sys.stdout.write(text())

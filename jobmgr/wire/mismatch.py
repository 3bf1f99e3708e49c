"""What msgspec finds wrong with a value, as an error that names the field and says what would be right."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from jobmgr.errors import InvalidRequest

# How reading what is no JSON fails: bytes that are no UTF-8, and what is nested too deep, msgspec leaves to Python.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Node = TypeVar("Node", bound=msgspec.inspect.Type)

_AT = re.compile(r"(?P<what>.*?)(?: - at `(?P<key>key in `)?\$(?P<path>[^`]*)`+)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)


def invalid(error: msgspec.ValidationError, kind: Any, at: str = "") -> InvalidRequest:
    """`error` of decoding a `kind`, as an error that names the field and what would be right."""
    match = _AT.fullmatch(str(error))
    assert match is not None
    what, path = match["what"], (match["path"] or "").replace("[...]", "")
    if unknown := _UNKNOWN.fullmatch(what):
        known = ", ".join(_fields_at(kind, path))
        return InvalidRequest(_join(at, path, unknown["name"][:100]), f"is not a field; known ones: {known}")
    if missing := _MISSING.fullmatch(what):
        return InvalidRequest(_join(at, path, missing["name"]), "is required")
    if "matching regex" in what and (described := _description_at(kind, path)):
        return InvalidRequest(_join(at, path), f"is not written as it has to be: {described}")
    known = _values_at(kind, path) if what.startswith("Invalid enum value") else ""
    return InvalidRequest(_join(at, path), what[:1].lower() + what[1:] + known)


def _join(at: str, path: str, name: str = "") -> str:
    return ".".join(part for part in ((at.rstrip(".") + path).strip("."), name) if part)


def _fields_at(kind: Any, path: str) -> list[str]:
    """The names of the fields that the struct at `path` of a `kind` has."""
    structs = _alternatives(_node_at(kind, path), msgspec.inspect.StructType)
    return [field.encode_name for struct in structs for field in struct.fields]


def _values_at(kind: Any, path: str) -> str:
    """The values that may stand at `path` of a `kind`, or in the list there."""
    node = _node_at(kind, path)
    node = _item_of(node) or node
    values = [str(value) for enum in _alternatives(node, msgspec.inspect.EnumType) for value in enum.cls]
    values += [str(value) for one in _alternatives(node, msgspec.inspect.LiteralType) for value in one.values]
    return f"; known ones: {', '.join(values)}"


def _description_at(kind: Any, path: str) -> str:
    """What the document says of the text that may stand at `path` of a `kind`, or in the list there; may be empty."""
    node = _node_at(kind, path)
    node = _item_of(node) or node
    options = node.types if isinstance(node, msgspec.inspect.UnionType) else (node,)
    schemas = (one.extra_json_schema or {} for one in options if isinstance(one, msgspec.inspect.Metadata))
    return next((str(schema["description"]) for schema in schemas if "description" in schema), "")


def _node_at(kind: Any, path: str) -> msgspec.inspect.Type:
    """The type at `path` (`.jobs[0].resources`) of a `kind`."""
    node = msgspec.inspect.type_info(kind)
    for name in re.findall(r"\w+(?!\w*\])|\[", path):
        if name == "[":
            node = _item_of(node) or node
        else:
            structs = _alternatives(node, msgspec.inspect.StructType)
            node = next(
                field.type for struct in structs for field in struct.fields if field.encode_name == name
            )
            for mapping in _alternatives(node, msgspec.inspect.DictType):
                node = mapping.value_type  # its keys are not told of
    return node


def _item_of(node: msgspec.inspect.Type) -> msgspec.inspect.Type | None:
    """The type of what is in a list, or in a tuple of any length; None for what is neither."""
    lists = _alternatives(node, msgspec.inspect.ListType)
    tuples = _alternatives(node, msgspec.inspect.VarTupleType)
    return next((one.item_type for one in (*lists, *tuples)), None)


def _alternatives(node: msgspec.inspect.Type, wanted: type[Node]) -> list[Node]:
    """Which of the types that `node` allows are of the wanted kind."""
    options = node.types if isinstance(node, msgspec.inspect.UnionType) else (node,)
    bare = (option.type if isinstance(option, msgspec.inspect.Metadata) else option for option in options)
    return [option for option in bare if isinstance(option, wanted)]

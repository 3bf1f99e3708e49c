"""Query parameters to structs, strictly: unknown, repeated and ill-formed ones are refused by name."""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from jobmgr.domain.job import EventPosition
from jobmgr.errors import InvalidRequest
from jobmgr.manager.manager import Manager
from jobmgr.wire.mismatch import invalid
from jobmgr.wire.text import check_text

T = TypeVar("T", bound=msgspec.Struct)

_NO_TYPE = ", got `str`"


def parse_query(request: web.Request, kind: type[T]) -> T:
    """The parameters that `kind` declares; its list fields are written `a,b` or repeated."""
    if not request.query_string:
        return kind()
    given: dict[str, Any] = {}
    for name, text in request.query.items():
        check_text(text, name[:100])
        is_list = name in _lists(kind)
        if not (text.strip(",") if is_list else text):
            raise InvalidRequest(name[:100], "is empty; give it a value, or leave it out")
        if is_list:
            given.setdefault(name, []).extend(part for part in text.split(",") if part)
        elif name in given:
            raise InvalidRequest(name[:100], "is given twice")
        else:
            given[name] = text
    try:
        found = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        wrong = invalid(error, kind)
        message = wrong.message
        if message.endswith(_NO_TYPE):
            # The types are those of JSON, while what was given is always text.
            message = f"{message.removesuffix(_NO_TYPE)}, not {str(given.get(wrong.field))[:80]!r}"
        raise InvalidRequest(wrong.field, message.replace("field", "parameter")) from None
    for name, text in given.items():
        _check_read(name, text, getattr(found, name))
    return found


def _check_read(name: str, text: Any, value: Any) -> None:
    # msgspec also reads `null` as what is left out, and a number as the seconds of a time since 1970.
    if value is None:
        raise InvalidRequest(name, f"{text!r} is no value; leave it out")
    if isinstance(value, datetime) and ":" not in text:
        raise InvalidRequest(name, f"{text[:80]!r} is no time; write 2026-01-31T18:00:00Z")


async def parse_position(text: str | None, manager: Manager, field: str = "after") -> EventPosition | None:
    """The event position `epoch:seq`, or a number alone, which is taken to be of the present epoch."""
    if text is None or ":" in text:
        return None if text is None else EventPosition.parse(text, field)
    epoch = (await manager.event_position()).epoch
    return EventPosition.parse(text, field, epoch)


@functools.cache
def _lists(kind: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if isinstance(msgspec.inspect.type_info(field.type), msgspec.inspect.ListType)
    )

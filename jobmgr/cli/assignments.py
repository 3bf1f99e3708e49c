"""NAME=VALUE on the command line, as the fields of a struct."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from jobmgr.wire.mismatch import invalid


def fields(texts: Sequence[str], kind: type[msgspec.Struct], option: str) -> dict[str, Any]:
    """What `texts` (`NAME=VALUE`) say of a `kind`; a list gets one item from each that names it.

    Raises BadParameter, and InvalidRequest for what is no field, or no value of one.
    """
    lists = {field.name for field in msgspec.structs.fields(kind) if isinstance(_default(field), list)}
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        if name in lists:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise click.BadParameter(f"{name} is given twice", param_hint=option)
        else:
            values[name] = value
    try:
        told: dict[str, Any] = msgspec.to_builtins(msgspec.convert(values, kind, strict=False))
    except msgspec.ValidationError as error:
        raise invalid(error, kind) from None
    return told


def _default(field: msgspec.structs.FieldInfo) -> object:
    return field.default_factory() if callable(field.default_factory) else field.default

"""What the values of this package have in common: frozen, and checked wherever they come from."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any, NoReturn, Self

import msgspec
from msgspec import NODEFAULT, Struct, structs, to_builtins

from jobmgr.errors import InvalidConfig
from jobmgr.wire import mismatch


class Value(Struct, kw_only=True, forbid_unknown_fields=True):
    """Fields are given by name, and have the type and range that is declared for them; else InvalidConfig says which.

    What stands for a value is taken as it: "slurm", "4", a dictionary. None is as if nothing had been given. To
    change something, `msgspec.structs.replace(value, field=...)` makes another one.
    """

    def __post_init__(self) -> None:
        """Check and convert."""
        for field in _fields(type(self)):
            given = _given(getattr(self, field.name), field)
            try:
                value = msgspec.convert(given, field.type, strict=False)
            except msgspec.ValidationError as error:
                raise _invalid(error, field.type, field.name) from error
            if isinstance(value, str) and "\0" in value:
                raise InvalidConfig(field.name, "has a NUL character, which no program can be given")
            structs.force_setattr(self, field.name, value)
        self.check()

    # pyedb's documents change what they have made (`config.machine_nodes[0].cores = 16`): scripts that do so have to be
    # told what to do instead. The `frozen` of msgspec has a refusal of its own, without a remedy, that stays.
    def __setattr__(self, name: str, value: Any, /) -> NoReturn:
        """Raise AttributeError."""
        raise self._change_refused(name)

    def __delattr__(self, name: str, /) -> NoReturn:
        """Raise AttributeError."""
        raise self._change_refused(name)

    def _change_refused(self, name: str) -> AttributeError:
        kind = type(self).__name__
        return AttributeError(
            f"{name}: a {kind} cannot be changed; say it where it is made, {kind}({name}=...), or make another one of"
            " it by msgspec.structs.replace"
        )

    def __hash__(self) -> int:
        """That of its fields."""
        return hash(structs.astuple(self))

    def check(self) -> None:
        """What types cannot say. Raises InvalidConfig."""

    def insist(self, pattern: re.Pattern[str], remedy: str, *names: str) -> None:
        """Raise InvalidConfig for the first of these texts that is not wholly as `pattern`."""
        for name in names:
            text = getattr(self, name)
            if text is not None and pattern.fullmatch(text) is None:
                raise InvalidConfig(name, f"{text[:100]!r} {remedy}")

    def validate_fields(self) -> None:
        """Nothing: a value was checked when it was made, and cannot have changed since."""

    # pyedb's classes are pydantic's; its scripts call these.

    def model_dump(self, *, mode: str = "json", exclude_defaults: bool = False) -> dict[str, Any]:
        """All fields as JSON has them, whatever the `mode`; with `exclude_defaults` those that are not by default."""
        del mode
        kept = {
            field.name
            for field in _fields(type(self))
            if not (exclude_defaults and getattr(self, field.name) == _given(None, field))
        }
        fields = {name: value for name, value in to_builtins(self).items() if name in kept}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    def model_dump_json(self, *, indent: int = 0, exclude_defaults: bool = False) -> str:
        """The same as text."""
        text = msgspec.json.encode(self.model_dump(exclude_defaults=exclude_defaults))
        return (msgspec.json.format(text, indent=indent) if indent else text).decode()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Another one, with other values of some fields. Raises InvalidConfig."""
        del deep  # There is nothing in it that can be changed.
        return structs.replace(self, **(update or {}))

    @classmethod
    def model_validate(cls, given: Any) -> Self:
        """As `of`; one of these is itself. Raises InvalidConfig."""
        return given if isinstance(given, cls) else cls.of(given)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """From a dictionary. Raises InvalidConfig, also for names that are no fields."""
        try:
            return msgspec.convert(_said(given), cls, strict=False)
        except msgspec.ValidationError as error:
            raise _invalid(error, cls, "") from error
        except UnicodeEncodeError as error:
            # Half a surrogate pair, as Python has it for a byte that is not UTF-8.
            raise InvalidConfig("config", f"{error.object[:100]!r} is no text") from error


@functools.cache
def _fields(kind: type[Value]) -> tuple[structs.FieldInfo, ...]:
    """Found once: looking up what the annotations mean takes longer than all the checks."""
    return structs.fields(kind)


def _given(value: Any, field: structs.FieldInfo) -> Any:
    if value is None and field.default is not NODEFAULT:
        return field.default
    if value is None and field.default_factory is not NODEFAULT:
        return field.default_factory()
    return fspath(value) if isinstance(value, PathLike) else _said(value)


def _said(value: Any) -> Any:
    """What is said in a dictionary: None is as if it were not there."""
    if isinstance(value, Mapping):
        return {name: _said(inner) for name, inner in value.items() if inner is not None}
    return [_said(inner) for inner in value] if isinstance(value, list | tuple) else value


def _invalid(error: msgspec.ValidationError, kind: Any, at: str) -> InvalidConfig:
    """The same, with the whole way to the field: what a value inside of others found wrong, msgspec hands on."""
    found = mismatch.invalid(error, kind, at)
    inner = error.__cause__
    if isinstance(inner, InvalidConfig):
        return InvalidConfig(".".join(part for part in (found.field, inner.field) if part), inner.message)
    return InvalidConfig(found.field, found.message)

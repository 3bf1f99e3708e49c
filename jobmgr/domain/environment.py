"""The variables of a job: each a text, or a reference to a secret that is fetched when an attempt starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobmgr.credential import Reference, parse

Environment = Mapping[str, str | Reference]

_SECRET = "secret"  # noqa: S105 -- a key of JSON


def stated(env: Environment) -> Mapping[str, Any]:
    """As JSON has it, and as it was submitted."""
    if not secrets_of(env):
        return env
    return {
        name: {_SECRET: str(value)} if isinstance(value, Reference) else value for name, value in env.items()
    }


def of(env: Mapping[str, Any]) -> Environment:
    """The environment that `stated` wrote."""
    if all(isinstance(value, str) for value in env.values()):
        return env
    return {
        name: value if isinstance(value, str) else parse(value[_SECRET], field_of(name))
        for name, value in env.items()
    }


def secrets_of(env: Environment) -> Mapping[str, Reference]:
    """Those variables that are secrets."""
    return {name: value for name, value in env.items() if isinstance(value, Reference)}


def field_of(name: str) -> str:
    """How errors name a variable of a job."""
    return f"env.{name}"

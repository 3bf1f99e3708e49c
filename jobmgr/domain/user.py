"""A user, and the API tokens by which programs are known as one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from jobmgr.domain.access import Role, Scope
from jobmgr.domain.resources import is_bare_number, parse_duration
from jobmgr.errors import InvalidRequest

# Of letters that look alike in two alphabets none can be told apart, so there are no others than these.
USER_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.@+\\\-]{0,127}"
TOKEN_ID = r"[0-9a-f]{12}"  # noqa: S105 -- a pattern
GROUP_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.@+\-]{0,127}"
_SHOWN = re.compile(rf"jm_({TOKEN_ID})_[A-Za-z0-9_-]{{43}}")
# How long an API token is valid for which nothing else was said.
LASTS = "90d"
NEVER = "never"
_WRITE_EXPIRY = f"write it as 90d, 12h, 2026-01-31T18:00Z or {NEVER}"

_ALLOWED = {
    Role.VIEWER: frozenset({Scope.READ}),
    Role.USER: frozenset({Scope.READ, Scope.SUBMIT}),
    Role.ADMIN: frozenset(Scope),
}


@dataclass(frozen=True, slots=True)
class User:
    """Somebody whom an admin made known; `name` is as their jobs carry it. Who shares a group sees each other's jobs.

    `created_at` is None for the service's own user, who needs no row.
    """

    name: str
    role: Role = Role.USER
    groups: tuple[str, ...] = ()
    is_disabled: bool = False
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ApiToken:
    """An API token of a user, without its secret: that is in no value of ours but when it is made and shown."""

    id: str
    user: str
    label: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


def allowed(role: Role) -> frozenset[Scope]:
    """The scopes that a token of a user with this role may have."""
    return _ALLOWED[role]


def mates(name: str, users: Iterable[User]) -> Mapping[str, datetime | None]:
    """Who shares a group with this user, and when they were made."""
    known = {user.name: user for user in users}
    own = known.pop(name, User(name)).groups
    return {other.name: other.created_at for other in known.values() if not set(own).isdisjoint(other.groups)}


def write_api_token(token_id: str, secret: str) -> str:
    """An API token as it is shown, of its public id and 43 characters of base64url."""
    return f"jm_{token_id}_{secret}"


def id_of(shown: str) -> str | None:
    """The public id in an API token that somebody shows; None if this is no such token."""
    match = _SHOWN.fullmatch(shown)
    return None if match is None else match[1]


def digest(shown: str) -> str:
    """What is stored of an API token: of 256 random bits a slower hash would protect no better."""
    return hashlib.sha256(shown.encode()).hexdigest()


def is_token_id(text: str) -> bool:
    """Whether this can be the public id of an API token."""
    return re.fullmatch(TOKEN_ID, text) is not None


def is_name(text: str) -> bool:
    """Whether a user may be called so."""
    return re.fullmatch(USER_NAME, text) is not None


def check_name(name: str, field: str) -> str:
    """`name`, if a user may be called so. Raises InvalidRequest."""
    if not is_name(name):
        raise InvalidRequest(
            field, rf"{name[:200]!r} is not a user's name: ASCII letters, digits, _ . @ + \ - ; at most 128"
        )
    return name


def check_groups(groups: Iterable[str], field: str) -> tuple[str, ...]:
    """Groups without duplicates, sorted. Raises InvalidRequest."""
    found = tuple(sorted(set(groups)))
    for group in found:
        if re.fullmatch(GROUP_NAME, group) is None:
            raise InvalidRequest(
                field,
                f"{group[:200]!r} is not a group's name: ASCII letters, digits, _ . @ + - ; at most 128",
            )
    return found


def expiry(text: str, now: datetime, field: str) -> datetime | None:
    """When an API token expires that is to last so long (`90d`), or until then (a time with its zone); None: never.

    Raises InvalidRequest for what is neither, or not in the future.
    """
    if text == NEVER:
        return None
    if is_bare_number(text):
        raise InvalidRequest(field, f"{text!r} is without a unit, of days or of seconds; {_WRITE_EXPIRY}")
    try:
        at = (
            datetime.fromisoformat(text)
            if text[4:5] == "-"
            else now + timedelta(seconds=parse_duration(text, field))
        )
    except (InvalidRequest, ValueError, OverflowError):
        raise InvalidRequest(
            field, f"{text!r} is neither a duration nor a time nor `{NEVER}`; {_WRITE_EXPIRY}"
        ) from None
    if at.tzinfo is None:
        raise InvalidRequest(field, f"{text!r} has no time zone; {_WRITE_EXPIRY}")
    try:
        at = at.astimezone(UTC)
    except OverflowError:
        raise InvalidRequest(field, f"{text!r} is no time that can be stored; {_WRITE_EXPIRY}") from None
    if at <= now:
        raise InvalidRequest(field, f"{text!r} is not in the future; {_WRITE_EXPIRY}")
    return at

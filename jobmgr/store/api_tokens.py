"""Statements on API tokens. Of their secrets a hash is stored, which nothing but `known` and `hashes` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from jobmgr.domain.access import Scope
from jobmgr.domain.user import ApiToken as ApiTokenView
from jobmgr.domain.user import User as UserView
from jobmgr.domain.user import allowed
from jobmgr.errors import ApiTokenNotFound, Conflict, InvalidRequest, UserNotFound
from jobmgr.store import users
from jobmgr.store.prepared import Prepared, listed
from jobmgr.store.tables import ApiToken
from jobmgr.store.transaction import AnyRow, Topic, Transaction


@dataclass(frozen=True, slots=True)
class NewApiToken:
    """An API token to store; no `scopes`: all that the role of its user allows."""

    id: str
    user: str
    hash: str
    label: str
    scopes: frozenset[Scope]
    created_by: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Revocation:
    """An API token that is to be valid no more; `of`: only if it is this user's."""

    id: str
    of: str | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """When an API token was shown."""

    id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Known:
    """API tokens that are not revoked, each with its hash, and all users."""

    tokens: Sequence[tuple[ApiTokenView, str]]
    users: Sequence[UserView]


def listing(connection: sa.Connection, user: str | None) -> list[ApiTokenView]:
    """All API tokens, or those of one user, newest first."""
    statement = sa.select(*_SHOWN)
    if user is not None:
        statement = statement.where(ApiToken.user == user)
    found = map(_token, connection.execute(statement))
    return sorted(found, key=lambda token: (token.created_at, token.id), reverse=True)


def known(connection: sa.Connection, token_ids: Sequence[str]) -> Known:
    """Of these API tokens those that are not revoked, and all users."""
    found = _KNOWN.rows(connection, {"ids": token_ids})
    return Known([(_token(row), row.hash) for row in found], users.listing(connection) if found else ())


def hashes(connection: sa.Connection) -> frozenset[str]:
    """The hashes of all API tokens that are neither revoked nor expired."""
    until = ApiToken.expires_at
    is_good = sa.and_(ApiToken.revoked_at.is_(None), sa.or_(until.is_(None), until > datetime.now(UTC)))
    return frozenset(connection.execute(sa.select(ApiToken.hash).where(is_good)).scalars())


_SHOWN = tuple(column for column in ApiToken.__table__.c if column.name != "hash")
_KNOWN = Prepared(
    sa.select(*_SHOWN, ApiToken.hash).where(listed(ApiToken.id, "ids"), ApiToken.revoked_at.is_(None))
)


def _token(row: AnyRow) -> ApiTokenView:
    return ApiTokenView(
        id=row.id,
        user=row.user,
        label=row.label,
        scopes=tuple(Scope(scope) for scope in row.scopes),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def make(tx: Transaction, new: Sequence[NewApiToken]) -> list[ApiTokenView]:
    """Store API tokens. Raises UserNotFound, Conflict for a user who is disabled, InvalidRequest for the scopes."""
    return [_make(tx, token) for token in new]


def _make(tx: Transaction, new: NewApiToken) -> ApiTokenView:
    user = users.locked(tx, new.user)
    if user is None:
        raise UserNotFound(new.user)
    if user.is_disabled:
        raise Conflict(f"the user {new.user} is disabled; `jobmgr user set {new.user} --enable` changes that")
    scopes, most = sorted(new.scopes or allowed(user.role)), sorted(allowed(user.role))
    if not set(scopes) <= set(most):
        raise InvalidRequest(
            "scopes", f"{new.user} is a {user.role}, whose tokens have {', '.join(most)} at most"
        )
    tx.connection.execute(
        sa.insert(ApiToken).values(
            id=new.id,
            user=new.user,
            hash=new.hash,
            label=new.label,
            scopes=scopes,
            created_at=tx.now,
            created_by=new.created_by,
            expires_at=new.expires_at,
        )
    )
    until = None if new.expires_at is None else new.expires_at.isoformat()
    said = {"token": new.id, "name": new.user, "label": new.label, "scopes": scopes, "expires_at": until}
    tx.record("api_token_made", None, **said)
    return ApiTokenView(new.id, new.user, new.label, tuple(scopes), tx.now, new.created_by, new.expires_at)


def revoke(tx: Transaction, wanted: Sequence[Revocation]) -> list[ApiTokenView]:
    """Let API tokens be valid no more; one that is not any more stays as it is. Raises ApiTokenNotFound."""
    return [_revoke(tx, one) for one in wanted]


def _revoke(tx: Transaction, wanted: Revocation) -> ApiTokenView:
    statement = sa.select(*_SHOWN).where(ApiToken.id == wanted.id)
    if tx.is_postgresql:
        statement = statement.with_for_update()
    row = tx.connection.execute(statement).one_or_none()
    if row is None or wanted.of not in (None, row.user):
        raise ApiTokenNotFound(wanted.id)
    if row.revoked_at is None:
        tx.connection.execute(sa.update(ApiToken).where(ApiToken.id == row.id).values(revoked_at=tx.now))
        tx.record("api_token_revoked", None, token=row.id, name=row.user)
        tx.topics.add(Topic.IDENTITY)
    return get(tx.connection, row.id)


def get(connection: sa.Connection, token_id: str) -> ApiTokenView:
    """One API token. Raises ApiTokenNotFound."""
    row = connection.execute(sa.select(*_SHOWN).where(ApiToken.id == token_id)).one_or_none()
    if row is None:
        raise ApiTokenNotFound(token_id)
    return _token(row)


def touch(tx: Transaction, uses: Sequence[Use]) -> list[None]:
    """Write down when API tokens were shown last, unless a later time stands there. It is no event."""
    _TOUCH.run(
        tx.connection, [{"token": use.id, "used_at": use.at} for use in sorted(uses, key=lambda use: use.id)]
    )
    return [None] * len(uses)


_USED_AT = sa.bindparam("used_at", type_=ApiToken.last_used_at.type)
_TOUCH = Prepared(
    sa.update(ApiToken)
    .where(
        ApiToken.id == sa.bindparam("token"),
        sa.or_(ApiToken.last_used_at.is_(None), ApiToken.last_used_at < _USED_AT),
    )
    .values(last_used_at=_USED_AT)
)

"""Statements on users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from jobmgr.domain.access import Role
from jobmgr.domain.user import User as UserView
from jobmgr.errors import Conflict, UserNotFound
from jobmgr.store.tables import ApiToken, Idempotency, Job, User
from jobmgr.store.transaction import AnyRow, Topic, Transaction


@dataclass(frozen=True, slots=True)
class UserChange:
    """New values for a user; what is None stays."""

    name: str
    role: Role | None = None
    groups: tuple[str, ...] | None = None
    is_disabled: bool | None = None


def listing(connection: sa.Connection) -> list[UserView]:
    """All users by name."""
    # In the order of Python, not in that of the database, which is a matter of its locale.
    return sorted(map(_user, connection.execute(sa.select(*User.__table__.c))), key=lambda user: user.name)


def get(connection: sa.Connection, name: str) -> UserView:
    """One user. Raises UserNotFound."""
    row = connection.execute(sa.select(*User.__table__.c).where(User.name == name)).one_or_none()
    if row is None:
        raise UserNotFound(name)
    return _user(row)


def _user(row: AnyRow) -> UserView:
    return UserView(row.name, Role(row.role), tuple(row.groups), row.disabled, row.created_at)


def put(tx: Transaction, wanted: Sequence[UserView]) -> list[UserView]:
    """Make users, or change those of the same names to this."""
    answers = []
    for user in wanted:
        if locked(tx, user.name) is None:
            answers.append(_add(tx, user))
        else:
            answers.append(_change(tx, UserChange(user.name, user.role, user.groups, user.is_disabled)))
    return answers


def add(tx: Transaction, wanted: Sequence[UserView]) -> list[UserView]:
    """Make users. Raises Conflict for one who is there already."""
    answers = []
    for user in wanted:
        if locked(tx, user.name) is not None:
            raise Conflict(f"{user.name} is there already; `jobmgr user set {user.name}` changes that")
        answers.append(_add(tx, user))
    return answers


def ensure(tx: Transaction, wanted: Sequence[UserView]) -> list[UserView]:
    """Make those of these users that are not known; the others stay as they are."""
    return [locked(tx, user.name) or _add(tx, user) for user in wanted]


def _add(tx: Transaction, user: UserView) -> UserView:
    values = _values(user)
    tx.connection.execute(sa.insert(User).values(name=user.name, created_at=tx.now, **values))
    _tell(tx, "user_added", user.name, values)
    return UserView(user.name, user.role, user.groups, user.is_disabled, tx.now)


def change(tx: Transaction, changes: Sequence[UserChange]) -> list[UserView]:
    """Change users; who is disabled loses all API tokens for ever. Raises UserNotFound."""
    return [_change(tx, wanted) for wanted in changes]


def _change(tx: Transaction, wanted: UserChange) -> UserView:
    old = locked(tx, wanted.name)
    if old is None:
        raise UserNotFound(wanted.name)
    new = UserView(
        old.name,
        old.role if wanted.role is None else wanted.role,
        old.groups if wanted.groups is None else wanted.groups,
        old.is_disabled if wanted.is_disabled is None else wanted.is_disabled,
        old.created_at,
    )
    before, after = _values(old), _values(new)
    changed = {name: value for name, value in after.items() if before[name] != value}
    if changed:
        tx.connection.execute(sa.update(User).where(User.name == new.name).values(**changed))
        _tell(tx, "user_changed", new.name, changed)
    if new.is_disabled:
        # Who is let in again has to be given new ones: of the old ones nobody knows where they have been.
        valid = sa.and_(ApiToken.user == new.name, ApiToken.revoked_at.is_(None))
        tx.connection.execute(sa.update(ApiToken).where(valid).values(revoked_at=tx.now))
    return new


def _values(user: UserView) -> dict[str, Any]:
    return {"role": user.role.value, "groups": list(user.groups), "disabled": user.is_disabled}


def remove(tx: Transaction, names: Sequence[str]) -> list[None]:
    """Forget users and their API tokens. Raises UserNotFound, and Conflict for users whose jobs are stored.

    Whoever got such a name later would have those jobs.
    """
    for name in names:
        if locked(tx, name) is None:
            raise UserNotFound(name)
        if tx.connection.execute(sa.select(Job.id).where(Job.user == name).limit(1)).first() is not None:
            raise Conflict(
                f"jobs of {name} are stored, and whoever was called so next would have them;"
                f" `jobmgr user set {name} --disable` lets nobody in as {name}"
            )
        # Nor is whoever is called so next answered what this user was.
        tx.connection.execute(sa.delete(Idempotency).where(Idempotency.user == name))
        tx.connection.execute(sa.delete(User).where(User.name == name))
        _tell(tx, "user_removed", name, {})
    return [None] * len(names)


def locked(tx: Transaction, name: str) -> UserView | None:
    """One user as nobody else changes it before the end of this transaction; None if there is none."""
    statement = sa.select(*User.__table__.c).where(User.name == name)
    if tx.is_postgresql:
        statement = statement.with_for_update()
    row = tx.connection.execute(statement).one_or_none()
    return None if row is None else _user(row)


def _tell(tx: Transaction, kind: str, name: str, values: dict[str, Any]) -> None:
    tx.record(kind, None, name=name, **values)
    tx.topics.add(Topic.IDENTITY)

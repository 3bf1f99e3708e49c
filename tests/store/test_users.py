"""Users and API tokens as they are stored, and who did what."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from jobmgr.domain.access import Caller, Principal, Role, Scope
from jobmgr.domain.audit import AuditFilter
from jobmgr.domain.once import Once
from jobmgr.domain.user import User
from jobmgr.errors import ApiTokenNotFound, Conflict, InvalidRequest, UserNotFound
from jobmgr.store import api_tokens, audit, events, submissions, users
from jobmgr.store.api_tokens import NewApiToken, Revocation, Use
from jobmgr.store.engine import Database
from jobmgr.store.tables import ApiToken
from jobmgr.store.transaction import Topic
from jobmgr.store.users import UserChange
from tests.store.worker import new_job

ALL = frozenset(Scope)


def new_token(token_id: str = "t1", user: str = "ann", **fields: Any) -> NewApiToken:
    values: dict[str, Any] = {
        "hash": f"hash of {token_id}",
        "label": "",
        "scopes": frozenset(),
        "created_by": "root",
        "expires_at": None,
    }
    return NewApiToken(token_id, user, **{**values, **fields})


async def told(database: Database) -> list[tuple[str, dict[str, Any]]]:
    """What was told so far: kinds and data of all events."""
    return [(event.kind, dict(event.data)) for event in await database.read(events.tail, 0, 1000)]


async def valid(database: Database, *token_ids: str) -> list[str]:
    known = await database.read(api_tokens.known, token_ids)
    return [token.id for token, _ in known.tokens]


@pytest_asyncio.fixture
async def ann(database: Database) -> User:
    """A user with the API token `t1`."""
    made = await database.write(users.put, User("ann", groups=("lab",)))
    await database.write(api_tokens.make, new_token())
    return made


async def test_user_is_made_and_changed_and_only_that_is_told(database: Database) -> None:
    heard: list[frozenset[Topic]] = []
    database.on_commit(heard.append)

    made = await database.write(users.put, User("ann", Role.USER, ("lab",)))
    again = await database.write(users.put, User("ann", Role.USER, ("lab",)))
    changed = await database.write(users.change, UserChange("ann", role=Role.VIEWER))

    assert made.created_at is not None
    assert again == made
    assert changed == replace(made, role=Role.VIEWER)
    assert await database.read(users.listing) == [changed]
    assert await told(database) == [
        ("user_added", {"name": "ann", "role": "user", "groups": ["lab"], "disabled": False}),
        ("user_changed", {"name": "ann", "role": "viewer"}),
    ]
    assert [Topic.IDENTITY in topics for topics in heard] == [True, True]


async def test_user_who_is_not_there_cannot_be_changed_or_removed(database: Database) -> None:
    with pytest.raises(UserNotFound):
        await database.write(users.change, UserChange("ann", role=Role.VIEWER))
    with pytest.raises(UserNotFound):
        await database.write(users.remove, "ann")
    with pytest.raises(UserNotFound):
        await database.read(users.get, "ann")


async def test_what_is_ensured_stays_as_it_is(database: Database, ann: User) -> None:
    assert await database.write(users.ensure, User("ann", Role.ADMIN)) == ann
    assert (await database.write(users.ensure, User("root", Role.ADMIN))).role is Role.ADMIN


async def test_removed_user_takes_the_tokens_along(database: Database, ann: User) -> None:
    await database.write(users.remove, "ann")

    assert await valid(database, "t1") == []
    assert await database.read(api_tokens.listing, None) == []
    assert (await told(database))[-1] == ("user_removed", {"name": "ann"})


async def test_removed_user_takes_the_answers_along(database: Database, ann: User) -> None:
    once = Once("ann", "key", "the same request")
    first = await database.write(users.put, User("ben"), once)
    await database.write(users.change, UserChange("ben", role=Role.VIEWER))
    assert await database.write(users.put, User("ben"), once) == first

    await database.write(users.remove, "ann")

    # Whoever is called so next asks for the first time.
    assert await database.write(users.put, User("ben", role=Role.ADMIN), once) != first


async def test_user_whose_jobs_are_stored_stays(database: Database, ann: User) -> None:
    await database.write(submissions.insert, [new_job(user="ann")])

    with pytest.raises(Conflict, match="--disable"):
        await database.write(users.remove, "ann")

    assert await valid(database, "t1") == ["t1"]


async def test_tokens_of_who_was_disabled_stay_revoked(database: Database, ann: User) -> None:
    await database.write(users.change, UserChange("ann", is_disabled=True))
    disabled = await valid(database, "t1")
    await database.write(users.change, UserChange("ann", is_disabled=False))

    assert disabled == []
    assert await valid(database, "t1") == []


async def test_token_has_what_the_role_allows_or_less(database: Database, ann: User) -> None:
    all_that_may_be = await database.write(api_tokens.make, new_token("t2"))
    less = await database.write(api_tokens.make, new_token("t3", scopes=frozenset({Scope.READ})))
    with pytest.raises(InvalidRequest, match="scopes: ann is a user, whose tokens have read, submit at most"):
        await database.write(api_tokens.make, new_token("t4", scopes=ALL))

    assert all_that_may_be.scopes == (Scope.READ, Scope.SUBMIT)
    assert less.scopes == (Scope.READ,)


async def test_token_is_made_for_users_who_are_let_in_only(database: Database, ann: User) -> None:
    await database.write(users.change, UserChange("ann", is_disabled=True))

    with pytest.raises(Conflict, match="disabled"):
        await database.write(api_tokens.make, new_token("t2"))
    with pytest.raises(UserNotFound):
        await database.write(api_tokens.make, new_token("t2", user="zoe"))


async def test_token_is_revoked_once(database: Database, ann: User) -> None:
    first = await database.write(api_tokens.revoke, Revocation("t1"))
    again = await database.write(api_tokens.revoke, Revocation("t1", of="ann"))

    assert first.revoked_at is not None
    assert again == first
    assert await valid(database, "t1") == []
    assert [kind for kind, _ in await told(database)] == ["user_added", "api_token_made", "api_token_revoked"]


@pytest.mark.parametrize("wanted", [Revocation("t1", of="zoe"), Revocation("t2")])
async def test_token_of_another_user_is_as_if_there_were_none(
    database: Database, ann: User, wanted: Revocation
) -> None:
    with pytest.raises(ApiTokenNotFound):
        await database.write(api_tokens.revoke, wanted)

    assert await valid(database, "t1") == ["t1"]


async def test_last_use_never_goes_back(database: Database, ann: User) -> None:
    late = datetime(2026, 5, 1, tzinfo=UTC)
    uses = [Use("t1", late), Use("t1", late - timedelta(hours=1)), Use("none", late)]

    await database.write_all(api_tokens.touch, uses)

    (token,) = await database.read(api_tokens.listing, "ann")
    assert token.last_used_at == late
    assert len(await told(database)) == 2


async def test_hash_is_in_no_event_and_no_answer(database: Database, ann: User) -> None:
    def read(connection: sa.Connection) -> str | None:
        return connection.execute(sa.select(ApiToken.hash)).scalar()

    shown = f"{await database.read(api_tokens.listing, None)} {await told(database)}"

    assert await database.read(read) == "hash of t1"
    assert "hash of" not in shown


async def did(database: Database, who: str, *names: str) -> None:
    """`who` adds users of these names, all in one commit."""
    caller = Caller(Principal.owner(who), "127.0.0.1")
    await database.write_all(users.put, [User(name) for name in names], caller=caller)


async def entries(database: Database, **filters: Any) -> list[str]:
    page = await database.read(audit.page, AuditFilter(**filters), 100, None)
    return [f"{entry.actor} {entry.changed['name']}" for entry in page.entries]


async def test_audit_has_what_somebody_asked_for_newest_first(database: Database) -> None:
    await did(database, "ann", "a1", "a2")
    await database.write(users.put, User("by the service itself"))
    await did(database, "zoe", "z1")

    page = await database.read(audit.page, AuditFilter(), 100, None)

    assert [(entry.actor, entry.origin, entry.kind, entry.changed["name"]) for entry in page.entries] == [
        ("zoe", "127.0.0.1", "user_added", "z1"),
        ("ann", "127.0.0.1", "user_added", "a2"),
        ("ann", "127.0.0.1", "user_added", "a1"),
    ]
    assert page.next_cursor is None


async def test_audit_is_filtered(database: Database) -> None:
    await did(database, "ann", "a1")
    await did(database, "zoe", "z1")
    await database.write(submissions.insert, [new_job("j", user="ann")])
    newest = (await database.read(audit.page, AuditFilter(), 1, None)).entries[0].at

    assert await entries(database, actor="ann") == ["ann a1"]
    assert await entries(database, kind="user_removed") == []
    assert await entries(database, job_id="j") == []
    assert await entries(database, since=newest) == ["zoe z1"]
    assert await entries(database, until=newest) == ["ann a1"]


async def test_pages_of_the_audit_miss_nothing_of_one_commit(database: Database) -> None:
    await did(database, "ann", *(f"u{number}" for number in range(5)))
    found: list[int] = []
    cursor: str | None = None

    while True:
        page = await database.read(audit.page, AuditFilter(actor="ann"), 2, cursor)
        found += [entry.seq for entry in page.entries]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert len(found) == 5
    assert found == sorted(set(found), reverse=True)


@pytest.mark.parametrize(
    "cursor", ["", "x", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z_x", f"2026-01-01T00:00:00Z_{2**63}"]
)
async def test_cursor_of_the_audit_that_is_none_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        await database.read(audit.page, AuditFilter(), 2, cursor)

"""Who shows which API token, as one service and its neighbour on the same database see it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from jobmgr.domain import user
from jobmgr.domain.access import Principal, Role, Scope
from jobmgr.domain.user import User
from jobmgr.errors import StoreUnavailable
from jobmgr.manager.identity import Identity
from jobmgr.store import api_tokens, users
from jobmgr.store.api_tokens import NewApiToken, Revocation
from jobmgr.store.engine import Database
from jobmgr.store.transaction import Topic
from jobmgr.store.users import UserChange
from tests.patience import eventually

SECRET = "s" * 43
ANN = user.write_api_token("a" * 12, SECRET)
ZOE = user.write_api_token("b" * 12, SECRET)


async def make(database: Database, shown: str, name: str, **fields: Any) -> None:
    token_id = user.id_of(shown)
    assert token_id is not None
    values: dict[str, Any] = {"label": "", "scopes": frozenset(), "created_by": "root", "expires_at": None}
    await database.write(
        api_tokens.make, NewApiToken(token_id, name, user.digest(shown), **{**values, **fields})
    )


@contextlib.asynccontextmanager
async def running(identity: Identity) -> AsyncIterator[Identity]:
    task = asyncio.create_task(identity.run())
    yield identity
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest_asyncio.fixture
async def identity(database: Database) -> AsyncIterator[Identity]:
    """What a service of root knows of ann and zoe, who share a group and have a token each."""
    for name in ("ann", "zoe"):
        await database.write(users.put, User(name, groups=("lab",)))
    await make(database, ANN, "ann")
    await make(database, ZOE, "zoe")
    identity = Identity(database, "root")
    database.on_commit(identity.notice)
    async with running(identity):
        yield identity


async def shown(identity: Identity, token: str = ANN) -> Principal:
    principal = await identity.principal(token)
    assert principal is not None
    return principal


async def test_token_tells_who_shows_it(identity: Identity) -> None:
    found = await shown(identity)
    assert found is not None
    assert found.since is not None
    assert found.mates["zoe"] is not None
    assert replace(found, since=None, mates={"zoe": None}) == Principal(
        "ann",
        Role.USER,
        frozenset({Scope.READ, Scope.SUBMIT}),
        mates={"zoe": None},
        token_id="a" * 12,
    )


@pytest.mark.parametrize(
    "token",
    [
        "",
        SECRET,
        f"jm_{'a' * 12}_{'t' * 43}",
        f"jm_{'c' * 12}_{SECRET}",
        ANN[:-1],
        f"{ANN}s",
        f"{ANN}\n",
        ANN.upper(),
        f"jm_{'a' * 12}_{'é' * 43}",
        user.digest(ANN),
    ],
)
async def test_other_texts_are_nobodys(identity: Identity, token: str) -> None:
    assert await identity.principal(token) is None
    await shown(identity)
    assert await identity.principal(token) is None


async def test_token_counts_until_it_expires(database: Database, identity: Identity) -> None:
    past = user.write_api_token("c" * 12, SECRET)
    now = datetime.now(UTC)
    await make(database, past, "ann", expires_at=now - timedelta(seconds=1))
    future = user.write_api_token("d" * 12, SECRET)
    await make(database, future, "ann", expires_at=now + timedelta(hours=1))

    principal = await shown(identity, future)

    assert await identity.principal(past) is None
    assert principal.expires_at == now + timedelta(hours=1)
    assert identity.is_current(principal)
    expired = Principal("ann", Role.USER, token_id="d" * 12, expires_at=now)
    assert not identity.is_current(expired)


async def test_revoked_token_is_nobodys_from_the_next_request_on(
    database: Database, identity: Identity
) -> None:
    principal = await shown(identity)
    other = await shown(identity, ZOE)

    await database.write(api_tokens.revoke, Revocation("a" * 12))

    assert await identity.principal(ANN) is None
    assert not identity.is_current(principal)
    assert identity.is_current(other)


@pytest.mark.parametrize(
    "change",
    [
        UserChange("ann", role=Role.VIEWER),
        UserChange("ann", groups=()),
        UserChange("zoe", groups=()),
        UserChange("ann", is_disabled=True),
    ],
)
async def test_stream_of_who_is_another_now_does_not_go_on(
    database: Database, identity: Identity, change: UserChange
) -> None:
    principal = await shown(identity)

    await database.write(users.change, change)

    await eventually(lambda: not identity.is_current(principal))


async def test_removed_user_is_nobody(database: Database, identity: Identity) -> None:
    principal = await shown(identity)

    await database.write(users.remove, "ann")

    assert await identity.principal(ANN) is None
    assert not identity.is_current(principal)


async def test_stream_does_not_go_on_when_a_mate_is_made_anew(database: Database, identity: Identity) -> None:
    principal = await shown(identity)

    await database.write(users.remove, "zoe")
    await database.write(users.put, User("zoe", groups=("lab",)))

    await eventually(lambda: not identity.is_current(principal))
    assert (await shown(identity)).mates.keys() == {"zoe"}


async def test_who_shows_no_token_stays_who_they_are(database: Database, identity: Identity) -> None:
    await database.write(users.put, User("root", Role.VIEWER, is_disabled=True))

    assert identity.is_current(Principal.owner("root"))


async def test_own_user_of_the_service_is_an_admin_whatever_is_stored(
    database: Database, identity: Identity
) -> None:
    token = user.write_api_token("e" * 12, SECRET)
    await database.write(users.put, User("root", Role.ADMIN))
    await make(database, token, "root")
    await database.write(users.change, UserChange("root", role=Role.VIEWER))

    principal = await shown(identity, token)

    assert (principal.name, principal.role, principal.scopes) == ("root", Role.ADMIN, frozenset(Scope))


@pytest.mark.parametrize("is_known", [False, True])
async def test_what_was_read_while_users_changed_is_read_again(
    database: Database, database_url: str, *, is_known: bool
) -> None:
    # That of another service, of whose commits nobody is told here but when this test says so.
    other = Database(database_url)
    await other.start()
    await other.write(users.put, User("ann"))
    await make(other, ANN, "ann")
    identity = Identity(database, "root")
    if is_known:
        await shown(identity)
        identity.notice(frozenset(Topic))
    reading = asyncio.create_task(identity.principal(ANN))
    await asyncio.sleep(0)
    identity.notice(frozenset(Topic))
    if not is_known:
        # Nothing to read anew, as far as is known: from here on all of it is taken for new.
        await identity.refresh()
    assert await reading is not None

    await other.write(api_tokens.revoke, Revocation("a" * 12))

    assert await identity.principal(ANN) is None
    await other.close()


async def test_request_reads_no_token_but_its_own(database: Database) -> None:
    for name, token in (("ann", ANN), ("zoe", ZOE)):
        await database.write(users.put, User(name))
        await make(database, token, name)
    identity = Identity(database, "root")
    await shown(identity)
    zoe = await shown(identity, ZOE)
    await database.write(api_tokens.revoke, Revocation("b" * 12))
    identity.notice(frozenset(Topic))

    await shown(identity)

    assert identity.is_current(zoe)
    await identity.refresh()
    assert not identity.is_current(zoe)


async def test_stream_whose_token_was_read_while_users_changed_goes_on(database: Database) -> None:
    await database.write(users.put, User("ann"))
    await make(database, ANN, "ann")
    identity = Identity(database, "root")
    reading = asyncio.create_task(identity.principal(ANN))
    await asyncio.sleep(0)
    identity.notice(frozenset(Topic))
    principal = await reading
    assert principal is not None

    await identity.refresh()

    assert identity.is_current(principal)


async def test_use_is_written_down_once_a_minute(database: Database, identity: Identity) -> None:
    async def last_used() -> datetime | None:
        (token,) = await database.read(api_tokens.listing, "ann")
        return token.last_used_at

    assert await last_used() is None
    await shown(identity)
    first = await eventually(last_used)
    await shown(identity)
    # What is noted of another token is written behind anything that was noted before.
    await shown(identity, ZOE)

    async def zoe_was_seen() -> bool:
        (token,) = await database.read(api_tokens.listing, "zoe")
        return token.last_used_at is not None

    await eventually(zoe_was_seen)
    assert await last_used() == first


async def test_known_token_needs_no_database(database_url: str) -> None:
    database = Database(database_url)
    await database.start()
    await database.write(users.put, User("ann"))
    await make(database, ANN, "ann")
    identity = Identity(database, "root")
    principal = await shown(identity)
    await database.close()

    assert await shown(identity) == principal


async def test_revocation_by_another_service_is_seen(postgresql_url: str) -> None:
    ours, theirs = Database(postgresql_url), Database(postgresql_url)
    for database in (ours, theirs):
        await database.start()
    await theirs.write(users.put, User("ann"))
    await make(theirs, ANN, "ann")
    identity = Identity(ours, "root")
    ours.on_commit(identity.notice)
    listening = asyncio.create_task(ours.notice_others(3600))
    async with running(identity):
        principal = await shown(identity)

        await theirs.write(api_tokens.revoke, Revocation("a" * 12))

        await eventually(lambda: not identity.is_current(principal))
        assert await identity.principal(ANN) is None
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    for database in (ours, theirs):
        await database.close()


async def test_token_that_cannot_be_looked_up_is_not_taken_for_a_wrong_one(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    await database.start()
    await database.write(users.put, User("ann"))
    await make(database, ANN, "ann")
    identity = Identity(database, "root")
    database.on_commit(identity.notice)
    await shown(identity)
    database.sqlite_file.rename(database.sqlite_file.with_suffix(".away"))
    identity.notice(frozenset(Topic))

    with pytest.raises(StoreUnavailable):
        await identity.principal(ANN)

    database.sqlite_file.with_suffix(".away").rename(database.sqlite_file)
    await database.close()

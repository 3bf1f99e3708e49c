"""Which API tokens there are, as far as somebody who is asked very often knows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest_asyncio

from jobmgr.domain import user
from jobmgr.domain.user import User
from jobmgr.manager.register import PAUSE_S, Register
from jobmgr.store import api_tokens, users
from jobmgr.store.api_tokens import Revocation
from jobmgr.store.engine import Database
from tests.manager.test_identity import ANN, SECRET, ZOE, make


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture
async def clock(database: Database) -> Clock:
    """Of a time in which ann and zoe are users, and ann has a token."""
    for name in ("ann", "zoe"):
        await database.write(users.put, User(name))
    await make(database, ANN, "ann")
    return Clock()


async def test_what_there_is_is_known_as_of_a_moment_ago(database: Database, clock: Clock) -> None:
    register = Register(database, clock)

    first = await register.holds(ANN), await register.holds(ZOE)
    await make(database, ZOE, "zoe")
    await database.write(api_tokens.revoke, Revocation("a" * 12))
    same = await register.holds(ANN), await register.holds(ZOE)
    clock.now += PAUSE_S
    later = await register.holds(ANN), await register.holds(ZOE)

    assert (first, same, later) == ((True, False), (True, False), (False, True))


async def test_what_is_no_token_any_more_or_never_was_is_not_in_it(database: Database, clock: Clock) -> None:
    past = user.write_api_token("c" * 12, SECRET)
    await make(database, past, "ann", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    future = user.write_api_token("d" * 12, SECRET)
    await make(database, future, "ann", expires_at=datetime.now(UTC) + timedelta(hours=1))
    register = Register(database, clock)

    assert await register.holds(future)
    for other in (past, f"jm_{'a' * 12}_{'t' * 43}", "\udcff", "", user.digest(ANN)):
        assert not await register.holds(other)

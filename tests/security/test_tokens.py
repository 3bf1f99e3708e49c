"""What is tried with API tokens: guessed, expired, revoked and other people's ones."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from jobmgr.api import owner_token
from jobmgr.domain import user
from jobmgr.errors import UnsafeFile
from jobmgr.store import api_tokens
from jobmgr.store.api_tokens import NewApiToken
from jobmgr.wire import spreadsheet
from jobmgr.wire.answers import AuditEntryAnswer
from tests.api.test_users import JOB, House, bearer, house, id_of  # noqa: F401 -- a fixture
from tests.security.guards import (
    CURRENT_LISTENERS,
    EXPIRY,
    HASHED_SECRET,
    NOTICED_CHANGES,
    OWN_TOKENS,
    OWNER_FILE,
    PLAIN_CELL,
    SAME_CALLER,
    rests_on,
)


@rests_on(HASHED_SECRET)
async def test_id_of_a_token_opens_nothing(house: House) -> None:  # noqa: F811
    token = await house.add("ann")

    assert await house.status(user.write_api_token(id_of(token), "s" * 43)) == 401


@rests_on(EXPIRY)
async def test_expired_token_opens_nothing(house: House) -> None:  # noqa: F811
    await house.add("ann")
    token = user.write_api_token("e" * 12, "s" * 43)
    past = datetime.now(UTC) - timedelta(seconds=1)
    new = NewApiToken("e" * 12, "ann", user.digest(token), "", frozenset(), "root", past)
    await house.manager.database.write(api_tokens.make, new)

    assert await house.status(token) == 401


@rests_on(NOTICED_CHANGES)
async def test_revoked_token_opens_nothing(house: House) -> None:  # noqa: F811
    token = await house.add("ann")
    assert await house.status(token) == 200
    await house.request("DELETE", f"/api/v1/tokens/{id_of(token)}")

    assert await house.status(token) == 401


@rests_on(NOTICED_CHANGES)
async def test_admin_of_yesterday_is_none(house: House) -> None:  # noqa: F811
    token = await house.add("ann", role="admin")
    assert (await house.by(token, "GET", "/api/v1/users")).status == 200
    await house.patch("/api/v1/users/ann", json={"role": "user"})

    assert (await house.by(token, "GET", "/api/v1/users")).status == 403


@rests_on(CURRENT_LISTENERS)
async def test_stream_that_was_opened_before_is_no_way_around(house: House) -> None:  # noqa: F811
    token = await house.add("ann")
    headers = {**bearer(token), "Accept": "text/event-stream"}
    told = b""
    async with (
        asyncio.timeout(30),
        house.session.get(f"{house.url}/api/v1/events", headers=headers) as stream,
    ):
        await stream.content.readuntil(b"\n\n")
        await house.request("DELETE", f"/api/v1/tokens/{id_of(token)}")
        await house.post("/api/v1/jobs", json={**JOB, "job_id": "after", "user": "ann"})
        while b"after" not in told and (part := await stream.content.readany()):
            told += part

    assert b"after" not in told


@rests_on(SAME_CALLER)
@pytest.mark.parametrize("written", ["&sid={}", "&sid=&sid={}"])
async def test_session_of_somebody_else_is_not_gone_on_with(house: House, written: str) -> None:  # noqa: F811
    ann, zoe = await house.add("ann"), await house.add("zoe")
    polling = "/socket.io/?EIO=4&transport=polling"
    opened = json.loads((await house.by(ann, "GET", polling)).body[1:])
    session = polling + written.format(opened["sid"])

    websocket = (house.url + session).replace("polling", "websocket")
    told = [
        (await house.request("POST", session, headers=bearer(zoe), data="40")).status,
        (await house.by(zoe, "GET", session)).status,
    ]
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await house.session.ws_connect(websocket, headers=bearer(zoe))

    assert told == [400, 400]
    assert (await house.request("POST", session, headers=bearer(ann), data="40")).status == 200
    assert (await house.by(ann, "GET", session)).body.startswith(b"40")


SOCKET = "/socket.io/?EIO=4&transport=websocket"


@rests_on(CURRENT_LISTENERS)
async def test_socket_that_was_opened_before_is_no_way_in(house: House) -> None:  # noqa: F811
    token = await house.add("ann")
    async with (
        asyncio.timeout(30),
        house.session.ws_connect(house.url + SOCKET, headers=bearer(token)) as socket,
    ):
        await socket.receive_str()
        await house.request("DELETE", f"/api/v1/tokens/{id_of(token)}")
        await socket.send_str("40")
        answer = await socket.receive_str()

    assert answer.startswith("44")
    assert "token_unknown" in answer


@rests_on(CURRENT_LISTENERS)
async def test_socket_of_who_says_nothing_ends_too(house: House) -> None:  # noqa: F811
    token = await house.add("ann")
    async with (
        asyncio.timeout(30),
        house.session.ws_connect(house.url + SOCKET) as other,
        house.session.ws_connect(house.url + SOCKET, headers=bearer(token)) as socket,
    ):
        await other.send_str('40{"rooms":["events"]}')
        await socket.receive_str()
        await house.request("DELETE", f"/api/v1/tokens/{id_of(token)}")
        await house.post("/api/v1/jobs", json={**JOB, "job_id": "after"})
        while "after" not in await other.receive_str():
            pass
        # What is told is told after the look at who may listen.
        try:
            end = await socket.receive(timeout=3)
        except TimeoutError:
            pytest.fail("it stays open")

    assert end.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR)


@rests_on(OWN_TOKENS)
async def test_tokens_of_others_are_neither_seen_nor_revoked(house: House) -> None:  # noqa: F811
    ann, zoe = await house.add("ann"), await house.add("zoe")

    listed = await house.by(zoe, "GET", "/api/v1/tokens")
    await house.by(zoe, "DELETE", f"/api/v1/tokens/{id_of(ann)}")

    assert [token["user"] for token in listed.json["tokens"]] == ["zoe"]
    assert await house.status(ann) == 200


@rests_on(OWNER_FILE)
def test_token_that_others_may_have_read_is_not_the_owners(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("known to all")
    path.chmod(0o644)

    with pytest.raises(UnsafeFile):
        owner_token.read(path)


@rests_on(PLAIN_CELL)
@pytest.mark.parametrize("actor", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "\r=1"])
def test_report_computes_nothing(actor: str) -> None:
    entry = AuditEntryAnswer(1, "2026-01-31T18:00:00.000000Z", actor, None, "cancelled", "j", {})

    text = spreadsheet.of_audit([entry])

    assert not text.split("\r\n", 1)[1].split(",", 2)[2].lstrip('"').startswith(actor[0])


@rests_on(PLAIN_CELL)
@pytest.mark.parametrize("actor", ["x;=1+1;y", 'x;"=1+1";y', "x; =1+1", "x\t=1+1", "x\n=1+1"])
def test_report_computes_nothing_where_cells_are_separated_otherwise(actor: str) -> None:
    entry = AuditEntryAnswer(1, "2026-01-31T18:00:00.000000Z", actor, None, "cancelled", "j", {})

    cells = re.split("[;\t\n]", spreadsheet.of_audit([entry]))

    assert not any(cell.lstrip(' "').startswith("=") for cell in cells)

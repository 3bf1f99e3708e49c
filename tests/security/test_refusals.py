"""What was refused leaves a trace that tells no secrets, and that a flood makes no longer."""

from __future__ import annotations

import asyncio

import pytest

from tests.api.conftest import Answer
from tests.api.test_users import House, bearer, house, id_of  # noqa: F401 -- a fixture
from tests.security.guards import FEW_LINES, PATH_ONLY, TOLD, rests_on

EVIL = {"Origin": "https://evil.example"}
POLLING = "/socket.io/?EIO=4&transport=polling"


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if (record.name, record.levelname) == ("jobmgr.api.refusals", "WARNING")
    ]


@rests_on(TOLD)
async def test_who_was_refused_what_is_in_the_log(
    house: House,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    ann = await house.add("ann")
    caplog.clear()

    (await house.by("wrong", "GET", "/api/v1/jobs")).problem(401, "token_unknown")
    (await house.get("/api/v1/jobs", headers=EVIL)).problem(403, "wrong_origin")
    (await house.get("/healthz/x", headers={"Host": "evil.example"})).problem(421, "wrong_host")
    (await house.by(ann, "PATCH", "/api/v1/limits", json={})).problem(403, "access_denied")
    assert (await house.by("wrong", "GET", "/jobs")).status == 401

    assert told(caplog) == [
        "refused 401 token_unknown: GET /api/v1/jobs from 127.0.0.1",
        "refused 403 wrong_origin: GET /api/v1/jobs from 127.0.0.1",
        "refused 421 wrong_host: GET /healthz/x from 127.0.0.1",
        f"refused 403 access_denied: PATCH /api/v1/limits from 127.0.0.1 token {id_of(ann)} by ann",
        "refused 401 token_unknown: GET /jobs from 127.0.0.1",
    ]


@rests_on(TOLD)
async def test_who_may_not_listen_is_in_the_log(
    house: House,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    ann = await house.add("ann")
    async with (
        asyncio.timeout(30),
        house.session.ws_connect(
            house.url + POLLING.replace("polling", "websocket"), headers=bearer(ann)
        ) as socket,
    ):
        await socket.receive_str()
        await house.request("DELETE", f"/api/v1/tokens/{id_of(ann)}")
        caplog.clear()
        await socket.send_str("40")
        assert "token_unknown" in await socket.receive_str()

    where = f"GET /socket.io/ from 127.0.0.1 token {id_of(ann)} by ann"
    assert told(caplog) == [f"refused 401 token_unknown: {where}"]


@rests_on(PATH_ONLY)
async def test_log_of_what_was_refused_tells_no_secret(
    house: House,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = "MARKER0" * 6 + "_"
    for path in (
        f"/api/v1/jobs?token={secret}",
        f"{POLLING}&sid={secret}",
        f"/api/v1/tokens/jm_{'0' * 12}_{secret}",
        f"/api/v1/tokens/jmj_job.1.{'a' * 32}.{secret}",
    ):
        assert (await house.by(secret, "DELETE", path)).status == 401

    assert len(told(caplog)) == 4
    assert "MARKER0" not in caplog.text


@rests_on(FEW_LINES)
async def test_flood_of_wrong_tokens_does_not_fill_the_log(
    house: House,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def guess(number: int) -> Answer:
        return await house.by(f"guess {number}", "GET", "/api/v1/jobs")

    answers = await asyncio.gather(*map(guess, range(200)))

    assert {answer.status for answer in answers} <= {401, 429}
    # Ten at once; the others are some for as long as this takes.
    assert 10 <= len(told(caplog)) < 100

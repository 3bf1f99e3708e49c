"""The token of a job opens nothing but that job, and only while that attempt is live."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from jobmgr.domain.user import User
from jobmgr.manager.job_tokens import JobTokens
from jobmgr.store import users
from jobmgr.store.users import UserChange
from tests.api.conftest import Api, eventually
from tests.api.test_access import BODIES, OF_A_JOB
from tests.security.guards import (
    CONFINED_EVENTS,
    CONFINED_LISTS,
    ID_OF_ATTEMPT,
    JOB_TOKEN_CODE,
    LIVE,
    ONE_DECISION,
    rests_on,
)


@pytest_asyncio.fixture
async def bound(api: Api, tmp_path: Path) -> AsyncIterator[tuple[Api, JobTokens]]:
    """A service, with a job that runs until there is a file."""
    api.manager.parts.job_tokens = JobTokens(api.manager.database, b"key")
    await start(api, tmp_path)
    yield api, api.manager.parts.job_tokens
    (tmp_path / "go").touch()
    await api.manager.wait("runs", 30)


async def start(api: Api, tmp_path: Path) -> None:
    script = 'while [ ! -e "$0" ]; do sleep 0.02; done'
    await api.submit("sh", "-c", script, str(tmp_path / "go"), job_id="runs", site="local")

    async def is_running() -> bool:
        return (await api.manager.get("runs")).status == "running"

    await eventually(is_running)


async def token_of(api: Api, tokens: JobTokens, job_id: str = "runs") -> str:
    (attempt,) = await api.manager.attempts(job_id)
    return tokens.of(job_id, 1, attempt.token)


async def report(api: Api, token: str, job_id: str = "runs") -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return (await api.patch(f"/api/v1/jobs/{job_id}", headers=headers, json={"name": "told"})).status


@rests_on(JOB_TOKEN_CODE)
async def test_code_of_another_key_is_no_token(bound: tuple[Api, JobTokens]) -> None:
    api, tokens = bound
    right = await token_of(api, tokens)

    # It is known what an attempt is called: that stands in the names of jobs of schedulers.
    forged = await token_of(api, JobTokens(api.manager.database, b"another key"))

    assert await report(api, right) == 200
    assert await report(api, forged) == 401


@rests_on(LIVE)
async def test_token_ends_with_its_attempt(bound: tuple[Api, JobTokens], tmp_path: Path) -> None:
    api, tokens = bound
    token = await token_of(api, tokens)
    assert await report(api, token) == 200
    listener = await tokens.principal(token)
    assert listener is not None
    assert await tokens.is_current(listener)

    (tmp_path / "go").touch()
    await api.manager.wait("runs", 30)

    assert await report(api, token) == 401
    assert not await tokens.is_current(listener)


@rests_on(LIVE)
async def test_job_of_somebody_who_is_disabled_says_nothing_more(bound: tuple[Api, JobTokens]) -> None:
    api, tokens = bound
    token = await token_of(api, tokens)
    await api.manager.database.write(users.put, User(api.manager.user))
    assert await report(api, token) == 200
    listener = await tokens.principal(token)
    assert listener is not None

    await api.manager.database.write(users.change, UserChange(api.manager.user, is_disabled=True))

    assert await report(api, token) == 401
    assert not await tokens.is_current(listener)


@rests_on(ID_OF_ATTEMPT)
async def test_stream_of_a_job_is_not_told_of_another_with_its_id(
    bound: tuple[Api, JobTokens], tmp_path: Path
) -> None:
    api, tokens = bound
    listener = await tokens.principal(await token_of(api, tokens))
    assert listener is not None
    (tmp_path / "go").touch()
    await api.manager.wait("runs", 30)
    await api.manager.delete("runs")

    (tmp_path / "go").unlink()
    await start(api, tmp_path)

    assert not await tokens.is_current(listener)


@rests_on(ONE_DECISION)
async def test_token_of_a_job_opens_no_other(bound: tuple[Api, JobTokens]) -> None:
    api, tokens = bound
    headers = {"Authorization": f"Bearer {await token_of(api, tokens)}"}
    await api.submit("true", job_id="other", name="its secret", draft=True)

    for route in OF_A_JOB:
        path = route.path.replace("{job_id}", "other").replace("{path:[\\s\\S]+}", "stdout")
        answer = await api.request(
            route.method, path, headers=headers, json=BODIES.get((route.method, route.path), {})
        )
        assert b"secret" not in answer.body, route
        assert answer.status in (403, 404) or b"there is no job" in answer.body, route
    assert (await api.manager.get("other")).v == 1


@rests_on(CONFINED_LISTS)
async def test_token_of_a_job_lists_no_other(bound: tuple[Api, JobTokens]) -> None:
    api, tokens = bound
    headers = {"Authorization": f"Bearer {await token_of(api, tokens)}"}
    await api.submit("true", job_id="other", draft=True)

    found = (await api.get("/api/v1/jobs", headers=headers)).json["jobs"]

    assert [job["job_id"] for job in found] == ["runs"]


@rests_on(CONFINED_EVENTS)
async def test_token_of_a_job_hears_of_no_other(bound: tuple[Api, JobTokens]) -> None:
    api, tokens = bound
    headers = {"Authorization": f"Bearer {await token_of(api, tokens)}"}
    await api.submit("true", job_id="other", draft=True)

    told = (await api.get("/api/v1/events", headers=headers)).json["events"]

    assert {event["job_id"] for event in told} == {"runs"}

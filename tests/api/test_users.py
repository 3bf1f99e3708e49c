"""Users, API tokens and the audit over REST, on both databases."""

from __future__ import annotations

import asyncio
import csv
import io
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import socketio
import sqlalchemy as sa

from jobmgr import settings as settings_module
from jobmgr.domain.access import Caller, Principal, Role
from jobmgr.domain.user import digest
from jobmgr.errors import AccessDenied
from jobmgr.service import JobManager
from jobmgr.store.tables import Base
from tests.api.conftest import Answer, Api, end_all, eventually
from tests.api.test_openapi import answer_schema, conforms, document  # noqa: F401 -- a fixture

JOB = {"command": ["true"], "draft": True}


@pytest_asyncio.fixture
async def manager(database_url: str, tmp_path: Path) -> AsyncIterator[JobManager]:
    """The service on each database."""
    home = tmp_path / "home"
    home.mkdir()
    given = {"home": str(home), "database": database_url, "max_concurrent_jobs": 2}
    settings = replace(settings_module.load(given, {}, tmp_path), cancel_grace_s=1.0)
    async with JobManager(settings=settings) as running:
        yield running
        await end_all(running)


class House(Api):
    """The service, with users who show API tokens."""

    async def add(self, name: str, **fields: Any) -> str:
        """A new user's API token."""
        answer = await self.request("PUT", f"/api/v1/users/{name}", json=fields)
        assert answer.status == 200, answer
        return await self.token(user=name)

    async def token(self, **fields: Any) -> str:
        answer = await self.post("/api/v1/tokens", json=fields)
        assert answer.status == 201, answer
        return str(answer.json["token"])

    async def by(self, token: str, method: str, path: str, **options: Any) -> Answer:
        return await self.request(method, path, headers=bearer(token), **options)

    async def status(self, token: str) -> int:
        return (await self.by(token, "GET", "/api/v1/jobs")).status


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def id_of(token: str) -> str:
    return token.split("_")[1]


@pytest_asyncio.fixture
async def house(api: Api) -> House:
    return House(api.manager, api.url, api.session)


async def test_user_with_a_token_is_who_it_says(house: House) -> None:
    token = await house.add("ann", groups=["lab"])

    me = (await house.by(token, "GET", "/api/v1/me")).json
    job_id = (await house.by(token, "POST", "/api/v1/jobs", json=JOB)).json["job_id"]

    assert me.pop("expires_at") is not None
    assert me == {
        "name": "ann",
        "role": "user",
        "scopes": ["read", "submit"],
        "groups": ["lab"],
        "token_id": id_of(token),
        "job_id": None,
    }
    assert (await house.manager.get(job_id)).user == "ann"


async def test_own_user_of_the_service_needs_no_row_and_cannot_be_locked_out(house: House) -> None:
    owner = house.manager.user
    me = (await house.get("/api/v1/me")).json
    first = (await house.get("/api/v1/users")).json["users"]
    refused = [
        await house.request("PUT", f"/api/v1/users/{owner}", json={"role": "user"}),
        await house.request("PUT", f"/api/v1/users/{owner}", json={"role": "admin", "disabled": True}),
        await house.patch(f"/api/v1/users/{owner}", json={"role": "viewer"}),
        await house.patch(f"/api/v1/users/{owner}", json={"disabled": True}),
        await house.request("DELETE", f"/api/v1/users/{owner}"),
    ]
    in_a_group = await house.patch(f"/api/v1/users/{owner}", json={"groups": ["lab"]})
    token = await house.token(label="backup")

    assert (me["name"], me["role"], me["token_id"]) == (owner, "admin", None)
    assert [(user["name"], user["role"], user["created_at"]) for user in first] == [(owner, "admin", None)]
    for answer in refused:
        answer.problem(409, "conflict")
    assert (in_a_group.status, in_a_group.json["groups"]) == (200, ["lab"])
    assert (await house.by(token, "GET", "/api/v1/me")).json["role"] == "admin"


async def test_of_two_who_add_the_same_user_one_is_told(house: House) -> None:
    asked = [{"groups": ["lab"], "new": True}, {"role": "admin", "new": True}]

    first, second = await asyncio.gather(
        *(house.request("PUT", "/api/v1/users/ann", json=fields) for fields in asked)
    )

    made, told = sorted((first, second), key=lambda answer: answer.status)
    assert "ann is there already" in told.problem(409, "conflict")
    assert made.status == 200
    assert (await house.get("/api/v1/users/ann")).json == made.json


async def test_own_user_of_the_service_is_there_already(house: House) -> None:
    owner = house.manager.user

    answer = await house.request("PUT", f"/api/v1/users/{owner}", json={"role": "admin", "new": True})

    assert "is there already" in answer.problem(409, "conflict")


async def test_users_are_changed_and_forgotten(house: House) -> None:
    await house.add("ann")
    changed = await house.patch("/api/v1/users/ann", json={"role": "viewer", "groups": ["b", "a", "a"]})
    got = await house.get("/api/v1/users/ann")
    removed = await house.request("DELETE", "/api/v1/users/ann")

    assert changed.json["role"] == "viewer"
    assert changed.json["groups"] == ["a", "b"]
    assert got.json == changed.json
    assert removed.status == 204
    (await house.get("/api/v1/users/ann")).problem(404, "user_not_found")
    (await house.patch("/api/v1/users/ann", json={"role": "user"})).problem(404, "user_not_found")
    (await house.request("DELETE", "/api/v1/users/ann")).problem(404, "user_not_found")
    (await house.post("/api/v1/tokens", json={"user": "ann"})).problem(404, "user_not_found")


async def test_user_with_jobs_is_disabled_instead(house: House) -> None:
    token = await house.add("ann")
    await house.by(token, "POST", "/api/v1/jobs", json=JOB)

    refused = await house.request("DELETE", "/api/v1/users/ann")
    disabled = await house.patch("/api/v1/users/ann", json={"disabled": True})

    assert "jobs of ann are stored" in refused.problem(409, "conflict")
    assert disabled.json["disabled"] is True
    (await house.by(token, "GET", "/api/v1/jobs")).problem(401, "token_unknown")
    (await house.post("/api/v1/tokens", json={"user": "ann"})).problem(409, "conflict")


# What does not fit, and the field that is to blame.
WRONG: tuple[tuple[str, str, Any, str | None], ...] = (
    ("PUT", "/api/v1/users/a%20b", {}, "name"),
    ("PUT", "/api/v1/users/%D0%B0nn", {}, "name"),
    ("PUT", "/api/v1/users/a%0Ab", {}, "name"),
    ("PUT", "/api/v1/users/-a", {}, "name"),
    ("PUT", f"/api/v1/users/{'a' * 129}", {}, "name"),
    ("PUT", "/api/v1/users/ann", {"role": "king"}, "role"),
    ("PUT", "/api/v1/users/ann", {"groups": ["a b"]}, "groups"),
    ("PUT", "/api/v1/users/ann", {"name": "zoe"}, "name"),
    ("PATCH", "/api/v1/users/zoe", {}, None),
    ("POST", "/api/v1/tokens", {"scopes": ["all"]}, "scopes[0]"),
    ("POST", "/api/v1/tokens", {"label": "a\nb"}, "label"),
    ("POST", "/api/v1/tokens", {"expires": "soon"}, "expires"),
    ("POST", "/api/v1/tokens", {"expires": "0s"}, "expires"),
    ("POST", "/api/v1/tokens", {"expires": "90"}, "expires"),
    ("POST", "/api/v1/tokens", {"expires": "9999-12-31T23:59:59-23:59"}, "expires"),
    ("POST", "/api/v1/tokens", {"expires": "99999999999d"}, "expires"),
    ("POST", "/api/v1/tokens", {"expires": "2026-01-01T00:00:00"}, "expires"),
    ("POST", "/api/v1/tokens", {"expires": "2020-01-01T00:00:00Z"}, "expires"),
    ("GET", "/api/v1/reports/audit?since=yesterday", None, "since"),
    ("GET", "/api/v1/reports/audit?since=2026-01-01T00:00:00", None, "since"),
    ("GET", "/api/v1/reports/audit?since=0001-01-01T00:00:00%2B23:59", None, "since"),
    ("GET", "/api/v1/reports/audit?actor=a%00b", None, "actor"),
    ("GET", "/api/v1/reports/audit?cursor=x", None, "cursor"),
    ("GET", "/api/v1/reports/audit?format=xml", None, "format"),
)


async def test_what_does_not_fit_names_its_field(api: Api) -> None:
    for method, path, body, field in WRONG:
        answer = await api.request(method, path, **({} if body is None else {"json": body}))
        answer.problem(422, "invalid_request", field)


async def test_what_can_be_no_name_is_nobodys(api: Api) -> None:
    for name in ("a%00b", "a%20b", "%ED%A0%80", "a" * 200):
        user = f"/api/v1/users/{name}"
        (await api.get(user)).problem(404, "user_not_found")
        (await api.patch(user, json={"role": "viewer"})).problem(404, "user_not_found")
        (await api.request("DELETE", user)).problem(404, "user_not_found")
        (await api.request("DELETE", f"/api/v1/tokens/{name}")).problem(404, "api_token_not_found")
    (await api.post("/api/v1/tokens", json={"user": "a\0b"})).problem(404, "user_not_found")


async def test_token_lasts_as_long_as_was_said(house: House) -> None:
    async def expires(**fields: Any) -> str | None:
        answer = await house.post("/api/v1/tokens", json=fields)
        return answer.json["expires_at"]  # type: ignore[no-any-return]

    assert await expires(expires="never") is None
    assert (await expires(expires="1-00:00:00") or "") < (await expires(expires="25h") or "")
    assert await expires(expires="2099-01-31T18:00:00+01:00") == "2099-01-31T17:00:00.000000Z"
    assert (
        (await expires() or "")
        < (await expires(expires="91d") or "")
        < (await expires(expires="2400h") or "")
    )


async def test_token_is_good_for_its_scopes_only(house: House) -> None:
    await house.add("ann")
    reader = await house.token(user="ann", scopes=["read"])
    too_much = await house.post("/api/v1/tokens", json={"user": "ann", "scopes": ["read", "admin"]})

    refused = await house.by(reader, "POST", "/api/v1/jobs", json=JOB)

    assert await house.status(reader) == 200
    assert "scope submit" in refused.problem(403, "access_denied")
    assert "read, submit" in too_much.problem(422, "invalid_request", "scopes")


async def test_everybody_lists_and_revokes_own_tokens_and_nobody_elses(house: House) -> None:
    ann, zoe = await house.add("ann"), await house.add("zoe")
    # Whoever may only submit may do this, too.
    second = await house.token(user="ann", label="second", scopes=["submit"])

    own = (await house.by(second, "GET", "/api/v1/tokens")).json["tokens"]
    foreign = await house.by(second, "GET", "/api/v1/tokens?user=zoe")
    refused = await house.by(second, "DELETE", f"/api/v1/tokens/{id_of(zoe)}")
    none = await house.by(second, "DELETE", "/api/v1/tokens/000000000000")
    revoked = await house.by(second, "DELETE", f"/api/v1/tokens/{id_of(ann)}")

    assert [(token["user"], token["label"]) for token in own] == [("ann", "second"), ("ann", "")]
    foreign.problem(403, "access_denied")
    assert refused.problem(404, "api_token_not_found").replace(id_of(zoe), "0" * 12) == none.problem(
        404, "api_token_not_found"
    )
    assert revoked.json["revoked_at"] is not None
    assert await house.status(ann) == 401
    assert await house.status(zoe) == 200
    everything = (await house.get("/api/v1/tokens")).json["tokens"]
    assert {token["user"] for token in everything} == {"ann", "zoe"}


async def test_job_has_no_say_about_the_tokens_of_its_user(house: House) -> None:
    ann = await house.add("ann")
    of_job = house.manager.acting(Caller(Principal("ann", Role.USER, job_id="j"), "127.0.0.1"))

    with pytest.raises(AccessDenied):
        await of_job.api_tokens()
    with pytest.raises(AccessDenied):
        await of_job.revoke_api_token(id_of(ann))

    assert await house.status(ann) == 200


async def test_last_use_is_shown(house: House) -> None:
    token = await house.add("ann")

    async def last_used() -> Any:
        (found,) = (await house.get("/api/v1/tokens?user=ann")).json["tokens"]
        return found["last_used_at"]

    assert await last_used() is None
    await house.status(token)

    assert await eventually(last_used) is not None


async def test_stream_ends_when_its_token_is_revoked(house: House) -> None:
    token = await house.add("ann")
    headers = {**bearer(token), "Accept": "text/event-stream"}

    async with (
        asyncio.timeout(30),
        house.session.get(f"{house.url}/api/v1/events", headers=headers) as stream,
    ):
        assert await stream.content.readuntil(b"\n\n")
        await house.by(token, "POST", "/api/v1/jobs", json={**JOB, "job_id": "before"})
        told = await stream.content.readuntil(b"\n\n")
        await house.request("DELETE", f"/api/v1/tokens/{id_of(token)}")
        await house.post("/api/v1/jobs", json={**JOB, "job_id": "after", "user": "ann"})
        rest = await stream.content.read()

    assert b"before" in told
    assert b"after" not in rest


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_socket_ends_when_its_user_is_another_now(house: House, transport: str) -> None:
    token = await house.add("ann")
    client, told, gone = socketio.AsyncClient(reconnection=False), [], asyncio.Event()

    async def keep(name: str, data: Any) -> None:
        told.append((name, data))

    async def leave(*_: object) -> None:
        gone.set()

    client.on("*", keep)
    client.on("disconnect", leave)
    await client.connect(house.url, headers=bearer(token), transports=[transport], auth={"rooms": ["events"]})

    await house.patch("/api/v1/users/ann", json={"role": "viewer"})
    await house.post("/api/v1/jobs", json={**JOB, "job_id": "after", "user": "ann"})
    async with asyncio.timeout(30):
        await gone.wait()
    await client.shutdown()

    assert told == []


async def test_secret_is_told_once_and_kept_nowhere(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = {"Idempotency-Key": "once"}
    await house.request("PUT", "/api/v1/users/ann", json={})
    made = await house.post("/api/v1/tokens", json={"user": "ann"}, headers=key)
    token = made.json["token"]
    secret = token.split("_", 2)[2]
    wrong = f"{token[:-5]}wrong"
    again = await house.post("/api/v1/tokens", json={"user": "ann"}, headers=key)
    await house.status(token)
    await house.status(wrong)
    answers = [
        await house.get("/api/v1/tokens"),
        await house.get("/api/v1/events"),
        await house.get("/api/v1/reports/audit"),
        await house.by(token, "GET", "/api/v1/me"),
        await house.by(wrong, "GET", "/api/v1/me"),
        await house.request("DELETE", f"/api/v1/tokens/{id_of(token)}"),
        again,
    ]

    def everything(connection: sa.Connection) -> str:
        tables = Base.metadata.sorted_tables
        return "".join(str(connection.execute(sa.select(table)).all()) for table in tables)

    stored = await house.manager.database.read(everything)

    assert id_of(token) in again.problem(409, "conflict")
    assert digest(token) in stored
    for text in (stored, caplog.text, *(str(answer) for answer in answers)):
        assert secret not in text
        assert secret[:-5] not in text
    for answer in answers:
        assert digest(token) not in str(answer)
    assert made.headers["Cache-Control"] == "no-store"


async def test_audit_says_who_did_what_from_where(house: House) -> None:
    token = await house.add("ann")
    job_id = (await house.by(token, "POST", "/api/v1/jobs", json=JOB)).json["job_id"]
    await house.post(f"/api/v1/jobs/{job_id}/cancel")

    entries = (await house.get("/api/v1/reports/audit")).json["entries"]
    of_job = (await house.get(f"/api/v1/reports/audit?job={job_id}&actor=ann")).json["entries"]

    owner = house.manager.user
    assert [(entry["actor"], entry["kind"]) for entry in entries] == [
        (owner, "cancelled"),
        ("ann", "submitted"),
        (owner, "api_token_made"),
        (owner, "user_added"),
    ]
    through = f"127.0.0.1 token {id_of(token)}"
    assert [entry["origin"] for entry in entries] == ["127.0.0.1", through, "127.0.0.1", "127.0.0.1"]
    assert entries[3]["changed"] == {"name": "ann", "role": "user", "groups": [], "disabled": False}
    assert of_job == [entries[1]]
    (await house.by(token, "GET", "/api/v1/reports/audit")).problem(403, "access_denied")


@pytest.mark.parametrize("ask", ["accept", "format"])
async def test_audit_as_csv_has_no_formulas(house: House, ask: str) -> None:
    token = await house.add("ann")
    await house.by(token, "POST", "/api/v1/jobs", json={**JOB, "name": '=HYPERLINK("x")'})
    where, headers = "/api/v1/reports/audit?limit=2", {}
    if ask == "accept":
        headers = {"Accept": "text/csv"}
    else:
        where += "&format=csv"

    answer = await house.get(where, headers=headers)
    json = (await house.get("/api/v1/reports/audit?limit=2")).json

    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["X-Next-Cursor"] == json["next_cursor"]
    head, *rows = list(csv.reader(io.StringIO(answer.body.decode())))
    assert head == ["seq", "at", "actor", "origin", "kind", "job_id", "changed"]
    assert [row[2] for row in rows] == [entry["actor"] for entry in json["entries"]]
    assert "HYPERLINK" in rows[0][-1]
    assert not any(cell.startswith(tuple("=+-@\t\r")) for row in rows for cell in row)


async def test_answers_are_as_described(house: House, document: dict[str, Any]) -> None:  # noqa: F811
    await house.add("ann")

    for path in ("me", "users", "tokens", "reports/audit"):
        answer = await house.get(f"/api/v1/{path}")
        schema = answer_schema(document, f"/api/v1/{path}", "get", "200", "application/json")
        conforms(document, answer.json, schema)
    made = await house.post("/api/v1/tokens", json={})
    conforms(
        document,
        made.json,
        answer_schema(document, "/api/v1/tokens", "post", "201", "application/json"),
    )

"""What somebody else left: files under an id that is used again, and headers that no parser understood."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from tests.api.conftest import Api
from tests.api.test_access import House
from tests.hfss.installed import install, make_project
from tests.security.guards import FEW_LINES, OWN_LOG, PUT_ASIDE, UNQUOTED_ANSWER, UNQUOTED_LOG, rests_on
from tests.security.test_users import house  # noqa: F401 -- fixture

# What programs send that read a token of a file with the newlines of another system, and the like.
BROKEN = (
    b"Authorization: Bearer MARKER0\r\r\n",
    b"Authorization : Bearer MARKER0\r\n",
    b"Authorization: Bearer MARKER0\x00\r\n",
    b"Authorization: Bearer\r\n MARKER0\r\n",
    b"Authorization: Bearer " + b"MARKER0" * 2000 + b"\r\n",
)


@rests_on(PUT_ASIDE)
async def test_id_of_a_deleted_job_does_not_lead_to_its_files(house: House) -> None:  # noqa: F811
    write = ["sh", "-c", "echo HERS; echo HERS > result.txt"]
    await house.by("ann", "POST", "/api/v1/jobs", json={"job_id": "again", "command": write})
    await house.manager.wait("again", 30)
    assert (await house.by("ann", "DELETE", "/api/v1/jobs/again")).status == 204
    await house.by("zoe", "POST", "/api/v1/jobs", json={"job_id": "again", "command": ["true"]})
    await house.manager.wait("again", 30)

    for path in ("files/result.txt", "logs/stdout", "files"):
        answer = await house.by("zoe", "GET", f"/api/v1/jobs/again/{path}")
        assert b"HERS" not in answer.body
        assert b"result.txt" not in answer.body or answer.status == 404


@rests_on(OWN_LOG)
async def test_id_of_a_deleted_simulation_does_not_lead_to_its_log(
    house: House,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = install(tmp_path / "v252", "echo Project:HERS, Design:HERS\n")
    monkeypatch.setenv("ANSYSEM_ROOT252", str(tmp_path / "v252"))
    project = make_project(tmp_path / "antenna.aedt")
    asked = {"config": {"ansys_edt_path": program, "project_path": project, "jobid": "again"}}
    await house.by("ann", "POST", "/jobs/submit", json=asked)
    await house.manager.wait("again", 30)
    assert b"HERS" in (await house.by("ann", "GET", "/api/jobs/again/log")).body
    assert (await house.by("ann", "DELETE", "/api/v1/jobs/again")).status == 204
    # What is longer cannot be told from what goes on.
    becomes(program, f"echo {'padding ' * 100}")
    await house.by("zoe", "POST", "/jobs/submit", json=asked)
    await house.manager.wait("again", 30)

    for path in ("/api/jobs/again/log", "/api/v1/jobs/again/progress"):
        answer = await house.by("zoe", "GET", path)
        assert answer.status < 300
        assert b"HERS" not in answer.body


def becomes(program: str, body: str) -> None:
    Path(program).write_text(f"#!/bin/sh\n{body}\n")


async def say(api: Api, header: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    writer.write(b"GET /api/v1/jobs HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n")
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    return answer


@rests_on(UNQUOTED_ANSWER)
async def test_answer_does_not_repeat_a_header_that_is_none(api: Api) -> None:
    for header in BROKEN:
        assert b"MARKER0" not in await say(api, header), header


@rests_on(UNQUOTED_LOG)
async def test_log_does_not_repeat_a_header_that_is_none(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for header in BROKEN:
        await say(api, header)
        assert "MARKER0" not in caplog.text, header


@rests_on(FEW_LINES)
async def test_flood_of_what_is_no_http_does_not_fill_the_log(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(60):
        await say(api, BROKEN[0])

    # Ten at once; the others are some for as long as this takes.
    assert 10 <= caplog.text.count("is not HTTP") < 50

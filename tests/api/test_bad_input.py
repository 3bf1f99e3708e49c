"""Everything wrong that can be sent gets a sentence, and stores nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from jobmgr import settings as settings_module
from jobmgr.api.app import make_app
from jobmgr.api.browser import Browsers
from jobmgr.api.guard import Guard, own_uid
from jobmgr.api.server import Server
from jobmgr.service import JobManager
from tests.api.conftest import OWNER, TIMEOUT_S, TOKEN, Api, serving

MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b" \n ", "empty"),
        (b"{", "not valid JSON"),
        (b"{'command': ['true']}", "not valid JSON"),
        (b'{"command": ["true"]} {}', "not valid JSON"),
        (b'{"command": ["true"], "priority": NaN}', "not valid JSON"),
        (b'{"command": ["true"], "priority": Infinity}', "not valid JSON"),
        (b'{"command": ["\xff"]}', "not UTF-8"),
        (b'\xef\xbb\xbf{"command": ["true"]}', "byte order mark; save it as UTF-8 without one"),
        (b'{"command": ["true"], "extended_properties": {"a": ' + b"[" * 40_000, "deep"),
        (b'{"command": ["true"], "extended_properties": {"a": ' + b"[" * 300 + b"]" * 300 + b"}}", "deep"),
        (b"[" * 1_000_000, "object"),
        (b'{"jobs": [' + b"[" * 100_000, "deep"),
    ],
)
async def test_body_that_is_no_json_is_refused(api: Api, body: bytes, said: str) -> None:
    answer = await api.post_bytes(body)

    assert answer.status in (400, 422)
    assert answer.json["code"] in ("malformed_body", "invalid_request")
    assert said in answer.json["detail"]
    assert await api.count() == 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"command": None}, "command"),
        ({"command": "true"}, "command"),
        ({"command": []}, "command"),
        ({"command": [""]}, "command[0]"),
        ({"command": ["a\0b"]}, "command[0]"),
        ({"command": ["true", "a\0b"]}, "command[1]"),
        ({"comand": ["true"]}, "comand"),
        ({"env": {"A": 1}}, "env.A"),
        ({"env": {"A": "1", "B C": None}}, "env.'B C'"),
        ({"env": ["A"]}, "env"),
        ({"env": {"A=B": "1"}}, "env.'A=B'"),
        ({"env": {"A": "x\0"}}, "env.A"),
        ({"env": {"JOBMGR_URL": "x"}}, "env.JOBMGR_URL"),
        ({"env": {"B": {"secret": "file:/x"}, "A": {"secret": 1}}}, "env.A.secret"),
        ({"env": {"B": {"secret": "file:/x"}, "A": {"secret": "sesame"}}}, "env.A.secret"),
        ({"env": {"A": {"secret": "file:/x", "b": "1"}}}, "env.A.b"),
        ({"env": {"A": {}}}, "env.A.secret"),
        ({"env": {"A": {"secret": "env:PGPASSWORD"}}}, "env.A.secret"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "nul\0"}, "name"),
        ({"name": "x" * 2000}, "name"),
        ({"job_id": "../../etc"}, "job_id"),
        ({"job_id": "line\n"}, "job_id"),
        ({"job_id": ""}, "job_id"),
        ({"cwd": "relative"}, "cwd"),
        ({"priority": "high"}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 1e300}, "priority"),
        ({"tags": "red"}, "tags"),
        ({"tags": [""]}, "tags[0]"),
        ({"resources": {"cpus": 0}}, "resources.cpus"),
        ({"resources": {"memory": "lots"}}, "resources.memory"),
        ({"resources": {"walltime": "24:00"}}, "resources.walltime"),
        ({"resources": {"cores": 1}}, "resources.cores"),
        ({"retry": {"max_attempts": 0}}, "retry.max_attempts"),
        ({"depends_on": [{"job_id": "a"}, {"job": "b"}]}, "depends_on[1].job"),
        ({"depends_on": [{"job_id": "a", "when": "never"}]}, "depends_on[0].when"),
        ({"not_before": "tomorrow"}, "not_before"),
        ({"not_before": "2030-01-01T00:00:00"}, "not_before"),
        ({"extended_properties": []}, "extended_properties"),
        ({"extended_properties": {"a": "nul\0"}}, "extended_properties"),
        ({"extended_properties": {"a": "x" * 70_000}}, "extended_properties"),
        ({"on_lost": "shrug"}, "on_lost"),
        ({"success": {"exit_codes": [256]}}, "success.exit_codes[0]"),
        ({"success": {"required_files": ["../x"]}}, "success.required_files[0]"),
        ({"success": {"required_files": ["x"] * 1001}}, "success.required_files"),
        ({"success": {"exit_codes": [0] * 257}}, "success.exit_codes"),
        ({"retry": {"on": ["timeout"] * 65}}, "retry.on"),
        ({"depends_on": [{"job_id": str(number)} for number in range(10_001)]}, "depends_on"),
        ({"env": {f"A{number}": "" for number in range(10_001)}}, "env"),
    ],
)
async def test_field_that_does_not_fit_is_named(api: Api, fields: dict[str, Any], field: str) -> None:
    job = {"command": ["true"], **fields}

    single = await api.post("/api/v1/jobs", json=job)
    bulk = await api.post("/api/v1/jobs", json={"jobs": [{"command": ["true"]}, job]})

    assert (single.status, single.json["field"]) == (422, field), single.json
    assert (bulk.status, bulk.json["field"]) == (422, f"jobs[1].{field}"), bulk.json
    assert await api.count() == 0


async def test_id_that_is_taken_is_named_by_its_place(api: Api) -> None:
    taken = await api.submit("true", draft=True)
    job = {"command": ["true"], "draft": True}

    stored = await api.post("/api/v1/jobs", json={"jobs": [job, {**job, "job_id": taken}]})
    twice = await api.post(
        "/api/v1/jobs", json={"jobs": [{**job, "job_id": "new"}, {**job, "job_id": "new"}]}
    )

    assert taken in stored.problem(409, "job_exists", "jobs[1].job_id")
    twice.problem(409, "job_exists", "jobs[1].job_id")
    (await api.post("/api/v1/jobs", json={**job, "job_id": taken})).problem(409, "job_exists")


async def test_missing_command_is_named(api: Api) -> None:
    (await api.post("/api/v1/jobs", json={})).problem(422, "invalid_request", "command")


async def test_unknown_field_is_answered_with_the_known_ones(api: Api) -> None:
    answer = await api.post("/api/v1/jobs", json={"command": ["true"], "resources": {"core": 4}})

    detail = answer.problem(422, "invalid_request", "resources.core")
    assert "cpus, memory, gpus" in detail


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"command": ["true"], "name": "a", "name": "b"}', "name"),
        (b'{"command": ["true"], "name": "a", "n\\u0061me": "b"}', "name"),
        (b'{"command": ["true"], "env": {"A": "1", "A": "2"}}', "A"),
        (
            b'{"jobs": [{"command": ["true"]}, {"command": ["true"], "command": ["false"]}]}',
            "jobs[1].command",
        ),
        (b'{"jobs": [{"command": ["true"]}], "jobs": [{"command": ["false"]}]}', "jobs"),
    ],
)
async def test_key_that_stands_twice_is_refused(api: Api, body: bytes, field: str) -> None:
    detail = (await api.post_bytes(body)).problem(422, "invalid_request", field)

    assert "twice" in detail
    assert await api.count() == 0


async def test_key_may_repeat_in_different_objects(api: Api) -> None:
    properties = {"name": {"name": 'a "name": b', "jobs": [{"name": 1}, {"name": 2}]}, "jobs": "x"}

    job_id = await api.submit("true", name="name", draft=True, extended_properties=properties)

    assert (await api.manager.get(job_id)).extended_properties == properties


@pytest.mark.parametrize(
    "body", [b'{"jobs": []}', b'{"jobs": {}}', b'{"jobs": null}', b'{"jobs": [], "x": 1}']
)
async def test_bulk_that_is_none_is_refused(api: Api, body: bytes) -> None:
    answer = await api.post_bytes(body)

    assert (answer.status, answer.json["code"]) == (422, "invalid_request")
    assert answer.json["field"] in ("jobs", "x")


@pytest.mark.parametrize("body", [b"", b"\n\n"])
async def test_no_lines_are_refused(api: Api, body: bytes) -> None:
    answer = await api.post_bytes(body, "application/x-ndjson")

    answer.problem(422, "invalid_request", "jobs")


async def test_bad_line_is_named_by_its_job(api: Api, lines: Callable[..., bytes]) -> None:
    body = lines({"command": ["true"]}) + b"\n" + b'{"command": \n' + lines({"command": ["true"]})

    detail = (await api.post_bytes(body, "application/x-ndjson")).problem(400, "malformed_body", "jobs[1]")

    assert "jobs[1]" in detail
    assert await api.count() == 0


async def test_body_of_ten_megabytes_is_refused_with_a_sentence(api: Api) -> None:
    body = json.dumps({"command": ["true", "x" * 10_000_000]}).encode()

    detail = (await api.post_bytes(body)).problem(413, "body_too_large")

    assert "8 MiB" in detail
    assert "x-ndjson" in detail
    assert await api.count() == 0


async def test_body_of_untold_length_is_refused_when_it_is_too_long(api: Api) -> None:
    async def endless() -> Any:
        for _ in range(20):
            yield b" " * MEBIBYTE

    headers = {"Content-Type": "application/json"}

    answer = await api.post("/api/v1/jobs", data=endless(), headers=headers)

    answer.problem(413, "body_too_large")


@pytest.mark.parametrize("kind", ["lists", "texts", "properties", "arguments"])
async def test_body_of_millions_of_pieces_is_refused(api: Api, kind: str) -> None:
    start, piece, end = {
        "lists": (b'"extended_properties": {"a": [', b"[],", b"0]}"),
        "texts": (b'"extended_properties": {"a": [', b'"",', b"0]}"),
        "properties": (b'"extended_properties": {"a": "', b"[{,", b'"}'),
        "arguments": (b'"success": {"required_files": [', b'"a",', b'"/a"]}'),
    }[kind]
    body = b'{"command": ["true"], ' + start + piece * (7 * MEBIBYTE // len(piece)) + end + b"}"

    answer = await api.post_bytes(body)

    assert answer.status in (400, 422)
    assert await api.count() == 0


async def test_many_jobs_of_which_the_last_is_wrong_store_nothing(
    api: Api, lines: Callable[..., bytes]
) -> None:
    job = {"command": ["true", "a"], "env": {"A": "1"}, "resources": {"memory": "4GB", "walltime": "1h"}}
    body = lines({**job, "draft": True}) * 50_000 + lines({**job, "cwd": "relative"})

    answer = await api.post_bytes(body, "application/x-ndjson")

    answer.problem(422, "invalid_request", "jobs[50000].cwd")


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
async def test_upload_that_is_cut_off_stores_nothing_and_is_no_error(
    api: Api, caplog: pytest.LogCaptureFixture, media_type: str
) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /api/v1/jobs HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: {media_type}\r\n"
    writer.write(f'{head}Content-Length: 1000\r\n\r\n{{"command": ["true"]}}\n'.encode())
    await writer.drain()
    await asyncio.sleep(0.1)  # It is being read.
    writer.transport.abort()
    await asyncio.sleep(0.1)

    assert await api.count() == 0
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_line_that_comes_in_many_pieces_is_put_together(api: Api) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        body = json.dumps({"command": ["true", "x" * 3000], "draft": True}).encode()
        for piece in (body[:10], body[10:2000], body[2000:] + b"\n" + body[:5], body[5:]):
            yield piece
            await asyncio.sleep(0.01)

    answer = await api.post("/api/v1/jobs", data=pieces(), headers={"Content-Type": "application/x-ndjson"})

    assert answer.status == 201
    assert len(answer.json["job_ids"]) == 2


async def test_line_of_ten_megabytes_is_refused(api: Api) -> None:
    body = json.dumps({"command": ["true", "x" * 10_000_000]}).encode()

    (await api.post_bytes(body, "application/x-ndjson")).problem(413, "body_too_large")


async def test_many_lines_may_be_longer_than_one_body(api: Api, lines: Callable[..., bytes]) -> None:
    body = lines(*({"command": ["true", "x" * 100_000], "draft": True} for _ in range(100)))

    answer = await api.post_bytes(body, "application/x-ndjson")

    assert answer.status == 201
    assert len(answer.json["job_ids"]) == 100


@pytest.mark.parametrize(
    "job_id", ["nope", "a%20b", "%00", "%0A", "..%2F..%2Fetc%2Fpasswd", "%FF%FE", "x" * 3000, "%F0%9F%92%A5"]
)
async def test_id_that_is_none_is_not_found(api: Api, job_id: str) -> None:
    for path in ("", "/why", "/attempts", "/events", "/logs/stdout", "/files", "/files/stdout"):
        url = URL(f"{api.url}/api/v1/jobs/{job_id}{path}", encoded=True)
        async with api.session.get(url) as response:
            problem = await response.json(content_type="application/problem+json")

        assert (response.status, problem["code"]) == (404, "job_not_found")


@pytest.mark.parametrize("verb", ["cancel", "retry", "hold", "release", "execute"])
async def test_verb_on_no_job_is_not_found(api: Api, verb: str) -> None:
    (await api.post(f"/api/v1/jobs/nope/{verb}")).problem(404, "job_not_found")


async def test_verb_takes_no_body(api: Api) -> None:
    job_id = await api.submit("true", draft=True)

    empty = await api.post(f"/api/v1/jobs/{job_id}/hold", json={})
    full = await api.post(f"/api/v1/jobs/{job_id}/cancel", json={"force": True})

    assert empty.status == 200
    full.problem(422, "invalid_request")
    assert (await api.manager.get(job_id)).status == "pending"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limt=1", "limt"),
        ("total=yes", "total"),
        ("status=done", "status[0]"),
        ("order=random", "order"),
        ("name=%00", "name"),
        ("cursor=%FF", "cursor"),
        ("limit=%C2%84", "limit"),
        ("tag=a%0Ab", "tag"),
    ],
)
async def test_query_parameter_that_does_not_fit_is_named(api: Api, query: str, field: str) -> None:
    url = URL(f"{api.url}/api/v1/jobs?{query}", encoded=True)

    async with api.session.get(url) as response:
        problem = await response.json(content_type="application/problem+json")

    assert (response.status, problem["field"]) == (422, field), problem


async def test_neither_null_nor_a_number_of_seconds_is_a_value_of_a_parameter(api: Api) -> None:
    await api.submit("true", name="null", draft=True)

    answer = await api.get("/api/v1/jobs/any/logs/stdout?tail=null")
    seconds = await api.get("/api/v1/reports/audit?until=0.5")
    found = await api.get("/api/v1/jobs?name=null")

    answer.problem(422, "invalid_request", "tail")
    seconds.problem(422, "invalid_request", "until")
    assert [job["name"] for job in found.json["jobs"]] == ["null"]


async def test_parameter_of_another_route_is_refused(api: Api) -> None:
    (await api.get("/api/v1/queues?limit=5")).problem(422, "invalid_request", "limit")


async def test_bad_number_is_quoted(api: Api) -> None:
    detail = (await api.get("/api/v1/jobs?limit=ten")).problem(422, "invalid_request", "limit")

    assert "'ten'" in detail


async def test_cursor_that_was_tampered_with_is_refused(api: Api) -> None:
    await api.post("/api/v1/jobs", json={"jobs": [{"command": ["true"], "draft": True}] * 3})
    cursor = (await api.get("/api/v1/jobs?limit=1")).json["next_cursor"]

    for wrong in ("x", cursor[:-1], cursor + "A", cursor.swapcase(), "0", "a" * 500, "eyJ9", "%7B%7D"):
        answer = await api.get(f"/api/v1/jobs?limit=1&cursor={wrong}")
        answer.problem(422, "invalid_request", "cursor")


async def test_route_that_is_none_is_a_problem_document(api: Api) -> None:
    (await api.get("/api/v1/nothing")).problem(404, "no_such_route")
    (await api.get("/api/v2/jobs")).problem(404, "no_such_route")


async def test_method_that_is_none_says_which_there_are(api: Api) -> None:
    answer = await api.request("PUT", "/api/v1/jobs")

    answer.problem(405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET,HEAD,POST"


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
async def test_body_of_another_type_is_refused(api: Api, media_type: str) -> None:
    answer = await api.post_bytes(b'{"command": ["true"]}', media_type)

    answer.problem(415, "wrong_content_type")
    assert await api.count() == 0


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP, identity", "nonsense"])
async def test_compressed_body_is_refused_and_never_unpacked(api: Api, encoding: str) -> None:
    bomb = gzip.compress(bytes(50 * MEBIBYTE), compresslevel=1)
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    began = time.process_time()

    answers = [
        await api.post("/api/v1/jobs", data=body, headers=headers) for body in (bomb, b"garbage", b"{}")
    ]

    assert time.process_time() - began < 0.5
    for answer in answers:
        answer.problem(415, "wrong_content_encoding")


async def test_body_that_says_it_is_not_compressed_is_taken(api: Api) -> None:
    answer = await api.post(
        "/api/v1/jobs", json={"command": ["true"], "draft": True}, headers={"Content-Encoding": "identity"}
    )

    assert answer.status == 201


async def test_body_without_a_type_is_refused(api: Api) -> None:
    options: dict[str, Any] = {"data": b'{"command": ["true"]}', "skip_auto_headers": ["Content-Type"]}

    (await api.post("/api/v1/jobs", **options)).problem(415, "wrong_content_type")


@pytest.mark.parametrize("query", ["ids=", "status=", "ids=,", "status=pending&status=", "user=", "cursor="])
async def test_empty_parameter_is_refused(api: Api, query: str) -> None:
    answer = await api.get(f"/api/v1/jobs?{query}")

    answer.problem(422, "invalid_request", query.rpartition("&")[2].partition("=")[0])


async def test_comma_alone_is_a_value_of_what_is_no_list(api: Api) -> None:
    await api.submit("true", name=",", draft=True)

    answer = await api.get("/api/v1/jobs?name=,")

    assert [job["name"] for job in answer.json["jobs"]] == [","]


async def test_long_names_are_not_echoed_in_full(api: Api) -> None:
    answer = await api.post("/api/v1/jobs", json={"command": ["true"], "x" * 1_000_000: 1})

    assert answer.status == 422
    assert len(answer.body) < 3000


async def test_deleted_database_is_said(tmp_path: Path) -> None:
    settings = settings_module.load({"home": str(tmp_path)}, {})
    async with (
        JobManager(settings=settings) as manager,
        Server(manager, host="127.0.0.1", port=0, token=TOKEN) as server,
        aiohttp.ClientSession() as session,
    ):
        api = Api(manager, server.url, session)
        manager.database.sqlite_file.unlink()

        written = await api.post("/api/v1/jobs", json={"command": ["true"], "draft": True})
        read = await api.get("/api/v1/jobs")
        ready = await api.get("/readyz")

    for answer in (written, read, ready):
        assert "was deleted or replaced" in answer.problem(503, "database_moved")


async def test_locked_database_is_said_and_loses_nothing(tmp_path: Path) -> None:
    settings = settings_module.load(
        {"home": str(tmp_path), "database": f"sqlite:///{tmp_path}/jobs.db?timeout=0.2"}, {}
    )
    async with (
        JobManager(settings=settings) as manager,
        Server(manager, host="127.0.0.1", port=0, token=TOKEN) as server,
        aiohttp.ClientSession() as session,
    ):
        api = Api(manager, server.url, session)
        with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            refused = await api.post("/api/v1/jobs", json={"command": ["true"], "draft": True})
            read = await api.get("/api/v1/jobs")
            other.execute("ROLLBACK")
        accepted = await api.post("/api/v1/jobs", json={"command": ["true"], "draft": True})

        refused.problem(503, "store_unavailable")
        assert refused.headers["Retry-After"] == "1"
        assert (read.status, accepted.status) == (200, 201)
        assert await api.count() == 1


async def test_bug_is_answered_without_its_traceback_and_logged(
    manager: JobManager, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_request: web.Request) -> web.Response:
        raise RuntimeError("the secret of the house")

    app = make_app(manager, Guard(TOKEN, own_uid(), loopback=True, browsers=Browsers(), owner=OWNER))
    app.router.add_get("/broken/{id}", broken)
    async with serving(app) as url, aiohttp.ClientSession() as session:
        with caplog.at_level(logging.ERROR, "jobmgr.api"):
            async with session.get(f"{url}/broken/7") as response:
                text = await response.text()

    assert (response.status, json.loads(text)["code"]) == (500, "internal_error")
    assert "secret" not in text
    (record,) = caplog.records
    assert record.getMessage() == "GET /broken/{id} failed"
    assert record.exc_info is not None


async def test_what_is_no_http_is_logged_in_one_line(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    port = int(api.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    writer.write(b"GET / HTTP/1.1\r\nno header\r\n\r\n")
    answer = await reader.read()
    writer.close()

    assert b" 400 " in answer
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert "not HTTP" in record.getMessage()


async def test_events_of_a_job_of_another_database_are_gone(api: Api) -> None:
    job_id = await api.submit("true", draft=True)

    for path in (f"/api/v1/jobs/{job_id}/events?after=other:0", f"/api/v1/events?job={job_id}&after=other:0"):
        answer = await api.get(path)
        assert (answer.status, answer.json["code"]) == (410, "events_gone")


async def test_nobody_waits_for_a_body_that_is_refused_anyway(api: Api) -> None:
    await api.submit("true", job_id="one", draft=True)
    head = (
        b"POST /api/v1/jobs/one/cancel HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
    )
    port = int(api.url.rpartition(":")[2])
    for body in (b" " * 100, b"[1, 2", b"{ }{"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head % port + b"Content-Length: 8000000\r\n\r\n" + body)
        async with asyncio.timeout(TIMEOUT_S):
            assert b" 422 " in await reader.readline()
        writer.close()
    assert (await api.post("/api/v1/jobs/one/cancel", json={})).status == 200

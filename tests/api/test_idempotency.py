"""`Idempotency-Key` and a job's `key`: every changing request may be sent again."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.api.conftest import Answer, Api

KEY = {"Idempotency-Key": "9f3c: any text"}
JOB = {"command": ["true"]}


def same(one: Answer, other: Answer) -> bool:
    """Whether two answers are alike to the last byte."""
    kept = ("Content-Type", "Location")
    return (one.status, one.body, [one.headers.get(name) for name in kept]) == (
        other.status,
        other.body,
        [other.headers.get(name) for name in kept],
    )


async def job_ids(api: Api) -> list[str]:
    return [job["job_id"] for job in (await api.get("/api/v1/jobs")).json["jobs"]]


async def test_a_submission_sent_again_is_answered_alike_and_stores_nothing(api: Api) -> None:
    first = await api.post("/api/v1/jobs", json=JOB, headers=KEY)
    await api.manager.wait(first.json["job_id"], 30)

    again = await api.post("/api/v1/jobs", json=JOB, headers=KEY)

    assert first.status == 201
    assert same(again, first)
    assert await job_ids(api) == [first.json["job_id"]]


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
async def test_a_bulk_sent_again_stores_nothing(api: Api, media_type: str) -> None:
    lines = [b'{"command": ["true"], "draft": true}'] * 3
    body = b"\n".join(lines) if "ndjson" in media_type else b'{"jobs": [%b]}' % b",".join(lines)
    options = {"data": body, "headers": {**KEY, "Content-Type": media_type}}

    first = await api.post("/api/v1/jobs", **options)
    again = await api.post("/api/v1/jobs", **options)

    assert same(again, first)
    assert len(await job_ids(api)) == 3


async def test_many_copies_at_once_are_one_job(api: Api) -> None:
    answers = await asyncio.gather(
        *(api.post("/api/v1/jobs", json={**JOB, "draft": True}, headers=KEY) for _ in range(30))
    )

    assert all(same(answer, answers[0]) for answer in answers)
    assert len(await job_ids(api)) == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/jobs/a/hold", None),
        ("POST", "/api/v1/jobs/a/execute", None),
        ("POST", "/api/v1/jobs/a/cancel", None),
        ("POST", "/api/v1/jobs/a/priority", {"priority": 7}),
        ("PATCH", "/api/v1/jobs/a", {"name": "new", "tags": ["x"]}),
        ("POST", "/api/v1/jobs/ended/retry", None),
        ("DELETE", "/api/v1/jobs/ended", None),
        ("PATCH", "/api/v1/queues/line", {"max_running": 3}),
        ("PATCH", "/api/v1/limits", {"max_concurrent_jobs": 3}),
        ("PUT", "/pool/limits", {"max_concurrent_jobs": 3}),
    ],
)
async def test_every_change_sent_again_is_answered_alike(api: Api, method: str, path: str, body: Any) -> None:
    await api.post("/api/v1/jobs", json={**JOB, "job_id": "a", "draft": True})
    await api.post("/api/v1/jobs", json={**JOB, "job_id": "ended"})
    await api.manager.wait("ended", 30)
    options: dict[str, Any] = {"headers": {**KEY, "Content-Type": "application/json"}}
    if body is not None:
        options["data"] = json.dumps(body)
    first = await api.request(method, path, **options)
    count = len(await events(api))

    again = await api.request(method, path, **options)

    assert first.status in (200, 204), first
    assert same(again, first)
    # Nothing more has happened but what the job itself went on to do.
    assert set((await events(api))[count:]) <= {"claimed", "started", "completed"}


async def events(api: Api) -> list[str]:
    return [event["kind"] for event in (await api.get("/api/v1/events?after=0")).json["events"]]


async def test_limits_sent_again_do_not_take_back_what_came_between(api: Api) -> None:
    path = "/api/v1/limits"
    first = await api.patch(path, json={"max_concurrent_jobs": 3}, headers=KEY)
    await api.patch(path, json={"max_concurrent_jobs": 5})

    again = await api.patch(path, json={"max_concurrent_jobs": 3}, headers=KEY)

    assert same(again, first)
    assert (await api.get(path)).json["max_concurrent_jobs"] == 5


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/api/v1/jobs", {"json": {"command": ["false"]}}),
        (
            "/api/v1/jobs",
            {"data": b'{"command": ["true"]}', "headers": {"Content-Type": "application/x-ndjson"}},
        ),
        ("/api/v1/jobs/a/cancel", {"headers": {"Content-Type": "application/json"}}),
    ],
    ids=["another body", "another media type", "another path"],
)
async def test_another_request_under_the_key_is_refused(api: Api, path: str, options: dict[str, Any]) -> None:
    await api.post("/api/v1/jobs", json={**JOB, "job_id": "a"}, headers=KEY)

    answer = await api.post(path, **{**options, "headers": {**options.get("headers", {}), **KEY}})

    assert "another key" in answer.problem(409, "key_reused")
    assert await job_ids(api) == ["a"]


async def test_what_was_refused_may_be_sent_again_mended(api: Api) -> None:
    (await api.post("/api/v1/jobs", json={"command": []}, headers=KEY)).problem(
        422, "invalid_request", "command"
    )

    assert (await api.post("/api/v1/jobs", json=JOB, headers=KEY)).status == 201


@pytest.mark.parametrize("key", ["", "é", "x" * 256])
async def test_what_cannot_be_a_key_is_refused(api: Api, key: str) -> None:
    answer = await api.post("/api/v1/jobs", json=JOB, headers={"Idempotency-Key": key})

    answer.problem(422, "invalid_request", "Idempotency-Key")


async def test_two_keys_are_refused(api: Api) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]

    (await api.post("/api/v1/jobs", json=JOB, headers=headers)).problem(
        422, "invalid_request", "Idempotency-Key"
    )


async def test_a_job_with_a_key_is_stored_once(api: Api) -> None:
    body = {**JOB, "key": "antenna 7", "env": {"A": "1", "B": "2"}}
    first = await api.post("/api/v1/jobs", json=body)
    again = await api.post("/api/v1/jobs", json={**body, "env": {"B": "2", "A": "1"}})

    assert again.json["job_id"] == first.json["job_id"]
    assert (await api.get(f"/api/v1/jobs/{first.json['job_id']}")).json["key"] == "antenna 7"
    assert len(await job_ids(api)) == 1


async def test_another_job_with_a_used_key_is_refused(api: Api) -> None:
    await api.post("/api/v1/jobs", json={**JOB, "key": "k"})

    answer = await api.post("/api/v1/jobs", json={"command": ["false"], "key": "k"})
    bulk = await api.post("/api/v1/jobs", json={"jobs": [JOB, {"command": ["false"], "key": "k"}]})

    answer.problem(409, "key_reused", "key")
    bulk.problem(409, "key_reused", "jobs[1].key")
    assert len(await job_ids(api)) == 1


@pytest.mark.parametrize("key", ["", "a\nb", "x" * 256, 7, "\x00"])
async def test_what_cannot_be_a_jobs_key_is_refused(api: Api, key: object) -> None:
    (await api.post("/api/v1/jobs", json={**JOB, "key": key})).problem(422, "invalid_request", "key")

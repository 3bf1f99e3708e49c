"""Queues, limits and health over REST."""

from __future__ import annotations

import pytest
from yarl import URL

from tests.api.conftest import Api

LIMITS = {"max_concurrent_jobs": 2, "max_cpu_percent": None, "min_memory_gb": None, "min_disk_gb": None}


async def test_queues_are_listed_with_their_counts(api: Api) -> None:
    await api.run("true")
    await api.submit("true", draft=True)

    answer = (await api.get("/api/v1/queues")).json

    (queue,) = answer["queues"]
    assert (queue["name"], queue["paused"], queue["max_running"]) == ("default", False, None)
    assert (queue["counts"]["completed"], queue["counts"]["pending"], queue["counts"]["live"]) == (1, 1, 0)
    position = await api.manager.event_position()
    assert (answer["epoch"], answer["seq"]) == (position.epoch, position.seq)


async def test_queue_is_made_paused_and_limited(api: Api) -> None:
    made = await api.patch("/api/v1/queues/night", json={"paused": True, "max_running": 3})
    job_id = await api.submit("true", queue="night")
    kept = await api.patch("/api/v1/queues/night", json={"paused": False})
    await api.manager.wait(job_id, 20)
    freed = await api.patch("/api/v1/queues/night", json={"max_running": None})

    assert (made.json["paused"], made.json["max_running"]) == (True, 3)
    assert (kept.json["paused"], kept.json["max_running"]) == (False, 3)
    assert freed.json["max_running"] is None


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        ("a%20b", {}, "name"),
        ("%00", {}, "name"),
        ("x" * 200, {}, "name"),
        ("q", {"paused": "yes"}, "paused"),
        ("q", {"paused": None}, "paused"),
        ("q", {"max_running": -1}, "max_running"),
        ("q", {"max_running": True}, "max_running"),
        ("q", {"limit": 3}, "limit"),
    ],
)
async def test_queue_that_does_not_fit_is_not_made(
    api: Api, name: str, change: dict[str, object], field: str
) -> None:
    answer = await api.session.patch(URL(f"{api.url}/api/v1/queues/{name}", encoded=True), json=change)

    assert (answer.status, (await answer.json(content_type=None))["field"]) == (422, field)
    assert [queue["name"] for queue in (await api.get("/api/v1/queues")).json["queues"]] == ["default"]


async def test_limits_are_changed_and_kept(api: Api) -> None:
    answer = await api.patch("/api/v1/limits", json={"max_concurrent_jobs": 5, "min_disk_gb": 0.5})

    expected = {**LIMITS, "max_concurrent_jobs": 5, "min_disk_gb": 0.5}
    assert (answer.status, answer.json) == (200, expected)
    assert (await api.get("/api/v1/limits")).json == expected


async def test_null_takes_a_limit_away(api: Api) -> None:
    await api.patch("/api/v1/limits", json={"min_disk_gb": 0.5})

    assert (await api.patch("/api/v1/limits", json={"min_disk_gb": None})).json == LIMITS


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({}, None),
        ({"max_concurrent_jobs": 0}, "max_concurrent_jobs"),
        ({"max_concurrent_jobs": True}, "max_concurrent_jobs"),
        ({"max_concurrent_jobs": 2.5}, "max_concurrent_jobs"),
        ({"max_cpu_percent": 0}, "max_cpu_percent"),
        ({"max_cpu_percent": 101}, "max_cpu_percent"),
        ({"min_memory_gb": -1}, "min_memory_gb"),
        ({"min_disk_gb": "2"}, "min_disk_gb"),
        ({"max_concurrent_jobs": 4, "min_memory_gb": -1}, "min_memory_gb"),
        ({"max_jobs": 4}, "max_jobs"),
    ],
)
async def test_limits_that_do_not_fit_change_nothing(
    api: Api, change: dict[str, object], field: str | None
) -> None:
    (await api.patch("/api/v1/limits", json=change)).problem(422, "invalid_request", field)

    assert (await api.get("/api/v1/limits")).json == LIMITS


async def test_service_is_alive_and_ready(api: Api) -> None:
    assert (await api.get("/healthz")).json == {"status": "ok"}
    assert (await api.get("/readyz")).json == {"status": "ready"}

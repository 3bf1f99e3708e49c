"""Jobs over REST: submit, read, change, and the verbs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from jobmgr.wire.answers import AttemptAnswer
from jobmgr.wire.submission import new_job_id
from jobmgr.wire.translation import to_attempt
from tests.api.conftest import Api
from tests.patience import eventually

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def test_submitted_job_is_stored_and_shown(api: Api) -> None:
    answer = await api.post(
        "/api/v1/jobs",
        json={
            "command": ["true"],
            "name": "first",
            "priority": 7,
            "tags": ["b", "a"],
            "extended_properties": {"case": {"n": 10**30}},
            "draft": True,
            "not_before": "2040-01-31T18:00:00+01:00",
        },
    )

    assert answer.status == 201
    job_id = answer.json["job_id"]
    assert answer.json == {"job_id": job_id, "status": "pending", "warnings": []}
    assert answer.headers["Location"] == f"/api/v1/jobs/{job_id}"
    shown = (await api.get(f"/api/v1/jobs/{job_id}")).json
    expected = {
        "job_id": job_id,
        "name": "first",
        "status": "pending",
        "priority": 7,
        "queue": "default",
        "site": "local",
        "draft": True,
        "attempt": 0,
        "exit_code": None,
        "error": None,
        "due_at": "2040-01-31T17:00:00.000000Z",
        "started_at": None,
        "tags": ["a", "b"],
        "extended_properties": {"case": {"n": 10**30}},
        "v": 1,
    }
    assert {name: shown[name] for name in expected} == expected
    assert MOMENT.fullmatch(shown["created_at"])


async def test_spec_shows_what_a_job_runs(api: Api) -> None:
    asked = {
        "command": ["solve", "a b"],
        "env": {"A": "1"},
        "resources": {"cpus": 2, "memory": "1GB", "walltime": "1:00:00"},
        "retry": {
            "max_attempts": 3,
            "backoff": "5m",
            "on": ["timeout"],
            "walltime_factor": 1.5,
            "walltime_max": "3h",
        },
        "success": {"exit_codes": [0, 3], "required_files": ["out"]},
        "draft": True,
    }
    job_id = (await api.post("/api/v1/jobs", json=asked)).json["job_id"]

    spec = (await api.get(f"/api/v1/jobs/{job_id}/spec")).json

    assert spec == {
        "command": ["solve", "a b"],
        "env": {"A": "1"},
        "cwd": None,
        "resources": {"cpus": 2, "memory_bytes": 2**30, "walltime_s": 3600.0},
        "max_attempts": 3,
        "backoff_s": 300.0,
        "retry_on": ["timeout"],
        "growth": {"walltime_factor": 1.5, "walltime_max_s": 10800.0},
        "on_lost": "fail",
        "exit_codes": [0, 3],
        "required_files": ["out"],
        "depends_on": [],
        "grown": {},
        "payload": None,
    }


async def test_ended_job_shows_its_outcome(api: Api) -> None:
    job = await api.run("sh", "-c", "exit 3")

    shown = (await api.get(f"/api/v1/jobs/{job.job_id}")).json

    assert (shown["status"], shown["exit_code"], shown["error"]["code"]) == ("failed", 3, "exit_code")
    assert all(MOMENT.fullmatch(shown[name]) for name in ("created_at", "started_at", "finished_at"))
    assert shown["created_at"] <= shown["started_at"] <= shown["finished_at"]


async def test_bulk_answers_ids_in_order(api: Api) -> None:
    jobs = [{"command": ["true"], "job_id": f"job-{number}", "draft": True} for number in range(1200)]

    answer = await api.post("/api/v1/jobs", json={"jobs": jobs})

    assert answer.status == 201
    assert answer.json == {"job_ids": [job["job_id"] for job in jobs], "warnings": []}


async def test_what_only_a_scheduler_heeds_is_warned_of_here(api: Api) -> None:
    here = {"command": ["true"], "draft": True}
    asked = {"cpus": 1, "walltime": "1h", "partition": "long", "memory_per_cpu": "1GB", "exclusive": False}
    jobs = [here, {**here, "resources": asked}, {**here, "resources": asked}, {**here, "executor": "local"}]

    one = await api.post("/api/v1/jobs", json={**here, "resources": {"setup": ["x=1"]}, "site": "local"})
    many = await api.post("/api/v1/jobs", json={"jobs": jobs})

    remedy = "on this machine; name the `site` whose scheduler is meant, or leave it out"
    assert one.json["warnings"] == [f"resources.setup: means nothing {remedy}"]
    assert many.json["warnings"] == [
        f"jobs[1].resources.partition, jobs[1].resources.memory_per_cpu: mean nothing {remedy}"
    ]


async def test_what_a_site_may_heed_is_not_warned_of(api: Api) -> None:
    await api.request("PUT", "/api/v1/sites/host", json={"kind": "shell", "enabled": False})
    body = {"command": ["true"], "resources": {"setup": ["x=1"]}}

    by_site = await api.post("/api/v1/jobs", json={**body, "site": "host"})
    by_kind = await api.post("/api/v1/jobs", json={**body, "executor": "shell"})

    assert by_site.json["warnings"] == by_kind.json["warnings"] == []


async def test_lines_of_json_are_a_bulk(api: Api, lines: Callable[..., bytes]) -> None:
    body = lines(*({"command": ["true"], "name": str(number), "draft": True} for number in range(3)))

    answer = await api.post_bytes(b"\n" + body.rstrip(b"\n") + b"\r\n\n", "application/x-ndjson")

    assert answer.status == 201
    names = [(await api.manager.get(job_id)).name for job_id in answer.json["job_ids"]]
    assert names == ["0", "1", "2"]


@pytest.mark.parametrize("form", ["json", "lines"])
async def test_bulk_with_one_bad_job_stores_none_and_names_it(
    api: Api, form: str, lines: Callable[..., bytes]
) -> None:
    jobs: list[dict[str, Any]] = [{"command": ["true"]} for _ in range(20)]
    jobs[17]["command"] = ["true", 5]

    if form == "json":
        answer = await api.post("/api/v1/jobs", json={"jobs": jobs})
    else:
        answer = await api.post_bytes(lines(*jobs), "application/x-ndjson")

    answer.problem(422, "invalid_request", "jobs[17].command[1]")
    assert await api.count() == 0


async def test_chosen_id_is_stored_once(api: Api) -> None:
    await api.submit("true", job_id="mine", draft=True)

    answer = await api.post("/api/v1/jobs", json={"command": ["false"], "job_id": "mine"})

    answer.problem(409, "job_exists")
    assert await api.count() == 1


async def test_executor_stands_for_its_default_site(api: Api) -> None:
    job_id = await api.submit("true", executor="local", draft=True)

    unknown = await api.post("/api/v1/jobs", json={"command": ["true"], "executor": "slurm"})
    differing = await api.post(
        "/api/v1/jobs", json={"command": ["true"], "executor": "slurm", "site": "local"}
    )

    assert (await api.manager.get(job_id)).site == "local"
    unknown.problem(422, "invalid_request", "executor")
    assert "there are: local" in unknown.json["detail"]
    differing.problem(422, "invalid_request", "executor")


NOWHERE: list[tuple[dict[str, Any], str]] = [
    ({"queue": "no"}, "queue"),
    ({"site": "no"}, "site"),
    ({"executor": "no"}, "executor"),
    ({"depends_on": [{"job_id": "one"}, {"job_id": "no"}]}, "depends_on[1]"),
]


@pytest.mark.parametrize(("fields", "field"), NOWHERE)
async def test_name_that_is_nowhere_is_named_by_its_place(
    api: Api, lines: Callable[..., bytes], fields: dict[str, Any], field: str
) -> None:
    await api.submit("true", job_id="one", draft=True)
    good, bad = {"command": ["true"]}, {"command": ["true"], **fields}

    single = await api.post("/api/v1/jobs", json=bad)
    bulk = await api.post("/api/v1/jobs", json={"jobs": [good, good, bad, bad]})
    # Empty lines are no jobs, so they are not counted.
    many = await api.post_bytes(lines(good) + b"\n\n" + lines(good, bad), "application/x-ndjson")

    single.problem(422, "invalid_request", field)
    bulk.problem(422, "invalid_request", f"jobs[2].{field}")
    many.problem(422, "invalid_request", f"jobs[2].{field}")
    assert "'no'" in single.json["detail"]
    assert await api.count() == 1


async def test_place_is_that_in_the_callers_own_request(api: Api) -> None:
    good = {"command": ["true"], "draft": True}
    requests = []
    for number in range(12):
        fields, _ = NOWHERE[number % 4]
        fields = {} if number % 3 == 1 else fields
        requests.append([good] * number + [{**good, **fields}])
    await api.submit("true", job_id="one", draft=True)

    answers = await asyncio.gather(*(api.post("/api/v1/jobs", json={"jobs": jobs}) for jobs in requests))

    for number, answer in enumerate(answers):
        _, field = NOWHERE[number % 4]
        if number % 3 == 1:
            assert answer.status == 201
        else:
            answer.problem(422, "invalid_request", f"jobs[{number}].{field}")
    assert await api.count() == 1 + sum(number + 1 for number in range(12) if number % 3 == 1)


async def test_cycle_is_refused_by_the_first_job_in_it(api: Api) -> None:
    jobs = [
        {"command": ["true"]},
        {"command": ["true"], "job_id": "behind", "depends_on": [{"job_id": "b"}]},
        {"command": ["true"], "job_id": "first"},
        {"command": ["true"], "job_id": "a", "depends_on": [{"job_id": "first"}, {"job_id": "b"}]},
        {"command": ["true"], "job_id": "b", "depends_on": [{"job_id": "a"}]},
    ]

    answer = await api.post("/api/v1/jobs", json={"jobs": jobs})

    answer.problem(422, "dependency_cycle", "jobs[3].depends_on[1]")
    assert answer.json["detail"].endswith("these jobs wait for each other: a, b")
    assert await api.count() == 0


async def test_listing_pages_through_all_jobs(api: Api) -> None:
    jobs = [{"command": ["true"], "name": str(number), "draft": True} for number in range(7)]
    await api.post("/api/v1/jobs", json={"jobs": jobs})

    names, cursor = [], ""
    while cursor is not None:
        page = (await api.get(f"/api/v1/jobs?limit=3{cursor}")).json
        names += [job["name"] for job in page["jobs"]]
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"

    assert names == ["6", "5", "4", "3", "2", "1", "0"]


async def test_listing_is_a_position_in_the_event_log(api: Api) -> None:
    before = await api.manager.event_position()
    await api.submit("true", draft=True)

    page = (await api.get("/api/v1/jobs")).json

    assert page["epoch"] == before.epoch
    assert page["seq"] > before.seq


async def test_listing_has_the_total_of_all_pages_if_asked(api: Api) -> None:
    jobs = [{"command": ["true"], "name": str(number % 2), "draft": True} for number in range(7)]
    await api.post("/api/v1/jobs", json={"jobs": jobs})

    first = (await api.get("/api/v1/jobs?name=0&limit=3&total=true")).json
    second = (await api.get(f"/api/v1/jobs?name=0&limit=3&total=true&cursor={first['next_cursor']}")).json
    unasked = (await api.get(f"/api/v1/jobs?name=0&limit=3&cursor={first['next_cursor']}")).json

    assert [len(page["jobs"]) for page in (first, second)] == [3, 1]
    assert [(page["total"], page["total_is_exact"]) for page in (first, second)] == [(4, True)] * 2
    assert (unasked["total"], unasked["total_is_exact"]) == (None, None)


async def test_listing_filters(api: Api) -> None:
    await api.submit("true", job_id="one", name="wing-1", tags=["red"], draft=True)
    await api.submit("true", job_id="two", name="wing-2", tags=["blue"], draft=True)
    await api.run("true", job_id="three", name="tail")

    async def ids(query: str) -> list[str]:
        answer = await api.get(f"/api/v1/jobs?order=created&{query}")
        assert answer.status == 200, answer
        return [job["job_id"] for job in answer.json["jobs"]]

    assert await ids("status=pending") == ["one", "two"]
    assert await ids("status=completed,failed") == ["three"]
    assert await ids("status=completed&status=pending") == ["one", "two", "three"]
    assert await ids("ids=three,one") == ["one", "three"]
    assert await ids(f"ids={','.join(new_job_id() for _ in range(999))},one") == ["one"]
    assert await ids("id_prefix=thre") == ["three"]
    assert await ids("name=wing-*") == ["one", "two"]
    assert await ids("tag=blue") == ["two"]
    assert await ids("queue=default&site=local&executor=local&name=tail") == ["three"]
    assert await ids("user=somebody-else") == []


async def test_change_keeps_what_is_left_out(api: Api) -> None:
    job_id = await api.submit("true", name="old", priority=3, tags=["x"], draft=True)

    answer = await api.patch(f"/api/v1/jobs/{job_id}", json={"name": "new", "tags": []})

    assert answer.status == 200
    assert (answer.json["name"], answer.json["priority"], answer.json["tags"]) == ("new", 3, [])


async def test_priority_is_changed(api: Api) -> None:
    job_id = await api.submit("true", draft=True)

    answer = await api.post(f"/api/v1/jobs/{job_id}/priority", json={"priority": -4})

    assert (answer.status, answer.json["priority"]) == (200, -4)


async def test_priority_that_is_no_number_changes_nothing(api: Api) -> None:
    job_id = await api.submit("true", draft=True)

    for wrong in ("high", True, 1.5, None, 2**40):
        answer = await api.post(f"/api/v1/jobs/{job_id}/priority", json={"priority": wrong})
        answer.problem(422, "invalid_request", "priority")

    assert (await api.manager.get(job_id)).priority == 0


async def test_verbs_answer_the_job(api: Api) -> None:
    job_id = await api.submit("true", draft=True, not_before="2040-01-01T00:00:00Z")

    async def verb(name: str) -> Any:
        answer = await api.post(f"/api/v1/jobs/{job_id}/{name}")
        assert answer.status == 200, answer
        return answer.json

    assert (await verb("hold"))["held_at"] is not None
    assert (await verb("release"))["held_at"] is None
    assert (await verb("execute"))["draft"] is False
    assert (await verb("cancel"))["status"] == "cancelled"
    assert (await verb("cancel"))["status"] == "cancelled"
    assert (await verb("retry"))["status"] in ("queued", "pending", "claimed", "running", "completed")


async def test_verb_that_does_not_fit_is_a_conflict(api: Api) -> None:
    job_id = await api.submit("true", draft=True)

    answer = await api.post(f"/api/v1/jobs/{job_id}/retry")

    answer.problem(409, "illegal_transition")


async def test_running_job_is_cancelled(api: Api) -> None:
    job_id = await api.submit("sleep", "60")

    answer = await api.post(f"/api/v1/jobs/{job_id}/cancel")

    assert answer.status == 200
    assert (await api.manager.wait(job_id, 20)).status == "cancelled"


async def test_running_job_is_paused_and_goes_on(api: Api) -> None:
    job_id = await api.submit("sleep", "60")

    async def is_now(status: str) -> bool:
        return (await api.manager.get(job_id)).status == status

    await eventually(lambda: is_now("running"))

    paused = await api.post(f"/api/v1/jobs/{job_id}/pause")
    await eventually(lambda: is_now("paused"))
    resumed = await api.post(f"/api/v1/jobs/{job_id}/resume")
    await eventually(lambda: is_now("running"))

    assert (paused.status, resumed.status) == (200, 200)
    assert paused.json["pause_requested_at"] is not None
    assert resumed.json["pause_requested_at"] is None
    await api.post(f"/api/v1/jobs/{job_id}/cancel")
    await api.manager.wait(job_id, 20)
    (await api.post(f"/api/v1/jobs/{job_id}/pause")).problem(409, "illegal_transition")


async def test_ended_job_is_forgotten(api: Api) -> None:
    job = await api.run("true")

    answer = await api.request("DELETE", f"/api/v1/jobs/{job.job_id}")

    assert (answer.status, answer.body) == (204, b"")
    (await api.get(f"/api/v1/jobs/{job.job_id}")).problem(404, "job_not_found")


async def test_job_that_waits_is_not_forgotten(api: Api) -> None:
    job_id = await api.submit("true", draft=True)

    (await api.request("DELETE", f"/api/v1/jobs/{job_id}")).problem(409, "illegal_transition")


async def test_attempts_show_no_secrets(api: Api) -> None:
    job = await api.run("true")

    (attempt,) = (await api.get(f"/api/v1/jobs/{job.job_id}/attempts")).json["attempts"]

    assert (attempt["number"], attempt["outcome"], attempt["exit_code"]) == (1, "completed", 0)
    assert attempt["peak_memory_bytes"] > 0
    assert not {"token", "lease"} & attempt.keys()


@pytest.mark.usefixtures("two_gpus")
async def test_attempts_name_the_gpus_they_were_given(api: Api) -> None:
    job = await api.run("true", resources={"gpus": 2})
    other = await api.run("true")

    (attempt,) = (await api.get(f"/api/v1/jobs/{job.job_id}/attempts")).json["attempts"]
    (without,) = (await api.get(f"/api/v1/jobs/{other.job_id}/attempts")).json["attempts"]

    assert (attempt["gpus"], without["gpus"]) == (["GPU-a", "GPU-b"], [])


@pytest.mark.usefixtures("two_gpus")
async def test_attempt_that_is_read_from_its_answer_is_the_same(api: Api) -> None:
    job = await api.run("true", resources={"gpus": 2})
    (stored,) = await api.manager.attempts(job.job_id)

    (answer,) = (await api.get(f"/api/v1/jobs/{job.job_id}/attempts")).json["attempts"]

    read = to_attempt(msgspec.convert(answer, AttemptAnswer), job.job_id)
    assert read == replace(stored, token="", lease=0)


async def test_why_says_a_reason(api: Api) -> None:
    job_id = await api.submit("true", draft=True)

    answer = (await api.get(f"/api/v1/jobs/{job_id}/why")).json

    assert answer["job_id"] == job_id
    assert [reason["code"] for reason in answer["reasons"]] == ["draft"]
    assert answer["reasons"][0]["message"]


async def test_head_is_answered_without_a_body(api: Api) -> None:
    job_id = await api.submit("true", draft=True)

    answer = await api.request("HEAD", f"/api/v1/jobs/{job_id}")

    assert (answer.status, answer.body) == (200, b"")

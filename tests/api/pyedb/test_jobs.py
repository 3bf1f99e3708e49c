"""Listing simulations, and the verbs on one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from jobmgr.api.pyedb import jobs
from jobmgr.hfss import HFSSSimulationConfig
from jobmgr.hfss.job import new_job
from jobmgr.hfss.log import LogReader
from tests.api.conftest import Api
from tests.api.pyedb.conftest import Lab, refused
from tests.patience import eventually


@pytest.mark.parametrize("path", ["/jobs", "/api/jobs"])
async def test_jobs_are_listed_as_clients_read_them(lab: Lab, path: str) -> None:
    await lab.submit(beside={"priority": 3}, user="ann")
    await lab.ended()

    (job,) = (await lab.api.get(path)).json

    config = job.pop("config")
    times = [datetime.fromisoformat(job.pop(name)) for name in ("start_time", "end_time")]
    assert times == sorted(times)
    assert all(time.tzinfo == UTC for time in times)
    assert job == {
        "id": "J1",
        "status": "completed",
        "state": "completed",
        "priority": 3,
        "user": lab.api.manager.user,
        "name": "a.aedt",
        "site": "local",
        "return_code": 0,
        "scheduler_job_id": None,
        "error": None,
    }
    assert (config["jobid"], config["user"], config["project_path"]) == ("J1", "ann", str(lab.project))


async def test_nothing_is_an_empty_list(api: Api) -> None:
    answer = await api.get("/jobs")

    assert (answer.status, answer.body) == (200, b"[]")
    assert answer.headers["Content-Type"] == "application/json"


async def test_whole_list_comes_in_portions_and_is_one(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_PORTION", 3)
    await lab.close()
    ids = [f"J{number}" for number in range(7)]
    for job_id in ids:
        await lab.submit(jobid=job_id)
    await lab.api.submit("true", job_id="plain")

    listed = (await lab.api.get("/jobs")).json

    assert [job["id"] for job in listed] == [*ids, "plain"]
    assert [job["config"].get("jobid") for job in listed] == [*ids, None]


async def test_list_that_breaks_off_does_not_look_whole(lab: Lab) -> None:
    many = [{"hostname": f"n{number}"} for number in range(200)]
    one = replace(
        new_job(HFSSSimulationConfig.from_dict(lab.config(machine_nodes=many)), user="me"), draft=True
    )
    # More than the buffers between server and client hold.
    await lab.api.manager.store_jobs([replace(one, job_id=f"J{number}") for number in range(1500)])
    file = lab.api.manager.database.sqlite_file

    async with lab.api.session.get(f"{lab.api.url}/jobs") as response:
        await response.content.readexactly(1)
        file.rename(file.with_name("elsewhere"))
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    file.with_name("elsewhere").rename(file)

    assert (await lab.api.get("/jobs?limit=1")).status == 200


async def test_pages_have_every_job_once(lab: Lab) -> None:
    await lab.close()
    for number in range(5):
        await lab.submit(jobid=f"J{number}")

    found, query = [], "?limit=2"
    while query:
        answer = await lab.api.get(f"/jobs{query}")
        found.append([job["id"] for job in answer.json])
        cursor = answer.headers.get("X-Next-Cursor")
        assert (cursor is not None) == ("Link" in answer.headers)
        query = f"?limit=2&cursor={cursor}" if cursor else ""
        assert not query or answer.headers["Link"] == f'</jobs{query}>; rel="next"'

    assert found == [["J0", "J1"], ["J2", "J3"], ["J4"]]


@pytest.mark.parametrize(
    ("query", "field"), [("limit=0", "limit"), ("cursor=x", "cursor"), ("page=1", "page")]
)
async def test_query_that_is_wrong_is_named(api: Api, query: str, field: str) -> None:
    refused(await api.get(f"/jobs?{query}"), 400, "invalid_request", field)


async def test_head_has_no_body(api: Api) -> None:
    answer = await api.request("HEAD", "/jobs")

    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(("path", "unknown"), [("/jobs/{}/cancel", 404), ("/api/cancel/{}", 200)])
async def test_waiting_job_is_cancelled(lab: Lab, path: str, unknown: int) -> None:
    await lab.close()
    await lab.submit()

    answer = await lab.api.post(path.format("J1"))
    nobody = await lab.api.post(path.format("nobody"))

    assert (answer.status, answer.json) == (
        200,
        {"success": True, "message": "Job J1 cancellation initiated", "status": "cancelled", "job_id": "J1"},
    )
    assert (await lab.shown())["status"] == "cancelled"
    assert (nobody.status, nobody.json["success"]) == (unknown, False)


@pytest.mark.parametrize("path", ["/jobs/{}/cancel", "/api/cancel/{}"])
async def test_ended_job_is_not_cancelled(lab: Lab, path: str) -> None:
    await lab.submit()
    before = await lab.ended()

    answer = await lab.api.post(path.format("J1"), json={})

    assert (answer.status, answer.json["success"], answer.json["status"]) == (200, False, "failed")
    assert await lab.shown() == before


async def test_priority_is_changed_and_shown(lab: Lab) -> None:
    await lab.close()
    await lab.submit()

    answer = await lab.api.post("/jobs/J1/priority", json={"priority": -4})
    shown = (await lab.shown())["priority"]
    normal = await lab.api.post("/jobs/J1/priority", json={})

    assert (answer.status, answer.json) == (
        200,
        {
            "success": True,
            "message": "Priority set to -4",
            "job_id": "J1",
            "status": "queued",
            "priority": -4,
            "effective": True,
        },
    )
    assert (shown, (await lab.shown())["priority"]) == (-4, 0)
    assert normal.json["message"] == "Priority set to 0"


async def test_priority_that_comes_too_late_is_told_so(lab: Lab) -> None:
    lab.becomes("exec sleep 1000")
    await lab.submit()

    async def runs() -> bool:
        return bool((await lab.shown())["status"] == "running")

    await eventually(runs)

    answer = await lab.api.post("/jobs/J1/priority", json={"priority": 9})

    assert (answer.status, answer.json["success"], answer.json["effective"]) == (200, True, False)
    assert "the job is running already, so this counts only if it runs again" in answer.json["message"]


async def test_priority_that_is_none_leaves_the_job_where_it_is(lab: Lab) -> None:
    await lab.close()
    await lab.submit()
    before = await lab.shown()

    for body, field in (({"priority": "high"}, "priority"), ({"prio": 1}, "prio")):
        refused(await lab.api.post("/jobs/J1/priority", json=body), 400, "invalid_request", field)

    assert await lab.shown() == before
    refused(await lab.api.post("/jobs/nobody/priority", json={"priority": 1}), 404, "job_not_found")


async def test_priority_of_an_ended_job_runs_nothing(lab: Lab) -> None:
    await lab.submit()
    before = await lab.ended()

    answer = await lab.api.post("/jobs/J1/priority", json={"priority": 1})

    refused(answer, 400, "illegal_transition")
    assert await lab.shown() == before


@pytest.mark.parametrize("name", ["adapting.log", "converged.log"])
async def test_all_that_is_read_of_a_log_is_told(lab: Lab, name: str) -> None:
    log = Path(__file__).parents[2] / "data" / "pyedb" / name
    folder = lab.project.parent / "a.aedb.batchinfo.1"
    folder.mkdir()
    lab.becomes(f"cat {log} >{folder}/a.log")
    await lab.submit(jobid="patch_1")
    await lab.ended("patch_1")
    reader = LogReader()
    reader.feed(log.read_bytes())

    answer = await lab.api.get("/api/jobs/patch_1/log")

    assert answer.json == reader.state()


async def test_log_is_told_as_far_as_there_is_one(lab: Lab) -> None:
    folder = lab.project.parent / "a.aedb.batchinfo.1"
    folder.mkdir()
    said = r"printf 'Project:a, Design:main\nAdaptive Pass 1, Frequency: 5GHz\n'"
    lab.becomes(f"{said} >{folder}/a.log")
    await lab.api.submit("true", job_id="plain")
    await lab.close()
    await lab.submit()

    early = await lab.api.get("/api/jobs/J1/log")
    await lab.api.patch("/api/v1/queues/default", json={"paused": False})
    await lab.ended()
    late = await lab.api.get("/api/jobs/J1/log")

    assert (early.status, early.body) == (204, b"")
    assert late.status == 200
    assert late.json["project"]["design"] == "main"
    assert late.json["log_parser"]["current_pass"]["freq_hz"] == 5e9
    assert late.json["log_parser"]["is_converged"] is False
    refused(await lab.api.get("/api/jobs/nobody/log"), 404, "job_not_found")
    refused(await lab.api.get("/api/jobs/plain/log"), 404, "not_a_simulation")

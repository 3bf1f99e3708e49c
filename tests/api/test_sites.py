"""Sites over REST: made, changed, tried and forgotten, and jobs that run at one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.api.conftest import Api, eventually
from tests.dialects.shell import install

HOST = {"kind": "shell"}


async def put(api: Api, name: str, **fields: object) -> None:
    answer = await api.request("PUT", f"/api/v1/sites/{name}", json={**HOST, **fields})
    assert answer.status == 200, answer


async def until_running(api: Api, job_id: str) -> None:
    async def is_running() -> bool:
        return (await api.manager.get(job_id)).status == "running"

    await eventually(is_running)


async def is_served(api: Api, name: str) -> bool:
    sites = (await api.get("/api/v1/sites")).json["sites"]
    return next(site["trouble"] is None for site in sites if site["name"] == name)


async def _is(expected: str, said: Callable[[], Awaitable[str]]) -> bool:
    return await said() == expected


async def test_sites_are_listed_with_what_they_are(api: Api) -> None:
    await put(api, "lab", max_submitted=7, defaults={"modules": ["ansys"], "setup": ["x=1"]})
    await eventually(lambda: is_served(api, "lab"))

    (lab, local) = (await api.get("/api/v1/sites")).json["sites"]

    assert (local["name"], local["kind"], local["max_submitted"]) == ("local", "local", None)
    assert lab == {
        "name": "lab",
        "kind": "shell",
        "host": None,
        "work_dir": str(api.manager.settings.work_dir),
        "enabled": True,
        "max_submitted": 7,
        "max_running": None,
        "defaults": {"modules": ["ansys"], "setup": ["x=1"]},
        "ssh": {},
        "trouble": None,
    }


async def test_job_runs_at_a_site_that_was_made_just_now(api: Api) -> None:
    await put(api, "host", defaults={"setup": ["GREETING=hello", "export GREETING"]})
    job_id = await api.submit("sh", "-c", 'echo "$GREETING"; exit 3', site="host")

    job = await api.manager.wait(job_id, 30)

    assert (job.status, job.exit_code, job.site) == ("failed", 3, "host")
    assert (await api.get(f"/api/v1/jobs/{job_id}/logs/stdout")).body == b"hello\n"
    kinds = [event["kind"] for event in (await api.get(f"/api/v1/jobs/{job_id}/events")).json["events"]]
    assert kinds == ["submitted", "claimed", "scheduled", "started", "failed"]


async def test_what_a_job_asks_for_itself_counts_more_than_the_sites_default(api: Api) -> None:
    await put(api, "host", defaults={"setup": ["A=site; export A"]})
    job_id = await api.submit("sh", "-c", 'echo "$A"', site="host", resources={"setup": ["A=job; export A"]})

    await api.manager.wait(job_id, 30)

    assert (await api.get(f"/api/v1/jobs/{job_id}/logs/stdout")).body == b"job\n"


async def test_what_a_site_cannot_be_asked_for_fails_the_job_naming_the_field(api: Api) -> None:
    await put(api, "host")
    job_id = await api.submit("true", site="host", resources={"partition": "long"})

    job = await api.manager.wait(job_id, 30)

    assert job.error is not None
    assert job.error.code == "submit_refused"
    assert "resources.partition" in job.error.message


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("slurm", "--array=1-9"),
        ("slurm", "--job-n=mine"),
        ("slurm", "--requeue"),
        ("slurm", "-J mine"),
        ("pbs", "-J 1-9"),
        ("pbs", "-o elsewhere"),
        ("lsf", "-J mine"),
        ("windows_hpc", "/jobname:mine"),
        ("shell", "--nice=3"),
    ],
)
async def test_option_that_jobmgr_sets_itself_is_refused_before_the_job_is_stored(
    api: Api, kind: str, option: str
) -> None:
    await put(api, "far", kind=kind, work_dir="//far/work", enabled=False)
    body = {"command": ["true"], "resources": {"directives": [option]}}

    by_site = await api.post("/api/v1/jobs", json={**body, "site": "far"})
    by_kind = await api.post("/api/v1/jobs", json={"jobs": [{**body, "executor": kind}]})

    by_site.problem(422, "invalid_request", "resources.directives")
    by_kind.problem(422, "invalid_request", "jobs[0].resources.directives")
    assert (await api.get("/api/v1/jobs")).json["jobs"] == []


@pytest.mark.parametrize("reference", ["env:LICENCE", "keyring:licences/ansys"])
async def test_secret_that_would_lie_in_a_script_is_refused_before_the_job_is_stored(
    api: Api, reference: str
) -> None:
    await put(api, "far", kind="slurm", work_dir="//far/work", enabled=False)
    body = {"command": ["true"], "env": {"A": "plain", "KEY": {"secret": reference}}}

    by_site = await api.post("/api/v1/jobs", json={**body, "site": "far"})
    by_kind = await api.post("/api/v1/jobs", json={"jobs": [{**body, "executor": "slurm"}]})

    assert "write file:" in by_site.problem(422, "invalid_request", "env.KEY.secret")
    by_kind.problem(422, "invalid_request", "jobs[0].env.KEY.secret")
    assert (await api.get("/api/v1/jobs")).json["jobs"] == []


async def test_job_at_a_site_reads_its_secret_there(api: Api, tmp_path: Path) -> None:
    await put(api, "host")
    (tmp_path / "key").write_text("sesame\n")
    env = {"KEY": {"secret": f"file:{tmp_path}/key"}}
    job_id = await api.submit("sh", "-c", 'echo "$KEY"', site="host", env=env)
    without = await api.submit("true", site="host", env={"KEY": {"secret": f"file:{tmp_path}/missing"}})

    await api.manager.wait(job_id, 30)
    job = await api.manager.wait(without, 30)

    assert (await api.get(f"/api/v1/jobs/{job_id}/logs/stdout")).body == b"sesame\n"
    assert job.error is not None
    assert (job.status, job.error.code) == ("failed", "secret_unavailable")
    assert job.error.message.startswith("env.KEY: ")


async def test_option_that_a_scheduler_takes_is_stored(api: Api) -> None:
    await put(api, "far", kind="slurm", enabled=False)

    job_id = await api.submit("true", site="far", resources={"directives": ["--nice=100"]})

    assert (await api.manager.spec(job_id)).resources.directives == ("--nice=100",)


async def test_job_is_cancelled_at_its_site(api: Api) -> None:
    await put(api, "host")
    job_id = await api.submit("sleep", "600", site="host")
    await until_running(api, job_id)

    await api.post(f"/api/v1/jobs/{job_id}/cancel")

    assert (await api.manager.wait(job_id, 30)).status == "cancelled"


async def test_site_that_is_disabled_gets_no_jobs_and_why_says_so(api: Api) -> None:
    await put(api, "host", enabled=False)
    job_id = await api.submit("true", site="host")

    async def why() -> str:
        return str((await api.get(f"/api/v1/jobs/{job_id}/why")).json["reasons"][0]["message"])

    # A moment after the answer the dispatcher has the site, too.
    await eventually(lambda: _is("the site host is disabled; `jobmgr site enable host` opens it", why))
    await put(api, "host")

    assert (await api.manager.wait(job_id, 30)).status == "completed"


@pytest.mark.parametrize("limits", [{"max_submitted": 2}, {"max_running": 2}])
async def test_as_many_jobs_as_the_site_may_have_are_there_at_once(
    api: Api, tmp_path: Path, limits: dict[str, int]
) -> None:
    await put(api, "host", **limits)
    go = tmp_path / "go"
    wait = f"while [ ! -e {go} ]; do sleep 0.05; done"
    job_ids = [await api.submit("sh", "-c", wait, site="host") for _ in range(3)]
    for job_id in job_ids[:2]:
        await until_running(api, job_id)

    assert (await api.manager.get(job_ids[2])).status == "queued"
    (reason,) = (await api.get(f"/api/v1/jobs/{job_ids[2]}/why")).json["reasons"]
    assert reason == {"code": "slots", "message": "the site host has 2 slots, all in use"}

    go.touch()
    assert [job.status for job in await api.manager.wait_many(job_ids, 30)] == ["completed"] * 3


async def test_trial_tells_step_by_step(api: Api) -> None:
    await put(api, "host")

    trial = (await api.post("/api/v1/sites/host/test")).json

    assert trial["is_well"]
    assert [step["name"] for step in trial["steps"]] == [
        "connection",
        "scheduler",
        "installation",
        "work directory",
        "partitions",
    ]


@pytest.mark.parametrize("kind", ["lsf", "windows_hpc"])
async def test_trial_of_a_site_without_its_scheduler_says_what_is_missing(api: Api, kind: str) -> None:
    await put(api, "far", kind=kind)

    trial = (await api.post("/api/v1/sites/far/test")).json

    assert not trial["is_well"]
    assert [(step["name"], step["is_well"]) for step in trial["steps"]] == [
        ("connection", True),
        ("scheduler", False),
    ]


@pytest.mark.parametrize(
    ("name", "fields", "field"),
    [
        ("local", {}, "name"),
        ("a%20b", {}, "name"),
        ("x" * 65, {}, "name"),
        ("s", {"kind": "cron"}, "kind"),
        ("s", {"work_dir": "here"}, "work_dir"),
        ("s", {"host": "h"}, "work_dir"),
        ("s", {"host": "h\n", "work_dir": "/w"}, "host"),
        ("s", {"max_submitted": 0}, "max_submitted"),
        ("s", {"max_running": 0}, "max_running"),
        ("s", {"defaults": {"memory": "much"}}, "defaults.memory"),
        ("s", {"defaults": {"partitions": "a"}}, "defaults.partitions"),
        ("s", {"ssh": {"password": "x"}}, "ssh.password"),
        ("s", {"kind": "slurm", "defaults": {"directives": ["--array=1-9"]}}, "defaults.directives"),
    ],
)
async def test_site_that_does_not_fit_is_not_made(
    api: Api, name: str, fields: dict[str, object], field: str
) -> None:
    answer = await api.request("PUT", f"/api/v1/sites/{name}", json={**HOST, **fields})

    answer.problem(422, "invalid_request", field)
    assert [site["name"] for site in (await api.get("/api/v1/sites")).json["sites"]] == ["local"]


async def test_site_is_forgotten_unless_jobs_name_it(api: Api) -> None:
    await put(api, "host")
    await put(api, "other")
    job_id = await api.submit("true", site="host")
    await api.manager.wait(job_id, 30)

    assert (await api.request("DELETE", "/api/v1/sites/other")).status == 204
    (await api.request("DELETE", "/api/v1/sites/host")).problem(409, "conflict")
    (await api.request("DELETE", "/api/v1/sites/local")).problem(409, "conflict")
    (await api.request("DELETE", "/api/v1/sites/other")).problem(404, "site_not_found")
    (await api.post("/api/v1/sites/other/test")).problem(404, "site_not_found")


async def test_site_with_live_attempts_stays_where_it_is(api: Api, tmp_path: Path) -> None:
    await put(api, "host")
    job_id = await api.submit("sleep", "600", site="host")
    await until_running(api, job_id)

    moved = await api.request("PUT", "/api/v1/sites/host", json={**HOST, "work_dir": str(tmp_path)})
    moved.problem(409, "conflict")
    await put(api, "host", max_submitted=1)
    await api.post(f"/api/v1/jobs/{job_id}/cancel")

    assert (await api.manager.wait(job_id, 30)).status == "cancelled"


async def test_required_files_are_looked_for_at_the_site(api: Api) -> None:
    await put(api, "host")
    success = {"required_files": ["result"]}
    has = await api.submit("touch", "result", site="host", success=success)
    has_not = await api.submit("true", site="host", success=success)

    assert (await api.manager.wait(has, 30)).status == "completed"
    job = await api.manager.wait(has_not, 30)
    assert job.error is not None
    assert job.error.code == "missing_output"


async def test_site_that_does_not_tell_of_files_keeps_its_own_ends_only(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(api, "other")
    await api.manager.wait(await api.submit("true", site="other"), 30)
    asked, answer = tmp_path / "asked", tmp_path / "answer"
    os.mkfifo(asked)
    os.mkfifo(answer)
    slow = f'[ "$4" != missing ] || {{ echo >"{asked}"; read -r _ <"{answer}"; }}; exec /bin/sh "$@"'
    install(tmp_path / "bin", "sh", slow)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    await put(api, "host")
    success = {"required_files": ["result"]}

    slow_id = await api.submit("touch", "result", site="host", success=success)
    await asyncio.wait_for(asyncio.to_thread(asked.read_text), 30)
    job_ids = [await api.submit("touch", "result", site=site, success=success) for site in ("other", "local")]

    assert [job.status for job in await api.manager.wait_many(job_ids, 30)] == ["completed"] * 2
    assert (await api.manager.get(slow_id)).status == "running"
    await asyncio.to_thread(answer.write_text, "now\n")
    assert (await api.manager.wait(slow_id, 30)).status == "completed"

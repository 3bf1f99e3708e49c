"""What PyEDB's job manager did wrong, defect by defect, and what happens here.

The numbers are those of docs/from-pyedb.md. Clusters and classes have files of their own beside this one.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import socketio

from benchmarks.service import peak_mb
from jobmgr.executors import process
from jobmgr.hfss import HFSSSimulationConfig, SchedulerOptions, SchedulerType
from jobmgr.monitor import ResourceMonitor
from tests.api.conftest import TIMEOUT_S, Api
from tests.cli.conftest import Commands, serving
from tests.patience import eventually
from tests.peers.asking import HERE, RAN, WAIT, begun, put_limits, run, shown, submit, times_run, until
from tests.peers.conftest import Service, project

pytestmark = pytest.mark.usefixtures("ansys")


@pytest_asyncio.fixture
async def one_slot(api: Api) -> Api:
    """The service runs one job at a time, as the original's did."""
    await put_limits(api, max_concurrent_jobs=1)
    return api


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """A state directory for services that are programs of their own."""
    home = tmp_path / "home"
    home.mkdir()
    return Commands(home)


# Claim and fact


async def test_01_priority_of_a_completed_job_does_not_run_it_again(one_slot: Api, tmp_path: Path) -> None:
    job = await run(one_slot, project(tmp_path / "a.aedt", RAN))

    answer = await one_slot.post(f"/jobs/{job.job_id}/priority", json={"priority": 9})
    # One slot, and a lower priority: it would have run before this one.
    await run(one_slot, project(tmp_path / "b.aedt"))

    assert answer.json["success"] is False
    assert times_run(tmp_path) == 1
    assert (await shown(one_slot, job.job_id))["status"] == "completed"


async def test_02_priority_of_a_running_job_does_not_run_it_twice(one_slot: Api, tmp_path: Path) -> None:
    job_id = await submit(one_slot, project(tmp_path / "a.aedt", RAN + WAIT))
    await begun(tmp_path)

    await one_slot.post(f"/jobs/{job_id}/priority", json={"priority": 9})
    (tmp_path / "go").touch()
    await run(one_slot, project(tmp_path / "b.aedt"))

    assert times_run(tmp_path) == 1
    assert (await shown(one_slot, job_id))["status"] == "completed"


async def statuses(service: Service, *expected: str) -> None:
    """The jobs of the service are there, in this order."""

    async def are_there() -> bool:
        return [job["status"] for job in await service.ask("GET", "/jobs")] == list(expected)

    await eventually(are_there)


async def test_04_a_service_that_drains_waits_for_what_runs(commands: Commands, tmp_path: Path) -> None:
    waiting = project(tmp_path / "a.aedt", RAN + WAIT)
    other = project(tmp_path / "b.aedt", RAN)
    with commands.start("serve", "--port", "0", "--max-concurrent-jobs", "1", "--drain", "wait") as program:
        assert program.stdout is not None
        assert program.stderr is not None
        url = program.stdout.readline().decode().removeprefix("listening on ").strip()
        service = Service(commands, url)
        for file in (waiting, other):
            await service.ask("POST", "/jobs/submit", json={"config": {"project_path": str(file)}})
        await statuses(service, "running", "queued")
        program.send_signal(signal.SIGTERM)
        while b"draining" not in (line := await asyncio.to_thread(program.stderr.readline)):
            assert line, "it ended and did not drain"
        meanwhile = [job["status"] for job in await service.ask("GET", "/jobs")]
        (tmp_path / "go").touch()
        code = await asyncio.to_thread(program.wait, TIMEOUT_S)

    assert (code, sorted(meanwhile), times_run(tmp_path)) == (0, ["queued", "running"], 1)
    with serving(commands) as url:
        jobs = await Service(commands, url).jobs_of(waiting, other)
    assert [job["status"] for job in jobs] == ["completed", "completed"]
    assert times_run(tmp_path) == 2


async def test_06_a_restart_loses_nothing(commands: Commands, tmp_path: Path) -> None:
    ended, running, queued = (project(tmp_path / f"{name}.aedt") for name in ("ended", "running", "queued"))
    running.write_text(RAN + WAIT + "exit 4")
    with commands.start("serve", "--port", "0", "--max-concurrent-jobs", "1") as program:
        assert program.stdout is not None
        service = Service(commands, program.stdout.readline().decode().removeprefix("listening on ").strip())
        for file in (ended, running, queued):
            await service.ask("POST", "/jobs/submit", json={"config": {"project_path": str(file)}})
        await statuses(service, "completed", "running", "queued")
        before = await service.ask("GET", "/jobs")
        program.kill()

    with serving(commands, "--max-concurrent-jobs", "1") as url:
        service = Service(commands, url)
        after = await service.ask("GET", "/jobs")
        (tmp_path / "go").touch()
        jobs = await service.jobs_of(ended, running, queued)

    assert [(job["id"], job["config"]) for job in after] == [(job["id"], job["config"]) for job in before]
    assert {Path(job["config"]["project_path"]).stem: job["return_code"] for job in jobs} == {
        "ended": 0,
        "running": 4,
        "queued": 0,
    }
    assert times_run(tmp_path) == 1


async def test_07_no_job_starts_below_a_limit(api: Api, tmp_path: Path) -> None:
    for limit in ("min_memory_gb", "min_disk_gb"):
        await put_limits(api, **{limit: 100_000})
        job_id = await submit(api, project(tmp_path / f"{limit}.aedt", RAN))

        async def names_it(job_id: str = job_id, limit: str = limit) -> bool:
            return limit in str((await api.get(f"/api/v1/jobs/{job_id}/why")).json)

        await eventually(names_it)
        waits = (await shown(api, job_id))["status"]
        await put_limits(api, **{limit: 0})
        job = await api.manager.wait(job_id, TIMEOUT_S)
        assert (waits, job.status) == ("queued", "completed")

    assert times_run(tmp_path) == 2


async def test_08_priorities_are_kept_shown_and_obeyed(one_slot: Api, tmp_path: Path) -> None:
    await submit(one_slot, project(tmp_path / "first.aedt", WAIT))
    await begun(tmp_path)
    ids = {
        name: await submit(
            one_slot, project(tmp_path / f"{name}.aedt", f"echo {name} >>{HERE}/order"), priority
        )
        for name, priority in (("low", 1), ("middle", 5), ("raised", 0))
    }
    answer = await one_slot.post(f"/jobs/{ids['raised']}/priority", json={"priority": 9})
    priorities = {name: (await shown(one_slot, job_id))["priority"] for name, job_id in ids.items()}

    (tmp_path / "go").touch()
    await one_slot.manager.wait_many(list(ids.values()), TIMEOUT_S)

    assert (answer.status, answer.json["success"]) == (200, True)
    assert priorities == {"low": 1, "middle": 5, "raised": 9}
    assert (tmp_path / "order").read_text().split() == ["raised", "middle", "low"]


async def test_09_a_negative_priority_is_below_the_normal_one(one_slot: Api, tmp_path: Path) -> None:
    await submit(one_slot, project(tmp_path / "first.aedt", WAIT))
    await begun(tmp_path)
    ids = [
        await submit(one_slot, project(tmp_path / f"{name}.aedt", f"echo {name} >>{HERE}/order"), priority)
        for name, priority in (("negative", -5), ("normal", 0))
    ]

    (tmp_path / "go").touch()
    await one_slot.manager.wait_many(ids, TIMEOUT_S)

    assert (tmp_path / "order").read_text().split() == ["normal", "negative"]


async def test_09_whoever_has_many_urgent_jobs_leaves_the_room_that_his_queue_has_not(
    api: Api, tmp_path: Path
) -> None:
    await put_limits(api, max_concurrent_jobs=2)
    await api.patch("/api/v1/queues/anns", json={"max_running": 1})
    anns = [
        await submit(api, project(tmp_path / f"{number}.aedt", WAIT), priority=9, queue="anns")
        for number in range(3)
    ]
    bobs = await submit(api, project(tmp_path / "b.aedt"), priority=-9)

    job = await api.manager.wait(bobs, TIMEOUT_S)
    await until(api, anns[0], "running")
    others = [(await shown(api, job_id))["status"] for job_id in anns[1:]]
    (tmp_path / "go").touch()
    ended = await api.manager.wait_many(anns, TIMEOUT_S)

    assert (job.status, others) == ("completed", ["queued", "queued"])
    assert [job.status for job in ended] == ["completed"] * 3


async def test_10_a_bad_priority_is_refused_and_the_job_keeps_its_place(
    one_slot: Api, tmp_path: Path
) -> None:
    await submit(one_slot, project(tmp_path / "first.aedt", WAIT))
    await begun(tmp_path)
    job_id = await submit(one_slot, project(tmp_path / "a.aedt"), 3)
    bad = ("high", None, 1.5, True, 10**30, [1])

    answers = [await one_slot.post(f"/jobs/{job_id}/priority", json={"priority": each}) for each in bad]
    kept = await shown(one_slot, job_id)
    (tmp_path / "go").touch()
    job = await one_slot.manager.wait(job_id, TIMEOUT_S)

    for answer in answers:
        assert (answer.status, answer.json["success"]) == (400, False), answer
        assert "priority" in answer.json["error"]
    assert (kept["status"], kept["priority"], job.status) == ("queued", 3, "completed")


def config_for(scheduler: SchedulerType, **options: Any) -> HFSSSimulationConfig:
    given: dict[str, Any] = {
        "queue": "compute",
        "time": "08:00:00",
        "memory": "64GB",
        "nodes": 2,
        "cores_per_node": 4,
    }
    return HFSSSimulationConfig(
        ansys_edt_path="/ansys/v252/ansysedt",
        jobid="array_1",
        project_path="/shared/array.aedt",
        scheduler_type=scheduler,
        scheduler_options=SchedulerOptions(**(given | options)),
    )


def is_shell(text: str) -> bool:
    """Whether a shell can read it."""
    return subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_11_pbs_and_windows_hpc_have_scripts() -> None:
    pbs = config_for(SchedulerType.PBS).generate_scheduler_script()
    windows = config_for(
        SchedulerType.WINDOWS_HPC, account="ann", exclusive=True, email_notification="a@x.org"
    )

    job = ET.fromstring(windows.generate_scheduler_script())

    assert is_shell(pbs)
    for part in ("-q compute", "walltime=8:00:00", "select=2:ncpus=4:"):
        assert re.search(rf"^#PBS .*{part}", pbs, re.MULTILINE), (part, pbs)
    asked = {
        "NodeGroups": "compute",
        "RuntimeSeconds": "28800",
        "MinMemory": "65536",
        "MinNodes": "2",
        "Project": "ann",
        "IsExclusive": "true",
        "EmailAddress": "a@x.org",
    }
    assert asked.items() <= job.attrib.items()
    assert [task.attrib["CommandLine"] for task in job.iter() if task.tag.endswith("Task")] == [
        'sh "/shared/array_1_windows_hpc.sh"'
    ]


def test_12_a_script_for_lsf_is_a_shell_script_with_all_options() -> None:
    text = config_for(SchedulerType.LSF, account="ann", exclusive=True).generate_scheduler_script()

    directives = [line.removeprefix("#BSUB ") for line in text.splitlines() if line.startswith("#BSUB")]
    assert is_shell(text)
    for part in ("-q compute", "-W 8:00", "-n 8", "-x", "-P ann"):
        assert any(line == part or line.startswith(f"{part} ") for line in directives), (part, directives)
    assert any("rusage[mem=" in line and "span[ptile=4]" in line for line in directives), directives


def test_13_time_memory_priority_and_mail_reach_slurm() -> None:
    text = config_for(
        SchedulerType.SLURM, email_notification="ann@example.org", priority="Low", gpus=2, gpu_type="a100"
    ).generate_scheduler_script()

    for part in ("--time=", "--mem=", "--nice=1000", "--mail-user=ann@example.org", "a100:"):
        assert re.search(rf"^#SBATCH .*{re.escape(part)}", text, re.MULTILINE), (part, text)


# Runs on this machine


async def test_24_cancel_ends_all_that_the_solver_started_and_frees_its_slot(
    one_slot: Api, tmp_path: Path
) -> None:
    script = (
        "trap '' TERM; sleep 1000 & echo $! >{0}/pids; setsid sh -c 'echo $$ >>{0}/pids; sleep 1000' &\n{1}"
    )
    job_id = await submit(one_slot, project(tmp_path / "a.aedt", script.format(tmp_path, WAIT)))
    await begun(tmp_path)

    await eventually(lambda: (tmp_path / "pids").read_text().count("\n") == 2)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]

    answer = await one_slot.post(f"/jobs/{job_id}/cancel")
    job = await one_slot.manager.wait(job_id, TIMEOUT_S)
    next_one = await run(one_slot, project(tmp_path / "b.aedt"))

    assert (answer.status, answer.json["success"]) == (200, True)
    assert (job.status, next_one.status) == ("cancelled", "completed")
    assert {stat.pid for stat in process.living_processes()}.isdisjoint(pids)


@pytest_asyncio.fixture
async def told(api: Api) -> AsyncIterator[list[tuple[str, str]]]:
    """What a Socket.IO client is told about ends: names of events, and jobs."""
    client, found = socketio.AsyncClient(reconnection=False), []

    def keep(name: str) -> Any:
        async def kept(data: Any) -> None:
            found.append((name, str(data["job_id"])))

        return kept

    for name in ("job_completed", "job_cancelled"):
        client.on(name, keep(name))
    await client.connect(api.url)
    yield found
    await client.disconnect()


async def test_25_a_cancelled_job_is_told_as_cancelled(
    api: Api,
    told: list[tuple[str, str]],
    tmp_path: Path,
) -> None:
    await put_limits(api, max_concurrent_jobs=1)
    running = await submit(api, project(tmp_path / "a.aedt", WAIT))
    await begun(tmp_path)
    queued = await submit(api, project(tmp_path / "b.aedt"))

    for job_id in (queued, running):
        await api.post(f"/jobs/{job_id}/cancel")
        await api.manager.wait(job_id, TIMEOUT_S)
    after = await run(api, project(tmp_path / "c.aedt"))

    await eventually(lambda: ("job_completed", after.job_id) in told)
    assert told == [("job_cancelled", queued), ("job_cancelled", running), ("job_completed", after.job_id)]


async def test_26_a_cancel_at_any_moment_is_carried_out(api: Api, tmp_path: Path) -> None:
    file = project(tmp_path / "a.aedt", "sleep 1000")
    ids = [await submit(api, file, jobid=f"patch_{number}") for number in range(12)]
    # Some are queued, some claimed, some starting, some running.
    answers = await asyncio.gather(*(api.post(f"/jobs/{job_id}/cancel") for job_id in ids))

    jobs = await api.manager.wait_many(ids, TIMEOUT_S)

    assert [answer.json["success"] for answer in answers] == [True] * len(ids)
    assert {job.status for job in jobs} == {"cancelled"}


async def test_27_output_that_is_no_text_fails_nothing(api: Api, tmp_path: Path) -> None:
    job = await run(api, project(tmp_path / "a.aedt", "printf 'Ansys\\256 \\377\\376\\n'"))

    assert (job.status, job.exit_code) == ("completed", 0)
    assert (await api.get(f"/api/v1/jobs/{job.job_id}/logs/stdout")).body == b"Ansys\256 \377\376\n"


async def test_28_output_is_kept_in_a_file_and_can_be_read(api: Api, tmp_path: Path) -> None:
    job = await run(api, project(tmp_path / "a.aedt", "head -c 3000000 /dev/zero; echo end; echo oh >&2"))

    tail = await api.get(f"/api/v1/jobs/{job.job_id}/logs/stdout?offset=3000000")
    complaint = await api.get(f"/api/v1/jobs/{job.job_id}/logs/stderr")
    assert (tail.body, tail.headers["X-Log-Size"], complaint.body) == (b"end\n", "3000004", b"oh\n")
    assert job.work_dir is not None
    assert (Path(job.work_dir) / "stdout").stat().st_size == 3_000_004


async def test_28_output_takes_no_memory_of_the_service(service: Service, tmp_path: Path) -> None:
    files = [project(tmp_path / f"{number}.aedt", "head -c 64000000 /dev/zero") for number in range(2)]
    before_mb = peak_mb(service.pid)

    for file in files:
        await service.ask("POST", "/jobs/submit", json={"config": {"project_path": str(file)}})
    jobs = await service.jobs_of(*files)

    assert [job["status"] for job in jobs] == ["completed", "completed"]
    assert peak_mb(service.pid) - before_mb < 32


async def test_29_why_a_job_could_not_start_is_said(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ansysedt"
    monkeypatch.setenv("ANSYSEM_ROOT251", str(tmp_path))
    program.write_text("#!/no/such/shell\n")
    program.chmod(0o755)

    job = await run(api, project(tmp_path / "a.aedt"), ansys_edt_path=str(program))

    seen = await shown(api, job.job_id)
    assert (seen["status"], seen["return_code"]) == ("failed", None)
    assert job.error is not None
    assert str(program) in job.error.message
    assert job.error.message in str(seen["error"])


async def test_30_jobs_without_an_id_get_one_each(api: Api, tmp_path: Path) -> None:
    file = project(tmp_path / "a.aedt", RAN)

    ids = [await submit(api, file) for _ in range(5)]
    jobs = await api.manager.wait_many(ids, TIMEOUT_S)

    assert len(set(ids)) == 5
    assert ([job.status for job in jobs], times_run(tmp_path)) == (["completed"] * 5, 5)


async def test_31_an_id_once_more_keeps_what_was(api: Api, tmp_path: Path) -> None:
    file = project(tmp_path / "a.aedt", "echo first; exit 3")
    await run(api, file, jobid="patch")
    file.write_text("echo second")
    again = await run(api, file, jobid="patch")

    other = await api.post(
        "/jobs/submit", json={"config": {"project_path": str(file), "jobid": "patch", "design_name": "b"}}
    )

    attempts = (await api.get("/api/v1/jobs/patch/attempts")).json["attempts"]
    assert (again.status, [attempt["exit_code"] for attempt in attempts]) == ("completed", [3, 0])
    assert (await api.get("/api/v1/jobs/patch/logs/stdout?attempt=1")).body == b"first\n"
    assert (other.json["success"], "jobid" in other.json["error"]) == (False, True), other


async def test_32_ended_jobs_can_be_forgotten(api: Api, tmp_path: Path) -> None:
    job = await run(api, project(tmp_path / "a.aedt"), jobid="patch")

    assert (await api.request("DELETE", f"/api/v1/jobs/{job.job_id}")).status == 204

    assert (await api.get("/jobs")).json == []
    assert (await api.post("/jobs/patch/cancel")).status == 404


def test_33_a_look_at_the_machine_waits_for_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monitor = ResourceMonitor(tmp_path)
    slept: list[float] = []
    # `psutil.cpu_percent(interval=1)` sleeps in between; so would anything else that takes its time.
    monkeypatch.setattr(time, "sleep", slept.append)

    sample = monitor.sample()

    assert sample.memory_free_gb > 0
    assert slept == []


async def test_34_all_jobs_are_listed_in_pieces_while_others_are_answered(api: Api, tmp_path: Path) -> None:
    await api.patch("/api/v1/queues/default", json={"paused": True})
    file = project(tmp_path / "a.aedt")
    bulk = [{"command": ["true"], "draft": True} for _ in range(2000)]
    assert (await api.post_bytes(json.dumps({"jobs": bulk}).encode())).status == 201
    await submit(api, file, jobid="last")

    async with api.session.get(f"{api.url}/jobs") as listing:
        first = await listing.content.readany()
        meanwhile = (await api.get("/queue")).json
        rest = await listing.content.read()
        is_streamed = listing.headers.get("Transfer-Encoding") == "chunked"
    page = await api.get("/jobs?limit=10")

    jobs = json.loads(first + rest)
    assert (is_streamed, len(jobs), jobs[-1]["id"]) == (True, 2001, "last")
    assert meanwhile["total_queued"] == 1
    assert [job["id"] for job in page.json] == [job["id"] for job in jobs[:10]]


async def test_35_a_simulation_has_what_every_job_has(api: Api, tmp_path: Path) -> None:
    file = project(tmp_path / "a.aedt", RAN + "exit 3")
    await run(api, file, jobid="patch")
    path = "/api/v1/jobs/patch"

    changed = await api.patch(path, json={"tags": ["study"]})
    found = (await api.get("/api/v1/jobs?tag=study&status=failed&limit=1")).json["jobs"]
    file.write_text(RAN)
    retried = await api.post(f"{path}/retry")
    after = await api.submit("true", depends_on=[{"job_id": "patch"}])
    jobs = await api.manager.wait_many(["patch", after], TIMEOUT_S)

    assert (changed.status, [job["job_id"] for job in found], retried.status) == (200, ["patch"], 200)
    assert ([job.status for job in jobs], times_run(tmp_path)) == (["completed"] * 2, 2)


# Who may do what


@pytest.fixture
def foreign_program(tmp_path: Path) -> str:
    """A program that neither is an installed ANSYS nor belongs to the service's user."""
    if os.geteuid() != 0:
        return "/bin/sh"
    program = tmp_path / "foreign"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    os.chown(program, 12345, 12345)
    return str(program)


async def test_37_a_client_may_not_name_any_program(
    api: Api, ansys: Path, foreign_program: str, tmp_path: Path
) -> None:
    config = {"project_path": str(project(tmp_path / "a.aedt")), "ansys_edt_path": foreign_program}

    refused = await api.post("/jobs/submit", json={"config": config})
    nothing = (await api.get("/jobs")).json
    # The page of the original never knew a program; its server put in its own.
    replaced = await api.post("/api/submit", json={"config": config})

    assert (refused.status, refused.json["success"], nothing) == (400, False, [])
    assert "ansys_edt_path" in refused.json["error"]
    assert replaced.status == 200
    seen = await shown(api, replaced.json["job_id"])
    assert seen["config"]["ansys_edt_path"] == str(ansys / "ansysedt")
    await api.manager.wait(seen["id"], TIMEOUT_S)


@pytest.mark.parametrize("path", ["/jobs/submit", "/api/submit"])
async def test_37_no_web_page_submits_a_job(api: Api, tmp_path: Path, path: str) -> None:
    body = b'{"config": {"project_path": "%s"}}' % bytes(project(tmp_path / "a.aedt"))
    pages = (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Referer": "http://evil.example/page"},
    )

    answers = [
        (await api.post(path, data=body, headers={"Content-Type": kind, **headers})).status
        for headers in pages
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json")
        # That a page sends JSON has to be allowed first, by an answer that nobody gives here.
        if kind != "application/json" or "Referer" not in headers
    ]
    strangers = await api.post(
        path, data=body, headers={"Content-Type": "application/json", "X-Forwarded-For": "10.0.0.1"}
    )
    nothing = (await api.get("/jobs")).json
    curl = await api.post(path, data=body, headers={"Content-Type": "application/x-www-form-urlencoded"})

    assert set(answers) <= {403, 415}
    assert (strangers.status, nothing, curl.status) == (401, [], 200)


async def test_38_no_option_becomes_a_line_of_a_script(api: Api, tmp_path: Path) -> None:
    file = str(project(tmp_path / "a.aedt"))
    fields = ("queue", "account", "qos", "reservation", "constraints")

    for field in fields:
        config = {
            "project_path": file,
            "scheduler_type": "slurm",
            "scheduler_options": {field: "x\n#SBATCH --uid=0\ntouch owned"},
        }
        answer = await api.post("/jobs/submit", json={"config": config})

        assert (answer.status, answer.json["success"]) == (400, False)
        assert f"scheduler_options.{field}" in answer.json["error"]
    assert (await api.get("/jobs")).json == []


def test_38_no_design_becomes_a_command(ansys: Path, tmp_path: Path) -> None:
    tells = 'for word; do case $word in *touch*) echo "$word" ;; esac; done'
    config = HFSSSimulationConfig(
        ansys_edt_path=str(ansys / "ansysedt"),
        project_path=str(project(tmp_path / "a.aedt", tells)),
        design_name="a; touch owned; $(touch owned) `touch owned`",
        scheduler_type=SchedulerType.LSF,
        scheduler_options=SchedulerOptions(cores_per_node=1),
    )  # fmt: skip
    script = "module() { :; }\n" + config.generate_scheduler_script()

    done = subprocess.run(["bash"], input=script, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout == f"{config.design_name}::\n"
    assert not (tmp_path / "owned").exists()


async def test_39_who_is_not_let_in_learns_nothing_of_files(api: Api, tmp_path: Path) -> None:
    paths = (project(tmp_path / "there.aedt"), tmp_path / "missing.aedt")

    answers = [
        await api.post(
            "/jobs/submit",
            json={"config": {"project_path": str(path)}},
            headers={"X-Forwarded-For": "10.0.0.1"},
        )
        for path in paths
    ]

    assert [answer.status for answer in answers] == [401, 401]
    assert answers[0].body == answers[1].body


async def test_39_a_job_is_its_callers_whoever_the_configuration_names(api: Api, tmp_path: Path) -> None:
    job = await run(api, project(tmp_path / "a.aedt"), user="somebody")

    assert job.user == api.manager.user == (await api.get("/api/me")).json["username"]
    assert (await shown(api, job.job_id))["config"]["user"] == "somebody"


async def test_39_pages_of_other_origins_hear_nothing(api: Api) -> None:
    client = socketio.AsyncClient(reconnection=False)

    with pytest.raises(socketio.exceptions.ConnectionError):
        await client.connect(api.url, headers={"Origin": "http://evil.example"})


async def test_39_errors_name_the_field_and_no_internals(api: Api) -> None:
    config = {"project_path": "/a.aedt", "scheduler_options": {"nodes": "many"}}

    answer = await api.post("/jobs/submit", json={"config": config})

    assert (answer.status, answer.json["success"]) == (400, False)
    assert "scheduler_options.nodes" in answer.json["error"]
    assert "pydantic" not in answer.json["error"].lower()
    assert "Traceback" not in answer.json["error"]

"""Submitting simulations as pyedb's clients do, and what is refused."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jobmgr.hfss.program import Programs
from tests.api.conftest import Api
from tests.api.pyedb.conftest import Lab, refused
from tests.hfss.installed import install
from tests.programs import Programs as Found
from tests.programs import become_slurm


async def test_answer_is_what_clients_read_and_what_the_documents_say(lab: Lab) -> None:
    await lab.close()

    answer = await lab.submit(beside={"priority": 5})

    assert (answer.status, answer.json) == (
        200,
        {
            "success": True,
            "job_id": "J1",
            "message": "Job J1 submitted successfully",
            "status": "queued",
            "warnings": [],
        },
    )
    assert (await lab.shown())["priority"] == 5


async def test_simulation_runs_to_its_end(lab: Lab) -> None:
    await lab.submit()

    job = await lab.ended()

    assert (job["status"], job["return_code"], job["error"]) == ("completed", 0, None)
    assert (await lab.api.get("/api/v1/jobs/J1/logs/stdout")).body == b"solved\n"


async def test_program_that_fails_is_told_with_a_sentence(lab: Lab) -> None:
    (lab.project.parent / "code").write_text("7")
    await lab.submit()

    job = await lab.ended()

    assert (job["status"], job["return_code"]) == ("failed", 7)
    assert "7" in job["error"]


@pytest.mark.parametrize("priority", [-5, 0, 7])
async def test_higher_priorities_start_first_and_negative_ones_last(lab: Lab, priority: int) -> None:
    await lab.api.patch("/api/v1/limits", json={"max_concurrent_jobs": 1})
    await lab.close()
    for job_id, given in (("zero", 0), ("other", priority)):
        await lab.submit(jobid=job_id, beside={"priority": given})

    await lab.api.patch("/api/v1/queues/default", json={"paused": False})
    zero, other = await lab.ended("zero"), await lab.ended("other")

    assert (other["start_time"] < zero["start_time"]) == (priority > 0)


async def test_what_the_page_posts_stands_instead_of_what_the_configuration_says(lab: Lab) -> None:
    await lab.close()
    beside = {
        "user": "ann",
        "machine_nodes": [{"hostname": "n1", "cores": 3}],
        "batch_options": {"enable_gpu": True},
    }

    answer = await lab.submit("/api/submit", beside=beside, user=None)

    assert answer.json["status"] == "submitted"
    assert (answer.json["success"], answer.json["job_id"]) == (True, "J1")
    job = await lab.shown()
    assert job["config"]["user"] == "ann"
    assert job["user"] == lab.api.manager.user
    assert [node["cores"] for node in job["config"]["machine_nodes"]] == [3]
    assert job["config"]["layout_options"]["enable_gpu"] is True


async def test_what_is_empty_beside_a_configuration_says_nothing(lab: Lab) -> None:
    await lab.close()
    beside: dict[str, Any] = {"user": "", "machine_nodes": [], "batch_options": {}, "scheduler_type": None}
    said = {"machine_nodes": [{"cores": 4}], "layout_options": {"enable_gpu": True}, "user": "ann"}

    await lab.submit("/api/submit", beside=beside, **said)

    config = (await lab.shown())["config"]
    assert [node["cores"] for node in config["machine_nodes"]] == [4]
    assert (config["layout_options"]["enable_gpu"], config["user"]) == (True, "ann")


# What a page can send without asking.
FORMS = ("application/x-www-form-urlencoded", "text/plain")
WRONG: tuple[tuple[Mapping[str, Any], str], ...] = (
    ({}, "config"),
    ({"config": {"project_path": "/x.aedt"}, "prio": 1}, "prio"),
    ({"config": {"projekt_path": "/x.aedt"}}, "config.projekt_path"),
    ({"config": {"project_path": "/x.txt"}}, "config.project_path"),
    ({"config": {"scheduler_options": {"time": "24:00"}}}, "config.scheduler_options.time"),
    ({"config": {"scheduler_options": {"account": "a\nb"}}}, "config.scheduler_options.account"),
    ({"config": {}, "priority": "high"}, "priority"),
    ({"config": {}, "priority": True}, "priority"),
    ({"config": {}, "machine_nodes": [{"cores": "many"}]}, "machine_nodes[0].cores"),
    ({"config": {}, "batch_options": {"nonsense": 1}}, "batch_options.nonsense"),
    ({"config": {"ansys_edt_path": "/etc/passwd\0"}}, "config.ansys_edt_path"),
)


async def test_what_is_wrong_is_named_and_nothing_is_stored(lab: Lab) -> None:
    for body, field in WRONG:
        given = {**body}
        if "config" in given and "project_path" not in given["config"]:
            given["config"] = {**lab.config(), **given["config"]}

        for path in ("/jobs/submit", "/api/submit"):
            refused(await lab.api.post(path, json=given), 400, "invalid_request", field)

    assert (await lab.api.get("/jobs")).json == []


async def test_what_is_no_json_is_refused(lab: Lab) -> None:
    answer = await lab.api.post("/jobs/submit", data=b"{", headers={"Content-Type": "application/json"})

    refused(answer, 400, "malformed_body")


async def test_project_that_is_not_there_is_refused(lab: Lab) -> None:
    answer = await lab.submit(project_path=str(lab.project.with_name("b.aedt")))

    assert "b.aedt" in refused(answer, 400, "invalid_request", "config.project_path")


async def test_same_id_again_is_the_same_job_and_another_configuration_is_refused(lab: Lab) -> None:
    await lab.close()
    first = await lab.submit()

    again = await lab.submit()
    # It is told to no program, and another one in each session of a user.
    elsewhere = await lab.submit(layout_options={"temp_directory": "/scratch/1"})
    other = await lab.submit(design_name="other", layout_options={"enable_gpu": True})

    assert again.json == elsewhere.json == first.json
    assert "(design_name, layout_options.enable_gpu)" in refused(other, 400, "job_exists", "jobid")
    assert len((await lab.api.get("/jobs")).json) == 1


async def test_submissions_without_an_id_never_meet(lab: Lab) -> None:
    await lab.close()

    answers = await asyncio.gather(*(lab.submit(jobid=None) for _ in range(10)))

    assert len({answer.json["job_id"] for answer in answers}) == 10
    assert len((await lab.api.get("/jobs")).json) == 10


async def test_repeated_request_is_answered_alike_and_runs_once(lab: Lab) -> None:
    key = {"Idempotency-Key": "k"}
    body = {"config": lab.config(jobid=None)}
    first = await lab.api.post("/jobs/submit", json=body, headers=key)
    await lab.ended(first.json["job_id"])

    again = await lab.api.post("/jobs/submit", json=body, headers=key)

    assert again.json == first.json
    (job,) = (await lab.api.get("/jobs")).json
    assert job["status"] == "completed"
    assert len((await lab.api.get(f"/api/v1/jobs/{job['id']}/attempts")).json["attempts"]) == 1


async def test_program_that_may_not_be_named_is_refused(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANSYSEM_ROOT252")
    lab.api.manager.parts.programs = Programs(named=(str(tmp_path / "cluster"),))

    answer = await lab.submit()
    from_page = await lab.submit("/api/submit")
    monkeypatch.setenv("ANSYSEM_ROOT251", os.path.dirname(install(tmp_path / "v251", "")))
    newest = await lab.submit("/api/submit")

    for each in (answer, from_page):
        assert "JOBMGR_HFSS_PROGRAMS" in refused(each, 400, "invalid_request", "config.ansys_edt_path")
    assert newest.json["success"] is True
    assert (await lab.shown())["config"]["ansys_edt_path"] == str(tmp_path / "v251" / "ansysedt")


@pytest.mark.parametrize("route", ["/jobs/submit", "/api/submit"])
async def test_program_may_be_left_to_the_service(lab: Lab, route: str) -> None:
    answer = await lab.submit(route, ansys_edt_path="newest")
    again = await lab.submit(route, ansys_edt_path="")

    assert (answer.status, again.status) == (200, 200)
    assert (await lab.shown())["config"]["ansys_edt_path"] == lab.program


async def test_link_to_a_program_is_kept_as_the_program(programs: Found, lab: Lab, tmp_path: Path) -> None:
    become_slurm(programs)
    await lab.close()
    link = tmp_path / "ansysedt"
    link.symlink_to(lab.program)

    await lab.submit(ansys_edt_path=str(link), scheduler_type="slurm")
    again = await lab.submit(ansys_edt_path=str(link), scheduler_type="slurm")

    command = (await lab.api.get("/api/v1/jobs/J1/spec")).json["command"]
    launcher = os.path.join(os.path.dirname(lab.program), "schedulers/scripts/utils/ansysedt_launcher.sh")
    assert (command[0], str(link) in command) == (launcher, False)
    assert (await lab.shown())["config"]["ansys_edt_path"] == lab.program
    assert again.json["success"] is True


async def test_program_is_looked_for_beside_the_loop(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.close()
    looking: set[threading.Thread] = set()
    realpath = os.path.realpath

    def look(path: str) -> str:
        if path == lab.program:
            looking.add(threading.current_thread())
        return realpath(path)

    monkeypatch.setattr(os.path, "realpath", look)
    await lab.submit()

    assert looking
    assert threading.current_thread() not in looking


@pytest.mark.parametrize("beside", [{}, {"scheduler_type": None}, {"scheduler_type": ""}], ids=str)
async def test_options_of_a_scheduler_without_its_name_are_for_the_services(
    programs: Found, lab: Lab, beside: dict[str, Any]
) -> None:
    become_slurm(programs)
    await lab.close()

    await lab.submit(beside=beside, scheduler_options={"queue": "debug", "nodes": 2})
    await lab.submit(jobid="plain")

    job, plain = await lab.shown(), await lab.shown("plain")
    assert (job["site"], job["config"]["scheduler_type"]) == ("slurm", "slurm")
    assert (plain["site"], plain["config"]["scheduler_type"]) == ("local", "none")


async def test_curl_need_not_say_that_it_sends_json(lab: Lab) -> None:
    await lab.close()
    body = b'{"config": {"jobid": "J1", "ansys_edt_path": "%b", "project_path": "%b"}}' % (
        lab.program.encode(),
        str(lab.project).encode(),
    )

    for kind in FORMS:
        answer = await lab.api.post("/jobs/submit", data=body, headers={"Content-Type": kind})

        assert answer.json["job_id"] == "J1"


async def test_form_of_a_browser_is_refused(lab: Lab) -> None:
    of_browsers = ({"Origin": lab.api.url}, {"Referer": f"{lab.api.url}/"}, {"Sec-Fetch-Site": "none"})
    for header, kind in itertools.product(of_browsers, FORMS):
        answer = await lab.api.post("/jobs/submit", data=b"{}", headers={**header, "Content-Type": kind})

        refused(answer, 415, "wrong_content_type")


async def test_own_routes_take_no_form(api: Api) -> None:
    headers = {"Content-Type": "text/plain"}

    (await api.post("/api/v1/jobs", data=b'{"command": ["true"]}', headers=headers)).problem(
        415, "wrong_content_type"
    )

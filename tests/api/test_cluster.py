"""Clusters over REST: what schedulers tell of partitions, machines and everybody's jobs, and how long that counts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio

from jobmgr.api.openapi import openapi_document
from jobmgr.api.routes import ROUTES
from jobmgr.dialects.dialect import Answer
from jobmgr.manager.recall import KEEP_S, PAUSE_S, Recall
from jobmgr.transports.transport import OUTPUT_MAX_BYTES
from tests.api.conftest import Answer as Got
from tests.api.conftest import Api, eventually
from tests.programs import Programs, become_lsf, become_pbs, become_slurm
from tests.slurm import NODES, Slurm

CLUSTER = "/api/v1/cluster"
AWAY = Answer(1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n")


@dataclass
class Lab:
    """A service with the site `lab`, the programs of its scheduler, and a clock that stands until it is set."""

    api: Api
    programs: Programs
    now_s: float = 0.0

    async def get(self, path: str = "") -> Got:
        return await self.api.get(f"{CLUSTER}/lab{path}")

    async def told(self, path: str = "") -> Any:
        answer = await self.get(path)
        assert answer.status == 200, answer
        return answer.json


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """All the programs that the service of this test finds."""
    found = Programs(tmp_path / "programs")
    monkeypatch.setenv("PATH", str(found.directory))
    return found


@pytest_asyncio.fixture
async def lab(programs: Programs, api: Api) -> Lab:
    """The SLURM of `lab` answers as one that was recorded."""
    become_slurm(programs)
    lab = Lab(api, programs)
    api.manager.parts.recall = Recall(lambda: lab.now_s)
    await put(api, "lab", kind="slurm")
    return lab


async def put(api: Api, name: str, **fields: object) -> None:
    answer = await api.request("PUT", f"/api/v1/sites/{name}", json=fields)
    assert answer.status == 200, answer


def squeue(*jobs: tuple[str, str], user: str = "ada", partition: str = "long") -> Answer:
    """What squeue says of jobs that wait: their ids and names."""
    rows = (
        (id_, "PENDING", "0", "0", "N/A", "N/A", "", "Resources", name, partition, user, "cpu=1,node=1")
        for id_, name in jobs
    )
    return Answer(0, "".join("\x1f".join(row) + "\x1e\n" for row in rows))


async def test_partitions_are_told(lab: Lab) -> None:
    told = await lab.told("/partitions")

    partitions = {each.pop("name"): each for each in told["partitions"]}
    assert (told["site"], told["age_s"]) == ("lab", 0.0)
    assert partitions["debug"] == {
        "is_default": True,
        "is_up": True,
        "max_walltime_s": 172800.0,
        "nodes": 2,
        "cpus": 8,
        "jobs_running": None,
        "jobs_pending": None,
    }
    assert [name for name, each in partitions.items() if not each["is_up"]] == ["shut"]


async def test_machines_are_told(lab: Lab) -> None:
    (n1, n2, n3) = (await lab.told("/nodes"))["nodes"]

    assert (n1["name"], n1["partitions"], n1["memory_bytes"], n1["gpus"]) == (
        "n1",
        ["debug", "short"],
        4000 * 2**20,
        2,
    )
    assert [node["is_up"] for node in (n1, n2, n3)] == [True, False, True]


async def test_everybodys_jobs_are_told_in_the_order_of_their_ids(lab: Lab) -> None:
    told = await lab.told("/jobs")

    ids = [job["id"] for job in told["jobs"]]
    assert ids == ["8", "9", "11_1", "11_2", "11_4", "11_5", "14", "16", "23"]
    assert (told["total"], told["complete"], told["next_cursor"]) == (9, True, None)
    assert {(job["user"], job["partition"]) for job in told["jobs"]} == {("root", "debug"), ("root", "idle")}
    (suspended,) = [job for job in told["jobs"] if job["phase"] == "suspended"]
    assert (suspended["id"], suspended["state"], suspended["nodes"]) == ("11_1", "SUSPENDED", "n1")
    assert (suspended["node_count"], suspended["cpus"], suspended["memory_bytes"]) == (1, 1, 100 * 2**20)
    assert [job["reason"] for job in told["jobs"] if job["id"] == "23"] == ["JobHeldUser"]
    assert [job["expected_start"][:4] for job in told["jobs"] if job["id"] == "9"] == ["2026"]


async def test_cluster_is_told_in_numbers(lab: Lab) -> None:
    told = await lab.told()

    assert (told["kind"], told["enabled"], told["trouble"]) == ("slurm", True, None)
    assert (told["nodes"], told["nodes_up"], told["cpus"], told["gpus"]) == (3, 2, 12, 6)
    assert (told["jobs_running"], told["jobs_waiting"]) == (0, 8)


async def test_answers_are_as_described(lab: Lab) -> None:
    document = openapi_document(ROUTES)

    for path in ("", "/{name}", "/{name}/partitions", "/{name}/nodes", "/{name}/jobs"):
        answer = await lab.api.get(CLUSTER + path.format(name="lab"))
        responses = document["paths"][CLUSTER + path]["get"]["responses"]
        schema = responses["200"]["content"]["application/json"]["schema"]
        validator = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
        validator.validate(answer.json)


async def test_many_who_ask_are_one_question(lab: Lab) -> None:
    await asyncio.gather(*(lab.told("/jobs") for _ in range(8)))
    await lab.told("/jobs?limit=1")
    await lab.told()

    assert lab.programs.calls("squeue") == 1
    assert lab.programs.calls("sinfo") == 1


async def test_what_was_told_is_asked_for_anew_when_it_is_old(lab: Lab) -> None:
    first = await lab.told("/jobs")
    lab.programs.answer("squeue", squeue(("7", "new")))
    lab.now_s = KEEP_S - 1

    remembered = await lab.told("/jobs")
    lab.now_s = KEEP_S
    anew = await lab.told("/jobs")

    assert remembered == {**first, "age_s": KEEP_S - 1}
    assert ([job["id"] for job in anew["jobs"]], anew["age_s"]) == (["7"], 0.0)


async def test_scheduler_that_does_not_answer_is_told_with_what_was_known(lab: Lab) -> None:
    before = await lab.told("/jobs?limit=2")
    lab.programs.answer("squeue", AWAY)
    lab.now_s = 100.0

    answer = await lab.get("/jobs?limit=2")

    assert "Unable to contact slurm controller" in answer.problem(503, "cluster_unavailable")
    assert answer.json["last"] == {**before, "age_s": 100.0}
    assert answer.headers["Retry-After"]


async def test_scheduler_that_never_answered_is_told_without_more(lab: Lab) -> None:
    lab.programs.answer("sinfo", AWAY)

    answer = await lab.get("/nodes")

    answer.problem(503, "cluster_unavailable")
    assert "last" not in answer.json


async def test_scheduler_that_does_not_answer_is_left_alone_for_a_moment(lab: Lab) -> None:
    lab.programs.answer("squeue", AWAY)
    await lab.get("/jobs")
    become_slurm(lab.programs)
    lab.now_s = PAUSE_S - 1

    await lab.get("/jobs")
    calls = lab.programs.calls("squeue")
    lab.now_s = PAUSE_S
    answer = await lab.get("/jobs")

    assert (calls, answer.status) == (1, 200)


async def test_program_that_is_not_there_is_named(lab: Lab) -> None:
    (lab.programs.directory / "sinfo").unlink()

    answer = await lab.get("/partitions")

    assert "sinfo: not found" in answer.problem(503, "cluster_unavailable")


async def test_listing_that_is_too_large_is_no_listing(lab: Lab) -> None:
    lab.programs.answer("squeue", Answer(0, "x" * (OUTPUT_MAX_BYTES + 1)))

    answer = await lab.get("/jobs")

    assert f"more than {OUTPUT_MAX_BYTES} bytes" in answer.problem(503, "cluster_unavailable")


async def test_part_of_a_listing_is_told_as_a_part(lab: Lab) -> None:
    whole = squeue(("1", "a"), ("2", "b"))
    lab.programs.answer("squeue", Answer(0, whole.stdout[:-20]))

    told = await lab.told("/jobs")

    assert ([job["id"] for job in told["jobs"]], told["complete"]) == (["1"], False)
    assert told["why"]


async def test_jobs_come_in_pages_from_which_nobody_is_missing(lab: Lab) -> None:
    ids = ["2", "10_1", "10_9", "10_10", "11", "100"]
    lab.programs.answer("squeue", squeue(*((id_, "job") for id_ in reversed(ids))))

    pages = [await lab.told("/jobs?limit=2")]
    # The last one of that page ends, and is not listed any more.
    lab.programs.answer("squeue", squeue(*((id_, "job") for id_ in ids if id_ != "10_1")))
    lab.now_s = KEEP_S
    while pages[-1]["next_cursor"] is not None:
        pages.append(await lab.told(f"/jobs?limit=2&cursor={pages[-1]['next_cursor']}"))

    assert [[job["id"] for job in page["jobs"]] for page in pages] == [ids[:2], ids[2:4], ids[4:]]
    assert [page["total"] for page in pages] == [6, 5, 5]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("user=ada", ["1"]),
        ("partition=short", ["2"]),
        ("user=ada&partition=short", []),
        ("phase=pending", ["1", "2"]),
        ("phase=running,suspended", []),
    ],
)
async def test_jobs_are_selected(lab: Lab, query: str, ids: list[str]) -> None:
    both = (squeue(("1", "a")).stdout, squeue(("2", "b"), user="bob", partition="short").stdout)
    lab.programs.answer("squeue", Answer(0, "".join(both)))

    told = await lab.told(f"/jobs?{query}")

    assert ([job["id"] for job in told["jobs"]], told["total"]) == (ids, len(ids))


@pytest.mark.parametrize(
    ("query", "field"),
    [("phase=ended", "phase[0]"), ("limit=0", "limit"), ("limit=1001", "limit"), ("state=R", "state")],
)
async def test_selection_that_does_not_fit_is_refused(lab: Lab, query: str, field: str) -> None:
    (await lab.get(f"/jobs?{query}")).problem(422, "invalid_request", field)
    assert not lab.programs.calls("squeue")


async def test_names_that_are_no_text_do_no_harm(lab: Lab) -> None:
    lab.programs.answer("squeue", squeue(("1", "\udcff\x1b[2J")))

    (job,) = (await lab.told("/jobs"))["jobs"]

    assert job["name"] == "\ufffd\x1b[2J"


async def test_site_that_gets_no_jobs_can_be_looked_at(lab: Lab) -> None:
    await put(lab.api, "lab", kind="slurm", enabled=False)

    told = await lab.told()

    assert (told["enabled"], told["nodes"]) == (False, 3)


async def test_site_that_became_another_one_is_asked_itself(lab: Lab) -> None:
    await lab.told("/nodes")

    await put(lab.api, "lab", kind="shell")

    assert [node["state"] for node in (await lab.told("/nodes"))["nodes"]] == ["up"]
    assert (await lab.told("/partitions"))["partitions"] == []


async def test_this_machine_is_a_site_of_one_machine(lab: Lab) -> None:
    (node,) = (await lab.api.get(f"{CLUSTER}/local/nodes")).json["nodes"]
    told = (await lab.api.get(f"{CLUSTER}/local")).json

    machine = lab.api.manager.dispatcher.admission.machine
    assert (node["name"], node["cpus"]) == (lab.api.manager.parts.service, machine.cpus)
    assert (told["nodes"], told["cpus"], told["jobs_running"]) == (1, machine.cpus, 0)
    assert (await lab.api.get(f"{CLUSTER}/local/partitions")).json["partitions"] == []
    (await lab.api.get(f"{CLUSTER}/local/jobs")).problem(422, "invalid_request", "name")


async def test_site_that_is_not_there_is_named(lab: Lab) -> None:
    for path in ("", "/partitions", "/nodes", "/jobs"):
        assert "'nope'" in (await lab.api.get(f"{CLUSTER}/nope{path}")).problem(404, "site_not_found")


async def test_all_sites_are_told_also_if_one_does_not_answer(lab: Lab) -> None:
    become_lsf(lab.programs)
    lab.programs.answer(
        "bhosts", Answer(255, "", "LSF is down. Please wait ...\nbatch daemon not responding\n")
    )
    await put(lab.api, "far", kind="lsf")

    clusters = {each["site"]: each for each in (await lab.api.get(CLUSTER)).json["clusters"]}

    assert list(clusters) == ["far", "lab", "local"]
    assert (clusters["far"]["nodes"], clusters["far"]["jobs_running"]) == (None, 2)
    assert "batch daemon not responding" in clusters["far"]["trouble"]
    assert (clusters["lab"]["nodes"], clusters["lab"]["trouble"]) == (3, None)


async def test_what_was_told_before_is_shown_while_a_newer_answer_is_waited_for(lab: Lab) -> None:
    recall = lab.api.manager.parts.recall = Recall(lambda: lab.now_s, patience_s=0.05)
    before = await lab.told("/nodes")
    lab.now_s = KEEP_S + 10
    answer = lab.programs.hang("sinfo")

    silent = await lab.get("/nodes")
    await asyncio.to_thread(answer.write_text, "now\n")

    assert "still waited for" in silent.problem(503, "cluster_unavailable")
    assert silent.json["last"] == {**before, "age_s": KEEP_S + 10}

    async def is_newer() -> bool:
        return (await lab.get("/nodes")).status == 200

    await eventually(is_newer)
    assert (await lab.told("/nodes"))["age_s"] == 0.0
    await recall.close()


async def test_schedulers_that_are_installed_are_found(lab: Lab) -> None:
    become_pbs(lab.programs)

    found = (await lab.api.get(CLUSTER)).json["installed"]

    assert found == [
        {"kind": "slurm", "version": "slurm-wlm 22.05.8"},
        {"kind": "pbs", "version": "PBS 23.06.06"},
    ]


async def test_pbs_tells_queues_machines_and_jobs(lab: Lab) -> None:
    become_pbs(lab.programs)
    await put(lab.api, "lab", kind="pbs")

    (job,) = (await lab.told("/jobs"))["jobs"]
    queues = (await lab.told("/partitions"))["partitions"]
    nodes = (await lab.told("/nodes"))["nodes"]

    assert (job["user"], job["partition"], job["phase"]) == ("pbsuser", "workq", "running")
    assert [queue["name"] for queue in queues if queue["is_default"]] == ["workq"]
    assert nodes


async def test_lsf_tells_queues_machines_and_jobs(lab: Lab) -> None:
    become_lsf(lab.programs)
    await put(lab.api, "lab", kind="lsf")

    jobs = (await lab.told("/jobs"))["jobs"]
    queues = (await lab.told("/partitions"))["partitions"]
    nodes = (await lab.told("/nodes"))["nodes"]

    assert [job["id"] for job in jobs] == ["20", "21", "27[3]", "27[4]", "27[5]", "28[9]"]
    assert {(job["user"], job["partition"]) for job in jobs} == {("lsfuser", "quick"), ("lsfuser", "normal")}
    assert [queue["name"] for queue in queues if queue["is_default"]] == ["normal"]
    assert nodes


@pytest.fixture
def real_slurm(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """What is started after this finds a real SLURM."""
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm.environment[name])
    return slurm


async def test_real_slurm_tells_all_and_when_a_job_starts(real_slurm: Slurm, api: Api) -> None:
    await put(api, "lab", kind="slurm")
    later = {"partition": "short", "directives": ["--begin=now+1hour"]}
    job_id = await api.submit("true", site="lab", resources=later)

    async def reason() -> Any:
        (found,) = (await api.get(f"/api/v1/jobs/{job_id}/why")).json["reasons"]
        return found if found.get("expected_start") else None

    why = await eventually(reason)
    handle = (await api.manager.get(job_id)).handle
    told = {what: (await api.get(f"{CLUSTER}/lab/{what}")).json for what in ("partitions", "nodes", "jobs")}
    await api.post(f"/api/v1/jobs/{job_id}/cancel")
    await api.manager.wait(job_id, 60)

    assert "BeginTime" in why["message"]
    assert "it is expected to start at " in why["message"]
    start = datetime.fromisoformat(why["expected_start"]) - datetime.now(UTC)
    assert timedelta(minutes=50) < start < timedelta(minutes=61)
    assert {node["name"] for node in told["nodes"]["nodes"]} == set(NODES)
    assert [each["name"] for each in told["partitions"]["partitions"] if each["is_default"]] == ["debug"]
    (ours,) = [job for job in told["jobs"]["jobs"] if job["id"] == handle]
    assert (ours["user"], ours["partition"], ours["phase"]) == ("root", "short", "pending")
    assert ours["expected_start"] == why["expected_start"]

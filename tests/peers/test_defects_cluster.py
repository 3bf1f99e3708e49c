"""What PyEDB's job manager did wrong with clusters, and what happens here, with a real SLURM.

The numbers are those of docs/from-pyedb.md.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobmgr.compat.pyedb import SchedulerManager, SchedulerType
from jobmgr.dialects.dialect import Answer
from tests.api.conftest import Api
from tests.dialects import recording
from tests.patience import eventually
from tests.peers.asking import RAN, kinds, run, shown, submit, until
from tests.peers.conftest import project
from tests.programs import Programs, become_ibm_lsf
from tests.slurm import Slurm

# A job of a partition that is down stands in the queue of its scheduler.
STANDING: dict[str, Any] = {
    "scheduler_type": "slurm",
    "scheduler_options": {"queue": "shut", "memory": "100MB"},
}
PROMPT: dict[str, Any] = {
    "scheduler_type": "slurm",
    "scheduler_options": {"queue": "debug", "memory": "100MB"},
}

pytestmark = pytest.mark.usefixtures("ansys")


@pytest.fixture
def at_slurm(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """What is started after this sees the SLURM of the tests."""
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm.environment[name])
    return slurm


@pytest.fixture
def lsf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """The programs of IBM's LSF; what is started after this sees no others."""
    programs = Programs(tmp_path / "programs")
    become_ibm_lsf(programs)
    monkeypatch.setenv("PATH", str(programs.directory))
    return programs


@pytest.fixture
def cluster(at_slurm: Slurm, api: Api) -> Iterator[Api]:
    """A service on a machine with SLURM; nothing of it stays there."""
    yield api
    at_slurm.run(["scancel", "--partition=shut"])


async def test_03_a_job_that_is_scheduled_is_submitted_once(
    cluster: Api, at_slurm: Slurm, tmp_path: Path
) -> None:
    file = project(tmp_path / "a.aedt")
    job_id = await submit(cluster, file, jobid="array_3", **STANDING)
    first = await until(cluster, job_id, "scheduled")

    again = await submit(cluster, file, jobid="array_3", **STANDING)
    # Whatever is due is looked at before this one ends.
    await run(cluster, project(tmp_path / "b.aedt"))

    assert again == job_id
    assert len((await cluster.get(f"/api/v1/jobs/{job_id}/attempts")).json["attempts"]) == 1
    assert at_slurm.say("squeue", "--noheader", "--partition=shut", "--format=%i").split() == [
        first["scheduler_job_id"]
    ]
    assert (await shown(cluster, job_id))["scheduler_job_id"] == first["scheduler_job_id"]


async def test_16_what_sbatch_refuses_has_failed_with_its_words(cluster: Api, tmp_path: Path) -> None:
    options = {"queue": "nosuch", "memory": "100MB"}

    job = await run(cluster, project(tmp_path / "a.aedt"), scheduler_type="slurm", scheduler_options=options)

    seen = await shown(cluster, job.job_id)
    assert (seen["status"], seen["scheduler_job_id"]) == ("failed", None)
    assert job.error is not None
    assert "nosuch" in job.error.message or "artition" in job.error.message


async def test_17_a_job_that_failed_in_slurm_has_failed_here(cluster: Api, tmp_path: Path) -> None:
    job = await run(cluster, project(tmp_path / "a.aedt", "exit 9"), **PROMPT)

    seen = await shown(cluster, job.job_id)
    assert (seen["status"], seen["return_code"]) == ("failed", 9)
    assert seen["start_time"] < seen["end_time"]


async def test_18_each_end_in_slurm_is_seen_and_not_guessed_from_a_log(cluster: Api, tmp_path: Path) -> None:
    files = [project(tmp_path / f"{name}.aedt", "echo error: failed; exit 0") for name in ("a", "b")]

    ids = [await submit(cluster, file, **PROMPT) for file in files]
    jobs = await cluster.manager.wait_many(ids, 60)

    assert [(job.status, job.exit_code) for job in jobs] == [("completed", 0)] * 2


async def test_19_a_job_that_is_scheduled_is_cancelled_in_slurm_too(
    cluster: Api, at_slurm: Slurm, tmp_path: Path
) -> None:
    job_id = await submit(cluster, project(tmp_path / "a.aedt", RAN), **STANDING)
    number = (await until(cluster, job_id, "scheduled"))["scheduler_job_id"]

    answer = await cluster.post(f"/jobs/{job_id}/cancel")
    job = await cluster.manager.wait(job_id, 60)

    assert (answer.status, answer.json["success"], job.status) == (200, True, "cancelled")
    # Once its gate is shut it has ended for everybody; the scheduler is told then.
    await eventually(lambda: "CANCELLED" in at_slurm.say("scontrol", "show", "job", number))
    assert not (tmp_path / "ran").exists()


async def test_20_a_job_that_was_handed_in_has_not_ended(cluster: Api, tmp_path: Path) -> None:
    job_id = await submit(cluster, project(tmp_path / "a.aedt"), **STANDING)

    standing = await until(cluster, job_id, "scheduled")

    assert (standing["end_time"], standing["return_code"]) == (None, None)
    assert standing["scheduler_job_id"].isdigit()
    assert {"completed", "failed", "cancelled"}.isdisjoint(await kinds(cluster, job_id))
    await cluster.post(f"/jobs/{job_id}/cancel")
    await cluster.manager.wait(job_id, 60)


@pytest.fixture
def stuck(at_slurm: Slurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory where `called` appears when sbatch was called, which goes on when `go` is there."""
    programs = tmp_path / "programs"
    programs.mkdir()
    sbatch = at_slurm.say("sh", "-c", "command -v sbatch").strip()
    (programs / "sbatch").write_text(
        f"#!/bin/sh\ncase $* in *--version*) exec {sbatch} --version ;; esac\n"
        f"touch '{tmp_path}/called'; until [ -e '{tmp_path}/go' ]; do sleep 0.05; done\nexec {sbatch} \"$@\"\n"
    )
    (programs / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return tmp_path


async def test_21_the_service_answers_while_sbatch_hangs(stuck: Path, api: Api) -> None:
    job_id = await submit(api, project(stuck / "a.aedt"), **PROMPT)
    await eventually((stuck / "called").exists)

    meanwhile = (await api.get("/queue")).status
    (stuck / "go").touch()
    job = await api.manager.wait(job_id, 60)

    assert (meanwhile, job.status) == (200, "completed")


async def test_26_a_job_that_is_just_being_handed_in_can_be_cancelled(stuck: Path, api: Api) -> None:
    job_id = await submit(api, project(stuck / "a.aedt", RAN), **PROMPT)
    await eventually((stuck / "called").exists)

    answer = await api.post(f"/jobs/{job_id}/cancel")
    (stuck / "go").touch()
    job = await api.manager.wait(job_id, 60)

    assert (answer.status, answer.json["success"], job.status) == (200, True, "cancelled")
    assert not (stuck / "ran").exists()


async def test_22_a_scheduler_has_no_more_jobs_of_ours_than_its_site_allows(
    cluster: Api, tmp_path: Path
) -> None:
    site = {"kind": "slurm", "max_submitted": 1}
    assert (await cluster.request("PUT", "/api/v1/sites/slurm", json=site)).status == 200
    first = await submit(cluster, project(tmp_path / "a.aedt"), **STANDING)
    await until(cluster, first, "scheduled")

    second = await submit(cluster, project(tmp_path / "b.aedt"), **STANDING)
    # Whatever is due is looked at before this one ends.
    await run(cluster, project(tmp_path / "c.aedt"))

    await cluster.post(f"/jobs/{first}/cancel")
    await until(cluster, second, "scheduled")

    assert await when(cluster, first, "cancelled") < await when(cluster, second, "claimed")
    await cluster.post(f"/jobs/{second}/cancel")
    await cluster.manager.wait(second, 60)


async def when(service: Api, job_id: str, kind: str) -> float:
    """The place of what happened to a job among all events; behind all of them if it did not."""
    events = (await service.get(f"/api/v1/jobs/{job_id}/events")).json["events"]
    return next((float(event["seq"]) for event in events if event["kind"] == kind), math.inf)


async def test_23_memory_is_read_as_lsf_writes_it_and_a_dash_is_unknown(lsf: Programs) -> None:
    written = {"251.8 Gbytes": 251.8, "251.8G": 251.8, "-": None}
    records = [
        {"JOBID": str(number), "STAT": "RUN", "JOB_NAME": "a", "MAX_MEM": memory}
        for number, memory in enumerate(written, 1)
    ]
    lsf.answer("bjobs", Answer(0, json.dumps({"RECORDS": records})), "-json")
    manager = SchedulerManager(SchedulerType.LSF)

    jobs = await manager.get_jobs()
    machines = [await machine_told(lsf, manager, memory) for memory in ("251.8G", "-")]

    assert [job["memory_gb"] for job in jobs] == pytest.approx(list(written.values()))
    assert machines == pytest.approx([251.8, None])


async def machine_told(lsf: Programs, manager: SchedulerManager, memory: str) -> float | None:
    """How much memory each queue has, if LSF writes that of its machine so."""
    host = recording.answer("lsf", "lshosts_w")
    lsf.answer("lshosts", replace(host, stdout=host.stdout.replace("24105M", memory)))
    memory_gb: float | None
    (memory_gb,) = {queue["mem_total_gb"] for queue in await manager.get_partitions()}
    return memory_gb

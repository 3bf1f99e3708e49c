"""The machine, its queue and limits, its scheduler, as pyedb's clients read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest

from jobmgr.api.pyedb.cluster import partition_shown
from jobmgr.dialects.dialect import Node, Partition
from tests.api.conftest import Api
from tests.api.pyedb.conftest import Lab, refused
from tests.dialects import recording
from tests.programs import Programs, become_lsf, become_pbs, become_slurm

WORKQ = Partition("workq", is_default=True, is_up=True, max_walltime_s=None, nodes=None, cpus=None)
MACHINE = Node("n1", "free", is_up=True, cpus=8, cpus_used=5, memory_bytes=2**30, gpus=None, partitions=())
RESOURCES = {
    "cpu_percent",
    "memory_percent",
    "memory_used_gb",
    "memory_total_gb",
    "memory_free_gb",
    "disk_usage_percent",
    "disk_free_gb",
    "timestamp",
}


@pytest.mark.parametrize("path", ["/resources", "/api/resources"])
async def test_machine_is_told(api: Api, path: str) -> None:
    told = (await api.get(path)).json

    assert told.keys() == RESOURCES
    assert 0 <= told["cpu_percent"] <= 100
    assert told["memory_used_gb"] + told["memory_free_gb"] == pytest.approx(told["memory_total_gb"], abs=0.01)
    assert datetime.fromisoformat(told["timestamp"]).utcoffset() is not None


async def test_machine_is_looked_at_once_for_many_who_ask(api: Api) -> None:
    told = [(await api.get("/resources")).json for _ in range(3)]

    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("path", ["/queue", "/api/queue"])
async def test_queue_is_counted_by_priority(lab: Lab, path: str) -> None:
    await lab.close()
    for number, priority in enumerate((0, 5, 5, -1)):
        await lab.submit(jobid=f"J{number}", beside={"priority": priority})

    told = (await lab.api.get(path)).json

    assert told == {
        "total_queued": 4,
        "regular_queue_size": 1,
        "priority_queues": {"5": 2, "-1": 1},
        "running_jobs": 0,
        "max_concurrent": 2,
    }


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_limits_are_answered_as_clients_and_as_documents_have_them(api: Api, method: str) -> None:
    answer = await api.request(method, "/pool/limits", json={"max_concurrent_jobs": 4})

    limits = {
        "max_concurrent_jobs": 4,
        "max_cpu_percent": None,
        "min_memory_gb": None,
        "min_disk_gb": None,
    }
    message = "Concurrent job limits updated successfully"
    assert (answer.status, answer.json) == (
        200,
        {**limits, "success": True, "message": message, "limits": limits},
    )
    assert (await api.get("/pool/limits")).json == limits == (await api.get("/api/v1/limits")).json


@pytest.mark.parametrize(
    ("change", "field"),
    [({"max_concurrent_jobs": 4, "max_cpu_percent": 101}, "max_cpu_percent"), ({}, None)],
)
async def test_limits_that_make_no_sense_change_nothing(api: Api, change: object, field: str | None) -> None:
    before = (await api.get("/pool/limits")).json

    error = refused(await api.request("PUT", "/pool/limits", json=change), 400, "invalid_request", field)

    assert field is not None or error.startswith("No data provided")
    assert (await api.get("/pool/limits")).json == before


@pytest.mark.usefixtures("programs")
async def test_service_without_a_scheduler_says_so(api: Api) -> None:
    status = (await api.get("/system/status")).json

    assert (await api.get("/api/scheduler_type")).json == {"scheduler_type": "none"}
    assert (await api.get("/api/cluster_partitions")).json == []
    assert refused(await api.get("/scheduler/partitions"), 400, "invalid_request").startswith(
        "Scheduler not supported"
    )
    assert (status["mode"], status["scheduler_detection"]["active_scheduler"]) == ("none", "NONE")
    assert status["resource_monitoring"].keys() == RESOURCES | {"active", "last_update"}
    assert status["local_pool"] == {"running_jobs": 0, "queued_jobs": 0, "max_concurrent": 2}


async def test_scheduler_of_this_machine_is_found_and_tells_its_partitions(
    programs: Programs, api: Api
) -> None:
    become_slurm(programs)

    before = (await api.get("/api/v1/sites")).json
    told = (await api.get("/scheduler/partitions")).json

    assert (await api.get("/api/v1/sites")).json == before
    assert told == (await api.get("/api/cluster_partitions")).json
    (debug,) = [each for each in told if each["name"] == "debug"]
    assert (debug["nodes_total"], debug["cores_total"]) == (2, 8)
    assert debug["nodes_used"] <= 2
    assert 0 <= debug["cores_used"] <= 8
    assert debug["memory_total_gb"] == debug["mem_total_gb"] >= debug["memory_used_gb"] > 0
    assert (await api.get("/api/scheduler_type")).json == {"scheduler_type": "slurm"}
    assert (await api.get("/system/status")).json["mode"] == "slurm"


def become_busy_pbs(programs: Programs) -> None:
    become_pbs(programs)
    programs.answer("pbsnodes", recording.answer("pbs", "pbsnodes_a_busy"))


@pytest.mark.parametrize(
    ("become", "partition", "cores_total", "cores_used", "memory_bytes"),
    [(become_lsf, "normal", 4, 1, 24105 * 2**20), (become_busy_pbs, "workq", 8, 5, 24684084 * 2**10)],
)
async def test_machines_that_are_bound_to_no_queue_count_for_each(
    programs: Programs,
    api: Api,
    become: Callable[[Programs], None],
    partition: str,
    cores_total: int,
    cores_used: int,
    memory_bytes: int,
) -> None:
    become(programs)

    told = (await api.get("/scheduler/partitions")).json

    (found,) = [each for each in told if each["name"] == partition]
    memory_gb = memory_bytes / 2**30
    assert found == {
        "name": partition,
        "nodes_total": 1,
        "nodes_used": 1,
        "cores_total": cores_total,
        "cores_used": cores_used,
        "memory_total_gb": memory_gb,
        "memory_used_gb": memory_gb,
        "mem_total_gb": memory_gb,
        "mem_used_gb": memory_gb,
    }
    assert len(told) == 6
    assert all({**each, "name": partition} == found for each in told)


def test_what_no_machine_tells_is_null() -> None:
    told = partition_shown(WORKQ, [replace(MACHINE, cpus_used=None, memory_bytes=None)])

    assert (told.nodes_total, told.cores_total) == (1, 8)
    assert (told.nodes_used, told.cores_used, told.memory_total_gb, told.memory_used_gb) == (None,) * 4


def test_machines_that_are_bound_to_a_queue_are_those_of_that_queue() -> None:
    bound = replace(MACHINE, cpus=2, cpus_used=0, partitions=("workq",))

    shown = [partition_shown(each, [MACHINE, bound]) for each in (WORKQ, replace(WORKQ, name="small"))]
    left = partition_shown(replace(WORKQ, name="small"), [bound])

    assert [(each.nodes_total, each.cores_total, each.cores_used) for each in shown] == [(1, 2, 0), (1, 8, 5)]
    assert (left.nodes_total, left.nodes_used, left.memory_total_gb, left.memory_used_gb) == (0, 0, 0, 0)


async def test_status_has_the_limits_too(api: Api) -> None:
    changed = {"max_concurrent_jobs": 3, "max_cpu_percent": 75.0, "min_memory_gb": 4.0, "min_disk_gb": 20.0}
    await api.request("PUT", "/pool/limits", json=changed)

    told = (await api.get("/system/status")).json

    assert told["limits"] == changed
    assert told["local_pool"]["max_concurrent"] == 3


async def test_who_jobs_belong_to_is_told(api: Api) -> None:
    assert (await api.get("/api/me")).json == {"username": api.manager.user}


async def test_machine_is_always_watched(api: Api) -> None:
    answer = await api.post("/system/start_monitoring")

    assert answer.json == {"success": True, "message": "Resource monitoring already active"}

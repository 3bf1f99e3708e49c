"""What pyedb's Socket.IO clients are told, field by field."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest_asyncio

from tests.api.conftest import eventually
from tests.api.pyedb.conftest import Lab
from tests.api.pyedb.test_machine import RESOURCES
from tests.api.test_sockets import Listener


@pytest_asyncio.fixture
async def listener(lab: Lab) -> AsyncIterator[Listener]:
    found = Listener()
    await found.client.connect(lab.api.url, transports=["websocket"])
    yield found
    await found.client.disconnect()


async def test_run_is_told_as_in_pyedb(lab: Lab, listener: Listener) -> None:
    (lab.project.parent / "code").write_text("3")
    await lab.submit(beside={"priority": 4})

    told = dict(await listener.of("J1", "job_completed"))

    assert list(told) == ["job_queued", "job_started", "job_completed"]
    assert (told["job_queued"]["priority"], told["job_queued"]["queue_position"] >= 1) == (4, True)
    started, ended = told["job_started"], told["job_completed"]
    assert started["resources"].keys() == RESOURCES
    assert started["scheduler_job_id"] is ended["scheduler_job_id"] is None
    assert (ended["status"], ended["return_code"]) == ("failed", 3)
    begin, end = (datetime.fromisoformat(text) for text in (started["start_time"], ended["end_time"]))
    assert begin <= end
    assert started["start_time"].endswith("+00:00")


async def test_place_in_the_queue_is_how_many_wait_there(lab: Lab, listener: Listener) -> None:
    await lab.close()
    for job_id in ("J1", "J2", "J3"):
        await lab.submit(jobid=job_id)

    ((_, last),) = await listener.of("J3", "job_queued")

    assert last["queue_position"] == 3


async def test_cancelled_run_is_told_to_be_ending_and_cancelled(lab: Lab, listener: Listener) -> None:
    lab.becomes("exec sleep 1000")
    await lab.submit()
    await listener.of("J1", "job_started")
    await lab.api.post("/jobs/J1/cancel")

    told = await listener.of("J1", "job_cancelled")

    assert [name for name, _ in told] == ["job_queued", "job_started", "job_cancelling", "job_cancelled"]
    assert told[-1][1]["status"] == "cancelled"


async def test_changed_priority_is_told(lab: Lab, listener: Listener) -> None:
    await lab.close()
    await lab.submit()
    await lab.api.post("/jobs/J1/priority", json={"priority": 9})

    told = await listener.of("J1", "job_priority")

    assert told[-1] == (
        "job_priority",
        {"job_id": "J1", "status": "queued", "priority": 9, "effective": True},
    )


async def test_priority_of_a_running_job_is_told_to_change_nothing(lab: Lab, listener: Listener) -> None:
    lab.becomes("exec sleep 1000")
    await lab.submit()
    await listener.of("J1", "job_started")
    await lab.api.post("/jobs/J1/priority", json={"priority": 9})

    _, data = (await listener.of("J1", "job_priority"))[-1]

    assert (data["status"], data["effective"]) == ("running", False)


async def test_limits_are_told_with_those_that_changed(lab: Lab, listener: Listener) -> None:
    await lab.api.request("PUT", "/pool/limits", json={"max_concurrent_jobs": 5})

    async def told() -> Any:
        return [data for name, data in listener.messages if name == "limits_updated"]

    new = {"max_concurrent_jobs": 5, "max_cpu_percent": None, "min_memory_gb": None, "min_disk_gb": None}
    assert await eventually(told) == [{"old_limits": {"max_concurrent_jobs": 2}, "new_limits": new}]

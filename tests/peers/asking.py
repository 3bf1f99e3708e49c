"""Simulations as the original's clients ask for them, over its own routes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobmgr.domain.job import Job
from tests.api.conftest import TIMEOUT_S, Api
from tests.patience import eventually

# What projects do; see the stand-in for the solver.
HERE = '"$(dirname "$project")"'
RAN = f"echo >>{HERE}/ran\n"
# Runs until the test says so; tells first that it has begun.
WAIT = f"touch {HERE}/begun; until [ -e {HERE}/go ]; do sleep 0.05; done\n"


async def put_limits(service: Api, **limits: object) -> None:
    answer = await service.request("PUT", "/pool/limits", json=limits)
    assert (answer.status, answer.json["success"]) == (200, True), answer


async def submit(
    service: Api, file: Path, priority: int = 0, *, queue: str | None = None, **config: Any
) -> str:
    """Submit as the original's clients do; the job's id. They know no queues."""
    asked = {"config": {"project_path": str(file), **config}, "priority": priority}
    asked |= {} if queue is None else {"queue": queue}
    answer = await service.post("/jobs/submit", json=asked)
    assert (answer.status, answer.json["success"]) == (200, True), answer
    return str(answer.json["job_id"])


async def run(service: Api, file: Path, **config: Any) -> Job:
    """Submit it and wait for its end."""
    return await service.manager.wait(await submit(service, file, **config), TIMEOUT_S)


async def shown(service: Api, job_id: str) -> dict[str, Any]:
    """The job as the original's list of jobs shows it."""
    jobs = (await service.get("/api/jobs")).json
    (found,) = [job for job in jobs if job["id"] == job_id]
    assert isinstance(found, dict)
    return found


async def until(service: Api, job_id: str, status: str) -> dict[str, Any]:
    """The job as it is shown once it has that status."""

    async def look() -> dict[str, Any] | None:
        job = await shown(service, job_id)
        return job if job["status"] == status else None

    job = await eventually(look, timeout_s=60)
    assert isinstance(job, dict)
    return job


async def begun(directory: Path) -> None:
    """The project there that waits is running."""

    await eventually((directory / "begun").exists)


def times_run(directory: Path) -> int:
    """How often the projects there ran."""
    return (directory / "ran").read_text().count("\n")


async def kinds(service: Api, job_id: str) -> list[str]:
    """What happened to a job."""
    events = (await service.get(f"/api/v1/jobs/{job_id}/events")).json["events"]
    return [event["kind"] for event in events]

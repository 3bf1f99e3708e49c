"""A service as pyedb's clients meet it: a project, and a stand-in for the program that solves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Answer, Api
from tests.hfss.installed import install
from tests.programs import Programs


@dataclass(frozen=True, slots=True)
class Lab:
    """The service, and what a configuration for it needs."""

    api: Api
    program: str
    project: Path

    def config(self, **fields: Any) -> dict[str, Any]:
        """A configuration as clients send it."""
        return {"ansys_edt_path": self.program, "project_path": str(self.project), "jobid": "J1", **fields}

    def becomes(self, body: str) -> None:
        """Let the program be this shell text."""
        Path(self.program).write_text(f"#!/bin/sh\n{body}\n")

    async def submit(
        self, path: str = "/jobs/submit", *, beside: Mapping[str, Any] | None = None, **fields: Any
    ) -> Answer:
        """Post a configuration, and what stands beside it."""
        return await self.api.post(path, json={"config": self.config(**fields), **(beside or {})})

    async def close(self, queue: str = "default") -> None:
        """Let nothing start."""
        await self.api.patch(f"/api/v1/queues/{queue}", json={"paused": True})

    async def shown(self, job_id: str = "J1") -> dict[str, Any]:
        """The job as it is listed."""
        (job,) = [job for job in (await self.api.get("/jobs")).json if job["id"] == job_id]
        assert isinstance(job, dict)
        return job

    async def ended(self, job_id: str = "J1") -> dict[str, Any]:
        """The same after its end."""
        await self.api.manager.wait(job_id, 30)
        return await self.shown(job_id)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """The only programs that a service finds that is started after this."""
    found = Programs(tmp_path / "programs")
    monkeypatch.setenv("PATH", str(found.directory))
    return found


@pytest.fixture
def lab(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A service, a project, and an installed program that ends with what the file `code` beside the project says."""
    program = install(tmp_path / "v252", "echo solved; exit $(cat code)\n")
    monkeypatch.setenv("ANSYSEM_ROOT252", str(tmp_path / "v252"))
    project = tmp_path / "projects" / "a.aedt"
    project.parent.mkdir()
    project.write_text("")
    (project.parent / "code").write_text("0")
    return Lab(api, program, project)


def refused(answer: Answer, status: int, code: str, field: str | None = None) -> str:
    """Check that this is how pyedb's service refuses, with our code and field; answers its sentence."""
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json"), answer
    told = answer.json
    assert (told["success"], told["code"], told.get("field")) == (False, code, field), told
    error = told["error"]
    assert isinstance(error, str)
    assert len(error) > 10
    return error

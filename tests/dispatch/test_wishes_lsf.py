"""Priorities and reasons of jobs that wait in an LSF, as IBM documents it and as volclava answers."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from jobmgr.domain.status import Status
from jobmgr.service import JobManager
from jobmgr.wire.requests import SiteAsked
from tests import pretenders
from tests.dispatch.lab import is_now
from tests.patience import eventually


@dataclass(frozen=True, slots=True)
class Yard:
    """A service beside the scheduler that it hands jobs to."""

    manager: JobManager
    scheduler: Path

    async def submitted(self, **options: Any) -> str:
        """A job that waits in a queue which starts nothing."""
        job_id = await self.manager.submit(["true"], site="lab", resources={"partition": "onejob"}, **options)
        await eventually(lambda: is_now(self.manager, job_id, Status.SCHEDULED), timeout_s=60)
        return job_id

    def asked(self) -> Mapping[str, str]:
        """What is asked for the only job, by bsub's options."""
        (job,) = json.loads((self.scheduler / "jobs").read_text())
        found: Mapping[str, str] = job["asked"]
        return found

    async def says(self, job_id: str, code: str, words: str) -> bool:
        """Whether `why` has these words."""
        told = {reason.code: reason.message for reason in await self.manager.why(job_id)}
        return words in told.get(code, "")


@pytest_asyncio.fixture(params=["ibm", "classic"])
async def yard(
    request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Yard]:
    """An LSF whose users have priorities up to 100."""
    programs = pretenders.install(tmp_path / "scheduler", "lsf", request.param)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    async with JobManager(database=sqlite_url, work_dir=tmp_path / "work") as manager:
        await manager.put_site("lab", SiteAsked(kind="lsf"))
        yield Yard(manager, tmp_path / "scheduler")


async def test_why_a_job_waits_is_told_in_lsfs_words(yard: Yard) -> None:
    job_id = await yard.submitted()

    await eventually(
        lambda: yard.says(job_id, "scheduled", "The queue is inactivated by the administrator"), timeout_s=60
    )
    await yard.manager.hold(job_id)
    await eventually(
        lambda: yard.says(job_id, "held", "The job was suspended by the user while pending"), timeout_s=60
    )


async def test_priority_of_a_job_reaches_lsf_with_it_and_later(yard: Yard) -> None:
    job_id = await yard.submitted(priority=7)
    first = yard.asked()

    await yard.manager.set_priority(job_id, -5)

    await eventually(lambda: yard.asked()["-sp"] == "45", timeout_s=60)
    await eventually(lambda: _has_event(yard.manager, job_id, "prioritised"), timeout_s=60)
    assert first == {"-sp": "57"}


async def _has_event(manager: JobManager, job_id: str, kind: str) -> bool:
    return kind in [event.kind for event in await manager.job_events(job_id)]

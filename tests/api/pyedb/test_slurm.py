"""A simulation on a real SLURM, posted as pyedb's clients do, without a site that somebody added."""

from __future__ import annotations

import pytest

from tests.api.pyedb.conftest import Lab
from tests.api.pyedb.test_events import listener as listener  # noqa: PLC0414 -- a fixture
from tests.api.test_sockets import Listener
from tests.slurm import Slurm


@pytest.fixture
def real_slurm(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started after this finds a real SLURM."""
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm.environment[name])


@pytest.mark.usefixtures("real_slurm")
async def test_simulation_runs_in_slurm_and_is_told(lab: Lab, listener: Listener) -> None:
    lab.becomes('echo "$SLURM_JOB_PARTITION"; exit 4')
    options = {"queue": "debug", "time": "00:10:00", "memory": "100MB"}

    submitted = await lab.submit(scheduler_type="slurm", scheduler_options=options)
    job = await lab.ended()
    told = dict(await listener.of("J1", "job_completed"))

    assert submitted.json["success"] is True
    assert (job["site"], job["status"], job["return_code"]) == ("slurm", "failed", 4)
    assert job["scheduler_job_id"].isdigit()
    assert (await lab.api.get("/api/v1/jobs/J1/logs/stdout")).body == b"debug\n"
    assert list(told) == ["job_queued", "job_scheduled", "job_started", "job_completed"]
    for name in ("job_scheduled", "job_started", "job_completed"):
        assert told[name]["scheduler_job_id"] == job["scheduler_job_id"]
    assert told["job_completed"]["status"] == "failed"

"""How far simulations are, over REST."""

from __future__ import annotations

from pathlib import Path

from jobmgr.hfss import HFSSSimulationConfig
from tests.api.conftest import Api
from tests.hfss.installed import install, make_project


async def test_progress_of_what_has_none(api: Api, tmp_path: Path) -> None:
    edt = install(tmp_path / "v252", "exit 0")
    project = make_project(tmp_path / "antenna.aedt")
    silent = HFSSSimulationConfig(ansys_edt_path=edt, project_path=project, jobid="silent")
    await api.manager.simulate(silent)
    await api.manager.wait("silent", 30)
    job = await api.run("true")

    told = await api.get("/api/v1/jobs/silent/progress")

    assert (told.status, told.json) == (200, {"line": "", "log": None, "state": None})
    (await api.get(f"/api/v1/jobs/{job.job_id}/progress")).problem(404, "not_a_simulation")
    (await api.get("/api/v1/jobs/unknown/progress")).problem(404, "job_not_found")
    (await api.get("/api/v1/jobs/silent/progress?attempt=1")).problem(422, "invalid_request", "attempt")

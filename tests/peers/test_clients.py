"""The original's own client classes and helpers, unchanged, against our service; and what they are answered."""

from __future__ import annotations

from pathlib import Path

from tests.peers.conftest import Service, project
from tests.peers.original import Original

IMPORTS = """
import asyncio, json, sys
from pyedb.workflows.job_manager.backend.job_manager_handler import JobManagerHandler, get_session
from pyedb.workflows.job_manager.backend.job_submission import SchedulerType, create_hfss_config
from pyedb.workflows.job_manager.backend.service import submit_job_to_manager
"""


async def test_submit_job_to_manager_submits_and_runs_nothing_itself(
    original: Original, service: Service, tmp_path: Path
) -> None:
    # Of its own service the helper could make nothing, ran the simulation in the caller's process, and failed.
    file = project(tmp_path / "antenna.aedt", 'echo "$JOBMGR_JOB_ID" >>"$(dirname "$project")/ran"')

    answered = original.script(
        IMPORTS
        + """
config = create_hfss_config(project_path=sys.argv[2])
job_id = asyncio.run(submit_job_to_manager(config, priority=-3, manager_url=sys.argv[1]))
print(json.dumps([config.jobid, job_id]))
""",
        service.url,
        str(file),
    )

    (job,) = await service.jobs_of(file)
    assert answered == [job["id"], job["id"]]
    assert (job["status"], job["priority"]) == ("completed", -3)
    assert (tmp_path / "ran").read_text() == f"{job['id']}\n"


async def test_handler_makes_configurations_and_waits_for_their_jobs(
    original: Original, service: Service, tmp_path: Path
) -> None:
    # Both wait until the caller has begun to: it makes the file.
    script = 'until [ -e "$(dirname "$project")/go" ]; do sleep 0.05; done\n'
    files = [project(tmp_path / "good.aedt", script), project(tmp_path / "bad.aedt", f"{script}exit 3")]

    told = original.script(
        IMPORTS
        + """
import pathlib
url, *projects = sys.argv[1:]
host, port = url.removeprefix("http://").split(":")
handler = JobManagerHandler(host=host, port=int(port))
handler.started = True  # The service runs elsewhere.

async def submit():
    ids = []
    for project in projects:
        config = handler.create_simulation_config(
            project, scheduler_type=SchedulerType.NONE, cpu_cores=2, user="ann")
        async with get_session(handler.url) as session:
            posted = {"config": config.model_dump(mode="json")}
            async with session.post(f"{handler.url}/jobs/submit", json=posted) as answer:
                ids.append((await answer.json())["job_id"])
    return ids

ids = asyncio.run(submit())
pathlib.Path("go").touch()
ends = [handler.wait_until_done(job_id, poll_every=0.05) for job_id in ids]
handler.wait_until_all_done(poll_every=0.05)
print(json.dumps(ends))
""",
        service.url,
        *map(str, files),
    )

    assert told == ["completed", "failed"]
    jobs = {Path(job["config"]["project_path"]).name: job for job in await service.jobs_of(*files)}
    assert {name: (job["status"], job["return_code"]) for name, job in jobs.items()} == {
        "good.aedt": ("completed", 0),
        "bad.aedt": ("failed", 3),
    }
    assert jobs["good.aedt"]["config"]["user"] == "ann"
    assert jobs["good.aedt"]["config"]["machine_nodes"][0]["cores"] == 2

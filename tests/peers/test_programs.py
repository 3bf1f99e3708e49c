"""The original's own submit programs, unchanged, against our service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Commands, serving
from tests.peers.conftest import Service, errors, project
from tests.peers.original import Original
from tests.slurm import Slurm

TELL = 'printf "%s\\n" "$@" >"$(dirname "$project")/told"'


async def test_submit_local_job_runs_its_project(
    original: Original, service: Service, tmp_path: Path
) -> None:
    file = project(tmp_path / "antenna.aedt", TELL)

    done = original.program(
        "submit_local_job", *service.address, "--project-path", str(file), "--num-cores", "3"
    )

    assert (done.returncode, errors(done)) == (0, []), done
    assert "Job submit successful (status=200)" in done.stderr
    (job,) = await service.jobs_of(file)
    assert (job["status"], job["return_code"], job["scheduler_job_id"]) == ("completed", 0, None)
    assert job["config"]["machine_nodes"] == [
        {"hostname": "localhost", "cores": 3, "max_cores": 3, "utilization": 90}
    ]
    told = (tmp_path / "told").read_text().splitlines()
    assert told[:4] == ["-jobid", job["id"], "-machinelist", "list=localhost:3:3:90%"]
    assert told[-1] == str(file)


async def test_submit_job_on_scheduler_runs_its_project_in_slurm(
    original: Original, slurm: Slurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # It names no scheduler, and leaves that to the service. Its own default of the run limit, "unlimited", is refused
    # by its own options before anything is sent.
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm.environment[name])
    file = project(tmp_path / "array.aedt", TELL)
    home = tmp_path / "home"
    home.mkdir()
    asked = ("--partition", "debug", "--nodes", "2", "--cores-per-node", "2", "--run-limit", "0:10:00")

    with serving(Commands(home)) as url:
        service = Service(Commands(home), url)
        done = original.program(
            "submit_job_on_scheduler", *service.address, "--project-path", str(file), *asked
        )
        (job,) = await service.jobs_of(file)

    assert (done.returncode, errors(done)) == (0, []), done
    assert "Job submitted successfully (status=200)" in done.stderr
    assert (job["status"], job["return_code"]) == ("completed", 0), job
    shown = slurm.say("scontrol", "show", "job", job["scheduler_job_id"])
    for part in ("Partition=debug", "NumNodes=2", "NumTasks=4", "TimeLimit=00:10:00"):
        assert part in shown, shown
    assert (tmp_path / "told").read_text().splitlines()[:3] == ["-distributed", "-machinelist", "numcores=4"]


async def test_submit_batch_jobs_submits_a_folder_of_projects(
    original: Original, service: Service, tmp_path: Path
) -> None:
    root = tmp_path / "projects"
    both = project(root / "both.aedt")
    (root / "both.aedb").mkdir()
    single = project(root / "single.aedt", "exit 4")
    folder = root / "below" / "folder.aedb"
    folder.mkdir(parents=True)

    done = original.program(
        "submit_batch_jobs", *service.address, "--root-dir", str(root), "--recursive", "--delay-ms", "0", "-v"
    )

    assert (done.returncode, errors(done)) == (0, []), done
    assert [line.rpartition("- ")[2].strip() for line in done.stderr.splitlines()[-4:-1]] == [
        "Total projects: 3",
        "✓ Successful: 3",
        "✗ Failed: 0",
    ]
    jobs = await service.jobs_of(both, single, folder)
    assert [
        (Path(job["config"]["project_path"]).name, job["status"], job["return_code"]) for job in jobs
    ] == [
        ("folder.aedb", "completed", 0),
        ("both.aedt", "completed", 0),
        ("single.aedt", "failed", 4),
    ]


async def test_a_program_is_told_why_its_job_is_refused(
    original: Original, service: Service, tmp_path: Path
) -> None:
    # Its own check passes a name with a colon, which our command line has as a separator.
    file = project(tmp_path / "antenna.aedt")
    refused = original.script(
        """
        import asyncio, json, sys
        import aiohttp
        from pyedb.workflows.job_manager.backend.job_submission import create_hfss_config
        from pyedb.workflows.job_manager.backend.job_manager_handler import get_session

        async def main(url, project):
            config = create_hfss_config(project_path=project, jobid="refused", design_name="a:b")
            async with get_session(url) as session:
                async with session.post(f"{url}/jobs/submit", json={"config": config.to_dict()}) as answer:
                    return answer.status, await answer.json()

        print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
        """,
        service.url,
        str(file),
    )

    status, answer = refused
    assert (status, answer["success"]) == (400, False), json.dumps(answer)
    assert "design_name" in answer["error"]
    assert "refused" not in [job["id"] for job in await service.ask("GET", "/api/jobs")]

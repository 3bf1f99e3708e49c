"""What a scheduler tells to pyedb's users, by a real SLURM."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobmgr.compat.pyedb import SchedulerManager, SchedulerType
from jobmgr.errors import ClusterUnavailable
from tests.patience import eventually
from tests.programs import Programs, become_ibm_lsf
from tests.slurm import Slurm

PARTITION = {
    "name", "nodes_total", "nodes_used", "cores_total", "cores_used", "memory_total_gb", "memory_used_gb",
    "mem_total_gb", "mem_used_gb",
}  # fmt: skip


async def test_slurm_tells_its_partitions_and_jobs_and_cancels(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm.environment[name])
    manager = SchedulerManager(SchedulerType.SLURM)
    asked = ("--nodes=2", "--ntasks-per-node=2", "--mem=512M")
    id_ = slurm.say("sbatch", "--parsable", "--hold", "--output=/dev/null", *asked, "--wrap=true").strip()

    partitions = {partition["name"]: partition for partition in await manager.get_partitions()}
    (job,) = [job for job in await manager.get_jobs() if job["job_id"] == id_]

    assert set(partitions["debug"]) == PARTITION
    assert (partitions["debug"]["nodes_total"], partitions["debug"]["cores_total"]) == (2, 8)
    assert 7 < partitions["debug"]["memory_total_gb"] < 9
    assert (job["partition"], job["state"]) == ("debug", "PENDING")
    assert (job["nodes"], job["cpus"], job["memory_gb"]) == (2, 4, 1.0)
    assert await manager.cancel_job(id_)
    await eventually(lambda: _is_gone(manager, id_))


async def _is_gone(manager: SchedulerManager, id_: str) -> bool:
    return all(job["job_id"] != id_ for job in await manager.get_jobs())


async def test_lsf_tells_what_jobs_have_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Programs(tmp_path / "programs")
    become_ibm_lsf(programs)
    monkeypatch.setenv("PATH", str(programs.directory))

    jobs = {job["job_id"]: job for job in await SchedulerManager(SchedulerType.LSF).get_jobs()}

    told = [tuple(jobs[id_][name] for name in ("nodes", "cpus", "memory_gb")) for id_ in ("22005", "22009")]
    assert told == [(2, 3, 6.5 / 1024), (None, None, None)]


async def test_a_scheduler_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(ClusterUnavailable, match="lsf"):
        await SchedulerManager(SchedulerType.LSF).get_partitions()


@pytest.mark.parametrize("scheduler", ["none", "pbs", "windows_hpc"])
def test_only_schedulers_that_pyedb_asked_can_be_asked(scheduler: str) -> None:
    with pytest.raises(ValueError, match="give slurm or lsf"):
        SchedulerManager(SchedulerType(scheduler))

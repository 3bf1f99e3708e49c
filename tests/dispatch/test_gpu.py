"""Which GPUs a job is told to use. With real jobs on real databases; no GPU is needed for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobmgr.domain.status import Status
from jobmgr.service import JobManager, ResourceLimits
from tests.patience import eventually

pytestmark = pytest.mark.usefixtures("two_gpus")

FOUR = ResourceLimits(max_concurrent_jobs=4)
ONE_GPU = {"gpus": 1}
_SAYING = 'echo "${CUDA_VISIBLE_DEVICES-nothing}"; while [ ! -e "$0" ]; do sleep 0.02; done'


def saying(go: Path) -> list[str]:
    """A command that writes which GPUs it sees, and ends when the file `go` is there."""
    return ["sh", "-c", _SAYING, str(go)]


async def seen(manager: JobManager, job_id: str) -> str:
    """What such a job has written, as soon as it has."""

    async def read() -> str:
        if not (await manager.get(job_id)).attempt:
            return ""
        file = manager.parts.runs / job_id / "1" / "stdout"
        return file.read_text().strip() if file.exists() else ""

    return str(await eventually(read))


async def given(manager: JobManager, job_id: str) -> tuple[str, ...]:
    (attempt,) = await manager.attempts(job_id)
    return attempt.gpus


async def test_jobs_that_run_together_see_different_gpus_and_a_freed_one_is_given_again(
    manager: JobManager, tmp_path: Path
) -> None:
    await manager.update_limits(max_concurrent_jobs=4)
    go = [tmp_path / f"go{number}" for number in range(3)]
    first, second, third = [await manager.submit(saying(file), resources=ONE_GPU) for file in go]
    together = [await seen(manager, first), await seen(manager, second)]
    reasons = await manager.why(third)

    go[1].touch()
    last = await seen(manager, third)

    assert together == ["GPU-a", "GPU-b"]
    assert [reason.message for reason in reasons] == ["it asks for 1 gpu, and 0 gpus can be had now"]
    assert last == "GPU-b"
    go[0].touch()
    go[2].touch()
    await manager.wait_many([first, second, third], 30)


async def test_job_that_asks_for_two_sees_both_and_its_attempt_names_them(
    manager: JobManager, tmp_path: Path
) -> None:
    (tmp_path / "go").touch()
    job_id = await manager.submit(saying(tmp_path / "go"), resources={"gpus": 2})

    await manager.wait(job_id, 30)

    assert await seen(manager, job_id) == "GPU-a,GPU-b"
    assert await given(manager, job_id) == ("GPU-a", "GPU-b")


async def test_job_that_asks_for_more_than_there_are_says_so(manager: JobManager) -> None:
    job_id = await manager.submit(["true"], resources={"gpus": 3})

    reasons = await manager.why(job_id)

    assert [reason.message for reason in reasons] == [
        "it asks for 3 gpus, this machine has 2 gpus; it can never run here"
    ]


async def test_what_was_given_wins_over_the_jobs_own_variable(manager: JobManager, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    own = {"CUDA_VISIBLE_DEVICES": "7"}
    asks = await manager.submit(saying(tmp_path / "go"), resources=ONE_GPU, env=own)
    asks_not = await manager.submit(saying(tmp_path / "go"), env=own)

    await manager.wait_many([asks, asks_not], 30)

    assert [await seen(manager, job_id) for job_id in (asks, asks_not)] == ["GPU-a", "7"]


async def test_job_that_asks_for_none_sees_what_the_service_sees(manager: JobManager, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    job_id = await manager.submit(saying(tmp_path / "go"))

    await manager.wait(job_id, 30)

    assert await seen(manager, job_id) == "GPU-a,GPU-b"
    assert await given(manager, job_id) == ()


async def test_gpu_stays_taken_when_a_later_service_takes_the_job_up(
    database_url: str, tmp_path: Path
) -> None:
    go = [tmp_path / f"go{number}" for number in range(3)]
    async with JobManager(FOUR, database=database_url, work_dir=tmp_path / "work") as manager:
        short = await manager.submit(saying(go[0]), resources=ONE_GPU)
        before = await manager.submit(saying(go[1]), resources=ONE_GPU)
        assert await seen(manager, before) == "GPU-b"
        go[0].touch()
        await manager.wait(short, 30)

    async with JobManager(FOUR, database=database_url, work_dir=tmp_path / "work") as manager:
        after = await manager.submit(saying(go[2]), resources=ONE_GPU)
        waiting = await manager.submit(saying(go[2]), resources=ONE_GPU)
        names = [await seen(manager, after), *await given(manager, before)]
        while_both_are_taken = (await manager.get(waiting)).status
        go[1].touch()
        freed = await seen(manager, waiting)
        go[2].touch()
        await manager.wait_many([before, after, waiting], 30)

    assert names == ["GPU-a", "GPU-b"]
    assert while_both_are_taken is Status.QUEUED
    assert freed == "GPU-b"


async def test_job_on_a_gpu_that_is_gone_takes_nothing_from_the_others(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    async with JobManager(FOUR, database=database_url, work_dir=tmp_path / "work") as manager:
        both = await manager.submit(saying(go), resources={"gpus": 2})
        await seen(manager, both)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-c")
    async with JobManager(FOUR, database=database_url, work_dir=tmp_path / "work") as manager:
        other = await manager.submit(saying(go), resources=ONE_GPU)
        name = await seen(manager, other)
        go.touch()
        await manager.wait_many([both, other], 30)

    assert name == "GPU-c"

"""Jobs run by a real service: what they are given, how they end, and what is recorded."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobmgr import settings
from jobmgr.domain.status import Status
from jobmgr.errors import FileMissing, InvalidRequest, JobExists, JobNotFound
from jobmgr.service import JobManager
from jobmgr.wire.submission import JobSubmission
from tests import remnant
from tests.patience import eventually

SECOND = timedelta(seconds=1)


async def written(manager: JobManager, job_id: str, path: str) -> bytes:
    """All that is in a file of the latest attempt."""
    async with aclosing(await manager.file(job_id, path)) as file:
        window = await file.read(0, 1024**2)
    assert len(window.data) == window.size_bytes
    return window.data


async def test_job_runs_to_completion(manager: JobManager) -> None:
    before = datetime.now(UTC)

    job_id = await manager.submit(["sh", "-c", "echo out; echo err >&2"], name="hello")
    job = await manager.wait(job_id, 30)

    assert (job.status, job.exit_code, job.error, job.attempt) == (Status.COMPLETED, 0, None, 1)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert before - SECOND <= job.created_at <= job.started_at <= job.finished_at <= datetime.now(UTC)
    assert await written(manager, job_id, "stdout") == b"out\n"
    assert await written(manager, job_id, "stderr") == b"err\n"


@pytest.mark.parametrize("code", [1, 3, 127, 255])
async def test_exit_code_is_recorded(manager: JobManager, code: int) -> None:
    job_id = await manager.submit(["sh", "-c", f"exit {code}"])

    job = await manager.wait(job_id, 30)

    (attempt,) = await manager.attempts(job_id)
    assert (job.status, job.exit_code) == (Status.FAILED, code)
    assert (attempt.exit_code, attempt.signal, attempt.outcome) == (code, None, "failed")
    assert job.error is not None
    assert job.error.code == "exit_code"


async def test_signal_is_recorded(manager: JobManager) -> None:
    job_id = await manager.submit(["sh", "-c", "kill -SEGV $$"])

    job = await manager.wait(job_id, 30)

    (attempt,) = await manager.attempts(job_id)
    assert (job.status, job.exit_code, attempt.signal) == (Status.FAILED, None, 11)
    assert job.error is not None
    assert job.error.code == "signal"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"command": ["/no/such/program"]}, "/no/such/program"),
        ({"command": ["/etc/passwd"]}, "/etc/passwd"),
        ({"command": ["true"], "cwd": "/no/such/directory"}, "/no/such/directory"),
    ],
    ids=["no program", "not executable", "no directory"],
)
async def test_job_that_cannot_start_fails_with_its_reason(
    manager: JobManager, fields: dict[str, Any], word: str
) -> None:
    job_id = await manager.submit(**fields)

    job = await manager.wait(job_id, 30)

    assert job.status is Status.FAILED
    assert job.error is not None
    assert word in job.error.message


async def test_walltime_ends_the_job(manager: JobManager) -> None:
    job_id = await manager.submit(["sleep", "60"], resources={"walltime": 0.3})

    job = await manager.wait(job_id, 30)

    assert job.status is Status.FAILED
    assert job.error is not None
    assert job.error.code == "timeout"


async def test_missing_output_fails_a_job_that_exited_well(manager: JobManager) -> None:
    success = {"required_files": ["result.txt"]}
    without = await manager.submit(["true"], success=success)
    with_it = await manager.submit(["touch", "result.txt"], success=success)

    jobs = await manager.wait_many([without, with_it], 30)

    assert [job.status for job in jobs] == [Status.FAILED, Status.COMPLETED]
    assert jobs[0].error is not None
    assert (jobs[0].error.code, "result.txt" in jobs[0].error.message) == ("missing_output", True)


async def test_job_sees_its_environment_and_starts_in_its_run_directory(manager: JobManager) -> None:
    job_id = await manager.submit(
        ["sh", "-c", 'pwd; echo "$A|$JOBMGR_JOB_ID|$JOBMGR_ATTEMPT|$JOBMGR_RUN_DIR"'], env={"A": "ü"}
    )

    job = await manager.wait(job_id, 30)

    where, line = (await written(manager, job_id, "stdout")).decode().splitlines()
    assert where == job.work_dir == str(manager.parts.runs / job_id / "1")
    assert line == f"ü|{job_id}|1|{job.work_dir}"


async def test_job_sees_none_of_the_services_secrets(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBMGR_TOKEN", "very-secret")
    monkeypatch.setenv("JOBMGR_DATABASE", database_url)
    async with JobManager(work_dir=tmp_path / "work") as manager:
        job_id = await manager.submit(["env"])
        await manager.wait(job_id, 30)
        seen = (await written(manager, job_id, "stdout")).decode()

    assert "very-secret" not in seen
    assert "JOBMGR_DATABASE" not in seen
    assert "PATH=" in seen


async def test_output_that_is_no_text_is_kept_byte_by_byte(manager: JobManager) -> None:
    program = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 100)"

    job_id = await manager.submit([sys.executable, "-c", program])
    await manager.wait(job_id, 30)

    assert await written(manager, job_id, "stdout") == bytes(range(256)) * 100


async def test_what_a_job_leaves_behind_is_ended_and_noted(manager: JobManager) -> None:
    job_id = await manager.submit(["sh", "-c", "sleep 60 & sleep 60 & exit 0"])

    job = await manager.wait(job_id, 60)

    (attempt,) = await manager.attempts(job_id)
    assert (job.status, attempt.leftovers) == (Status.COMPLETED, 2)
    assert remnant.commands(manager.settings.work_dir) == []


async def test_what_a_job_used_is_measured(manager: JobManager) -> None:
    program = "x = bytearray(64 * 2**20)\nwhile __import__('time').process_time() < 0.3: pass"

    job_id = await manager.submit([sys.executable, "-c", program])
    await manager.wait(job_id, 30)

    (attempt,) = await manager.attempts(job_id)
    assert attempt.cpu_s is not None
    assert attempt.cpu_s >= 0.3
    assert attempt.peak_memory_bytes is not None
    assert attempt.peak_memory_bytes >= 64 * 2**20


async def test_three_hundred_small_jobs_all_complete_once(manager: JobManager) -> None:
    asked = [JobSubmission(command=["true"]) for _ in range(300)]

    stored = await manager.submit_many(asked)
    jobs = await manager.wait_many([item.job_id for item in stored], 90)

    assert [(job.status, job.attempt) for job in jobs] == [(Status.COMPLETED, 1)] * 300


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"queue": "nowhere"}, InvalidRequest),
        ({"site": "nowhere"}, InvalidRequest),
        ({"depends_on": [{"job_id": "nobody"}]}, InvalidRequest),
        ({"priority": "high"}, InvalidRequest),
        ({"unknown": 1}, InvalidRequest),
        ({"job_id": "taken"}, JobExists),
    ],
)
async def test_bad_submission_is_refused(
    manager: JobManager, fields: dict[str, Any], expected: type[Exception]
) -> None:
    await manager.submit(["true"], job_id="taken", draft=True)

    with pytest.raises(expected):
        await manager.submit(["true"], **fields)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"queue": "nowhere"}, "queue"),
        ({"site": "nowhere"}, "site"),
        ({"executor": "nowhere"}, "executor"),
        ({"depends_on": [{"job_id": "taken"}, {"job_id": "nobody"}]}, "depends_on[1]"),
    ],
)
async def test_name_that_is_nowhere_is_named_by_its_place(
    manager: JobManager, fields: dict[str, Any], field: str
) -> None:
    await manager.submit(["true"], job_id="taken", draft=True)
    bad = msgspec.convert({"command": ["true"], **fields}, JobSubmission)

    with pytest.raises(InvalidRequest) as single:
        await manager.submit(["true"], **fields)
    with pytest.raises(InvalidRequest) as bulk:
        await manager.submit_many([JobSubmission(["true"]), bad])

    assert single.value.field == field
    assert bulk.value.field == f"jobs[1].{field}"

    page = await manager.list()
    assert [job.job_id for job in page.jobs] == ["taken"]


@pytest.mark.parametrize(
    ("command", "fields", "where"),
    [
        ("echo hello", {}, "command"),
        ([], {}, "command"),
        (["echo", 1], {}, "command[1]"),
        (["true"], {"priority": "high"}, "priority"),
        (["true"], {"resources": {"cpus": 0}}, "resources.cpus"),
        (["true"], {"resources": {"cores": 1}}, "resources.cores"),
        (["true"], {"unknown": 1}, "unknown"),
    ],
)
async def test_bad_submission_is_refused_by_the_name_of_its_field(
    manager: JobManager, command: Any, fields: dict[str, Any], where: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await manager.submit(command, **fields)

    assert caught.value.field == where
    assert (await manager.list()).jobs == []


async def test_files_are_confined_to_the_run_directory(manager: JobManager, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    job_id = await manager.submit(["sh", "-c", f"mkdir d; echo x > d/f; ln -s {secret} link; ln -s / root"])
    await manager.wait(job_id, 30)

    found = [entry.path for entry in await manager.files(job_id)]

    assert found == ["d/f", "stderr", "stdout"]
    assert await written(manager, job_id, "d/f") == b"x\n"
    for path in ("link", "root/etc/passwd", "d", "nothing"):
        with pytest.raises(FileMissing):
            await manager.file(job_id, path)
    for path in ("", "/etc/passwd", "../1/stdout", "d/../../x", "a\0b"):
        with pytest.raises(InvalidRequest):
            await manager.file(job_id, path)


async def test_run_directory_that_its_job_replaced_by_a_link_leads_out(
    manager: JobManager, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret").write_text("s")
    script = f"cd .. && mv 1 old && ln -s {elsewhere} 1"
    job_id = await manager.submit(["sh", "-c", script])
    await manager.wait(job_id, 30)

    with pytest.raises(FileMissing, match="leads out"):
        await manager.file(job_id, "secret")
    with pytest.raises(FileMissing, match="leads out"):
        await manager.files(job_id)


async def test_log_of_an_attempt_that_was_not_is_missing(manager: JobManager) -> None:
    job_id = await manager.submit(["true"], draft=True)

    with pytest.raises(FileMissing):
        await manager.log_file(job_id, "stdout")
    with pytest.raises(JobNotFound):
        await manager.log_file("nobody", "stdout")


async def test_cancel_of_a_running_job_ends_its_whole_tree(manager: JobManager) -> None:
    job_id = await manager.submit(["sh", "-c", "sleep 60 & (setsid sleep 60 &) ; echo up; wait"])
    await eventually(lambda: len(remnant.commands(manager.settings.work_dir)) >= 3)

    await manager.cancel(job_id)
    job = await manager.wait(job_id, 30)

    assert (job.status, job.error.code if job.error else None) == (Status.CANCELLED, "cancelled")
    assert remnant.commands(manager.settings.work_dir) == []


async def test_cancel_of_a_queued_job_means_it_never_runs(manager: JobManager, tmp_path: Path) -> None:
    await manager.update_queue("default", paused=True)
    job_id = await manager.submit(["touch", str(tmp_path / "ran")])

    job = await manager.cancel(job_id)
    await manager.update_queue("default", paused=False)
    await manager.wait(await manager.submit(["true"]), 30)

    assert job.status is Status.CANCELLED
    assert not (tmp_path / "ran").exists()


async def test_cancel_that_comes_with_the_start_still_ends_the_job(manager: JobManager) -> None:
    job_ids = [await manager.submit(["sleep", "60"]) for _ in range(6)]

    for job_id in job_ids:
        await manager.cancel(job_id)
    jobs = await manager.wait_many(job_ids, 60)

    assert {job.status for job in jobs} == {Status.CANCELLED}


async def test_service_keeps_its_own_rights_to_itself(manager: JobManager) -> None:
    assert manager.parts.runs.stat().st_mode & 0o077 == 0
    assert manager.parts.runs.stat().st_uid == os.geteuid()


@pytest.fixture
def usual_mask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("usual_mask")
async def test_what_a_service_makes_is_for_its_user_only(tmp_path: Path) -> None:
    # A home that was there before, and others may look into.
    (tmp_path / "home").mkdir(mode=0o755)
    given = {
        "home": str(tmp_path / "home"),
        "work_dir": str(tmp_path / "missing" / "work"),
        "database": f"sqlite:///{tmp_path}/data/jobs.db",
    }
    async with JobManager(settings=settings.load(given, {}, tmp_path)) as manager:
        await manager.wait(await manager.submit(["true"]), 30)

        runs = tmp_path / "missing" / "work" / "runs"
        made = [path for name in ("home", "missing", "data") for path in (tmp_path / name).glob("**/*")]
        open_to_others = {
            str(path.relative_to(tmp_path))
            for path in (*made, tmp_path / "missing", tmp_path / "data")
            # What a job makes, and where, is by its user's own mask; nobody else gets as far as there.
            if runs not in path.parents and path.stat().st_mode & 0o077 and not path.is_socket()
        }

    assert open_to_others == set()


async def test_id_of_a_deleted_job_runs_again(manager: JobManager) -> None:
    await manager.wait(await manager.submit(["true"], job_id="again"), 30)
    await manager.delete("again")

    job = await manager.wait(await manager.submit(["true"], job_id="again"), 30)

    assert job.status is Status.COMPLETED

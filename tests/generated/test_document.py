"""Requests that schemathesis makes of our own document, against a service: what it says is what is so."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from jobmgr.api.app import make_app
from jobmgr.api.browser import Browsers
from jobmgr.api.guard import Guard
from jobmgr.api.limits import Limits
from jobmgr.api.throttle import Throttle
from jobmgr.domain.access import Principal, Role
from jobmgr.service import JobManager
from tests.api.conftest import end_all, serving
from tests.hfss.installed import install
from tests.programs import Programs

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-for-generated-requests"
# Of each database, in the long form.
CASES = 20_000


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What hooks.py puts in the place of programs, projects and directories; jobs find no program but these."""
    program = install(tmp_path / "v252", "echo solved\n")
    project = tmp_path / "projects" / "a.aedt"
    project.parent.mkdir()
    project.write_text("")
    given = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "GENERATED_TOKEN": TOKEN,
        "GENERATED_PROGRAM": program,
        "GENERATED_PROJECT": str(project),
        "GENERATED_SITE": str(tmp_path / "site"),
    }
    monkeypatch.setenv("ANSYSEM_ROOT252", str(tmp_path / "v252"))
    monkeypatch.setenv("PATH", str(Programs(tmp_path / "programs").directory))
    return given


@pytest_asyncio.fixture
async def url(environment: Mapping[str, str], manager: JobManager) -> AsyncIterator[str]:
    """A service that lets nobody in without a token."""
    async with house(manager, Principal.owner(manager.user)) as url:
        yield url


@contextlib.asynccontextmanager
async def house(manager: JobManager, bearer: Principal) -> AsyncIterator[str]:
    """A service that lets in whoever shows the token, as `bearer`."""

    async def by_token(shown: str) -> Principal | None:
        return bearer if shown == TOKEN else None

    # Wrong tokens are tried on every route, in vain.
    throttle = Throttle(Limits(failures_per_s=1000))
    owner = Principal.owner(manager.user)
    guard = Guard("", None, False, Browsers(), owner, by_token, throttle=throttle)
    async with serving(make_app(manager, guard)) as url:
        yield url
        await end_all(manager)


async def run(url: str, environment: Mapping[str, str], report: Path, *options: str) -> dict[str, Any]:
    """Let schemathesis ask the service; answers its report. Fails with its words, if it found anything."""
    program = [sys.executable, "-m", "schemathesis.cli", "--config-file", "tests/generated/schemathesis.toml"]
    process = await asyncio.create_subprocess_exec(
        *program, "run", f"{url}/openapi.json", "--report-json-path", str(report), "--no-color", *options,
        cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 0, said.decode(errors="replace")
    found = json.loads(await asyncio.to_thread(report.read_bytes))
    assert isinstance(found, dict)
    return found


async def run_briefly(url: str, environment: Mapping[str, str], folder: Path) -> None:
    """A few requests of every route, and some that go on with what answers told."""
    told = folder / "events.ndjson"
    report = await run(
        url, environment, folder / "report.json", "--report-ndjson-path", str(told),
        "--seed", "1", "--generation-deterministic", "--max-examples", "2", "--phases", "fuzzing,stateful",
    )  # fmt: skip

    assert report["operations"]["tested"] == report["operations"]["total"]
    assert report["test_cases"]["generated"] > 100
    assert stateful_requests(await asyncio.to_thread(told.read_bytes)) > 5


def stateful_requests(told: bytes) -> int:
    """How many requests of the stateful phase schemathesis tells of."""
    events = map(json.loads, told.splitlines())
    ends = (event["ScenarioFinished"] for event in events if "ScenarioFinished" in event)
    return sum(len(end["recorder"].get("interactions", ())) for end in ends if end["phase"] == "stateful")


async def test_answers_are_as_described(url: str, environment: Mapping[str, str], tmp_path: Path) -> None:
    await run_briefly(url, environment, tmp_path)


async def test_answers_to_a_user_among_others_are_as_described(
    sqlite_url: str, environment: Mapping[str, str], tmp_path: Path
) -> None:
    ann = Principal("ann", Role.USER, mates={"ben": None})
    async with JobManager(database=sqlite_url, work_dir=tmp_path / "work") as manager:
        for user in ("ann", "ben", "zoe"):
            await manager.submit(["true"], user=user, job_id=f"{user}s", draft=True)

        async with house(manager, ann) as url:
            await run_briefly(url, environment, tmp_path)

        assert [(await manager.get(job_id)).v for job_id in ("bens", "zoes")] == [1, 1]


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_answers_to_many_requests_are_as_described(
    url: str, environment: Mapping[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    report = await run(url, environment, tmp_path / "report.json", "--max-examples", "340")

    request.config.get_terminal_writer().line(
        f"\n{report['test_cases']['generated']} requests were generated"
    )
    assert report["test_cases"]["generated"] >= CASES

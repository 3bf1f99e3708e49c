"""Each answer of the original's own service has its place in ours: the same requests to both, one beside the other.

Ours may say more, and never less: each key of the original's answer, with a value of the same kind.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from benchmarks.peers import pyedb_service
from tests.cli.conftest import Commands, serving
from tests.patience import eventually
from tests.peers.conftest import ENDED, project
from tests.programs import Programs

JOB = "shape_1"
# The original's `to_dict` adds them each time it is called: where and when, not of what. What is stored is without.
NOTES = ("platform", "timestamp", "version")


@pytest.fixture(scope="module")
def no_scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither of them finds a scheduler: it would take all of the original's jobs."""
    programs = Programs(tmp_path_factory.mktemp("programs") / "bin")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(programs.directory))
        yield


@pytest.fixture(scope="module")
def urls(
    interpreter: Path, ansys: Path, no_scheduler: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """Where the original's service answers, and where ours does."""
    commands = Commands(tmp_path_factory.mktemp("home"))
    # The original has limits, ours only those that somebody set; these keep nothing from starting.
    limits = ("--max-cpu-percent", "100", "--min-memory-gb", "0", "--min-disk-gb", "0")
    with (
        pyedb_service.serving(interpreter, 1) as theirs,
        serving(commands, "--max-concurrent-jobs", "1", *limits) as ours,
    ):
        yield theirs.url, ours


class Both:
    """The same request to each of them."""

    def __init__(self, *sessions: aiohttp.ClientSession) -> None:
        self._sessions = sessions

    async def ask(self, method: str, path: str, **options: Any) -> list[tuple[int, Any]]:
        """Status and answer of the original, then ours."""
        found = []
        for session in self._sessions:
            async with session.request(method, path, **options) as answer:
                body = await answer.read()
                found.append((answer.status, json.loads(body) if body else None))
        return found


@pytest_asyncio.fixture
async def both(urls: tuple[str, str], ansys: Path, tmp_path: Path) -> AsyncIterator[Both]:
    """Each of them has one job, which has ended."""
    theirs, ours = urls
    async with aiohttp.ClientSession(theirs) as their_session, aiohttp.ClientSession(ours) as our_session:
        asked = Both(their_session, our_session)
        known = await asked.ask("GET", "/jobs")
        if not known[0][1]:
            config = {"project_path": str(project(tmp_path / "a.aedt")), "jobid": JOB, "user": "ann"}
            body = {"config": {**config, "ansys_edt_path": str(ansys / "ansysedt")}}
            answers = await asked.ask("POST", "/jobs/submit", json=body)
            assert_like(answers, "POST /jobs/submit")

        await eventually(partial(_are, asked, JOB, ENDED))
        yield asked


async def statuses(both: Both, job_id: str) -> list[str]:
    """Where the job is, in each of them that has it."""
    answers = await both.ask("GET", "/jobs")
    return [job["status"] for _, jobs in answers for job in jobs if job["id"] == job_id]


def assert_like(answers: list[tuple[int, Any]], asked: str) -> None:
    """Ours has the status of the original's answer, and at least its shape."""
    (their_status, theirs), (our_status, ours) = answers
    assert our_status == their_status, (asked, ours)
    assert missing(theirs, ours, asked) == []


def missing(theirs: Any, ours: Any, at: str) -> list[str]:
    """Where ours lacks something, or has something of another kind."""
    if isinstance(theirs, Mapping):
        theirs = {
            name: value for name, value in theirs.items() if not (at.endswith(".config") and name in NOTES)
        }
        if not isinstance(ours, Mapping):
            return [f"{at}: {ours!r} is no object"]
        absent = [f"{at}.{name} is missing" for name in theirs if name not in ours]
        return absent + [
            found
            for name in theirs
            if name in ours
            for found in missing(theirs[name], ours[name], f"{at}.{name}")
        ]
    if isinstance(theirs, list):
        if not isinstance(ours, list) or (theirs and not ours):
            return [f"{at}: {ours!r} is no such list"]
        return [found for item in ours for found in missing(theirs[0], item, f"{at}[]")] if theirs else []
    return (
        []
        if theirs is None or kind(theirs) == kind(ours)
        else [f"{at}: {ours!r} is not of the kind of {theirs!r}"]
    )


def kind(value: object) -> type:
    """What JSON calls it: all numbers are alike."""
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


READS = [
    "/jobs", "/api/jobs", "/resources", "/api/resources", "/queue", "/api/queue", "/scheduler/partitions",
    "/api/cluster_partitions", "/api/scheduler_type", "/system/status", "/api/me", f"/api/jobs/{JOB}/log",
    "/api/jobs/nobody/log",
]  # fmt: skip
CONFIG = {"user": "ann", "project_path": "/nowhere/a.aedt", "ansys_edt_path": "/bin/true"}
CHANGES: list[tuple[str, str, Any]] = [
    ("POST", "/jobs/submit", {"config": CONFIG}),
    ("POST", "/jobs/submit", {"config": {**CONFIG, "scheduler_options": {"nodes": 0}}}),
    ("POST", "/jobs/nobody/cancel", None),
    ("POST", f"/jobs/{JOB}/cancel", None),
    ("POST", "/api/cancel/nobody", None),
    ("POST", f"/api/cancel/{JOB}", None),
    ("POST", "/jobs/nobody/priority", {"priority": 1}),
    ("PUT", "/pool/limits", {"max_concurrent_jobs": 2, "min_memory_gb": 0.5}),
    ("PUT", "/pool/limits", {"max_concurrent_jobs": 1, "min_disk_gb": 0}),
    ("PUT", "/pool/limits", {"max_concurrent_jobs": 0}),
    ("PUT", "/pool/limits", {"max_cpu_percent": 101}),
    ("PUT", "/pool/limits", {}),
    ("POST", "/system/start_monitoring", None),
]


@pytest.mark.parametrize("path", READS)
async def test_what_is_read_has_the_shape_of_the_original(both: Both, path: str) -> None:
    answers = await both.ask("GET", path)

    assert_like(answers, f"GET {path}")


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_what_is_changed_is_answered_in_the_shape_of_the_original(
    both: Both, method: str, path: str, body: Any
) -> None:
    answers = await both.ask(method, path, json=body)

    assert_like(answers, f"{method} {path} {body}")


async def test_what_waits_is_changed_and_answered_in_the_shape_of_the_original(
    both: Both, ansys: Path, tmp_path: Path
) -> None:
    def config(job_id: str, body: str = "") -> dict[str, Any]:
        file = project(tmp_path / f"{job_id}.aedt", body)
        program = str(ansys / "ansysedt")
        return {"project_path": str(file), "jobid": job_id, "user": "ann", "ansys_edt_path": program}

    # There is nothing on the path of either.
    waits = f"until [ -e {tmp_path}/go ]; do /bin/sleep 0.05; done\n"
    await both.ask("PUT", "/pool/limits", json={"max_concurrent_jobs": 1})
    await both.ask("POST", "/jobs/submit", json={"config": config("shape_first", waits)})
    await eventually(partial(_are, both, "shape_first", frozenset({"running"})))

    submitted = await both.ask("POST", "/api/submit", json={"config": config("shape_next"), "user": "ann"})
    waiting = await statuses(both, "shape_next")
    changed = await both.ask("POST", "/jobs/shape_next/priority", json={"priority": 5})

    (tmp_path / "go").touch()
    await eventually(partial(_are, both, "shape_next", ENDED))
    assert_like(submitted, "POST /api/submit")
    assert waiting == ["queued"] * 2
    assert_like(changed, "POST /jobs/shape_next/priority")
    assert [status for status, _ in (*submitted, *changed)] == [200] * 4


async def _are(both: Both, job_id: str, wanted: frozenset[str]) -> bool:
    found = await statuses(both, job_id)
    return len(found) == 2 and wanted.issuperset(found)


def test_a_lack_would_be_seen() -> None:
    theirs = {"jobs": [{"id": "a", "at": None, "n": 1}]}

    assert missing(theirs, {"jobs": [{"id": "b", "at": "now", "n": 1.5, "more": {}}]}, "") == []
    assert missing(theirs, {"jobs": [{"id": 3, "at": None}]}, "x") == [
        "x.jobs[].n is missing",
        "x.jobs[].id: 3 is not of the kind of 'a'",
    ]
    assert missing(theirs, {"jobs": []}, "x") == ["x.jobs: [] is no such list"]

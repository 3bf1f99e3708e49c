"""Secrets in every place where there may be some, jobs that use them, and a search for them everywhere else."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio
import socketio

from jobmgr.api.routes import ROUTES
from tests import pretenders
from tests.node import Node
from tests.patience import eventually
from tests.postgresql import Cluster
from tests.service import leaky

PASSWORD = "of-the-database-3c1f"
TOKEN = "of-the-service-9b72"
IN_A_FILE = "in-a-file-5d40"
IN_A_VARIABLE = "in-a-variable-77ae"
AT_THE_SITE = "at-the-site-e802"
SECRETS = (PASSWORD, TOKEN, IN_A_FILE, IN_A_VARIABLE, AT_THE_SITE)
ROLE = "who_has_a_password"
# Tells that it was given its secrets, and waits until it may end.
SCRIPT = """
printf %s "$A$B" | sha256sum
echo "$JOBMGR_JOB_TOKEN_FILE"
while [ ! -e "$0" ]; do sleep 0.02; done
"""

Seen = defaultdict[str, bytes]


class Planted:
    """A folder with secrets, outside of everything that is searched, and what refers to them."""

    def __init__(self, folder: Path) -> None:
        self.go = folder / "go"
        self.shown_once = ""
        self.folder = folder / "secrets"
        self.folder.mkdir(mode=0o700)
        for name, secret in (
            ("password", PASSWORD),
            ("token", TOKEN),
            ("key", IN_A_FILE),
            ("site", AT_THE_SITE),
        ):
            (self.folder / name).write_text(f"{secret}\n")

    def file(self, name: str) -> str:
        return f"file:{self.folder}/{name}"

    @property
    def environment(self) -> dict[str, str]:
        return {"JOBMGR_TOKEN": self.file("token"), "LICENCE": IN_A_VARIABLE}

    def job(self, a: str, b: str, **fields: Any) -> dict[str, Any]:
        env = {"A": {"secret": a}, "B": {"secret": b} if ":" in b else b}
        return {"command": ["sh", "-c", SCRIPT, str(self.go)], "env": env, **fields}


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[Planted]:
    planted = Planted(tmp_path)
    yield planted
    planted.go.touch()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest_asyncio.fixture
async def service(planted: Planted, tmp_path: Path) -> AsyncIterator[Callable[..., Node]]:
    """Makes the service, on an SQLite file unless told otherwise."""
    made: list[Node] = []

    def make(database: str = "", env: Mapping[str, str] | None = None, **options: Any) -> Node:
        url = database or f"sqlite:///{tmp_path}/node/jobs.db"
        made.append(Node(tmp_path / "node", url, env=planted.environment | dict(env or {}), **options))
        return made[-1]

    yield make
    planted.go.touch()
    for node in made:
        await node.close()


async def jobs_with_secrets(node: Node, planted: Planted, site: Path | None = None) -> Seen:
    """Run a service and jobs with secrets in them; all that others may have seen of that, by where it was."""
    seen: Seen = defaultdict(bytes)
    await node.start()
    async with aiohttp.ClientSession(node.url) as session, watched(session, node.url, seen):
        planted.shown_once = await api_token(session)
        for token, status in ((TOKEN, 200), (planted.shown_once, 200), (f"{TOKEN}x", 401)):
            assert await answered(session, token) == status
        jobs = [planted.job(planted.file("key"), "env:LICENCE", job_id="here", name="here")]
        expected = {"here": IN_A_FILE + IN_A_VARIABLE}
        if site is not None:
            body = {"kind": "pbs", "work_dir": str(site)}
            await answer(session, seen, "PUT", "/api/v1/sites/lab", json=body)
            jobs.append(planted.job(planted.file("site"), "plain", job_id="there", site="lab"))
            expected["there"] = AT_THE_SITE + "plain"
        await answer(session, seen, "POST", "/api/v1/jobs", json={"jobs": jobs})
        for job_id, text in expected.items():
            await eventually(partial(wrote, session, job_id, digest(text)))
        # In the middle of it, when there are processes, and gates but no ends.
        await look_around(session, seen, node, list(expected))
        planted.go.touch()
        for job_id in expected:
            await eventually(partial(has_ended, session, job_id))
        await look_around(session, seen, node, list(expected))
    await node.close()
    seen["log"] = node.log.encode()
    return seen


async def api_token(session: aiohttp.ClientSession) -> str:
    """One of a user, who sees it this once."""
    async with session.post("/api/v1/tokens", json={"label": "of the tests"}) as response:
        return str((await response.json())["token"])


async def answered(session: aiohttp.ClientSession, token: str) -> int:
    async with session.get("/api/v1/jobs", headers={"Authorization": f"Bearer {token}"}) as response:
        return response.status


async def answer(session: aiohttp.ClientSession, seen: Seen, method: str, path: str, **options: Any) -> bytes:
    async with session.request(method, path, **options) as response:
        body = await response.read()
        assert response.status != 500, body
        seen[f"{method} {path}"] += str(response.headers).encode() + body
        return body


async def wrote(session: aiohttp.ClientSession, job_id: str, text: str) -> bool:
    async with session.get(f"/api/v1/jobs/{job_id}/logs/stdout") as response:
        return text in await response.text()


async def has_ended(session: aiohttp.ClientSession, job_id: str) -> bool:
    async with session.get(f"/api/v1/jobs/{job_id}") as response:
        status = (await response.json())["status"]
    assert status != "failed"
    return bool(status == "completed")


@asynccontextmanager
async def watched(session: aiohttp.ClientSession, url: str, seen: Seen) -> AsyncIterator[None]:
    """Whoever may listens, and looks at the command lines of all processes, until the context is left."""
    listener = socketio.AsyncClient(reconnection=False)

    async def hear(name: str, data: Any) -> None:
        seen["socket"] += f"{name} {data}".encode()

    listener.on("*", hear)
    await listener.connect(url, auth={"rooms": ["events"]})
    async with session.get("/api/v1/events?after=0", headers={"Accept": "text/event-stream"}) as stream:
        tasks = [asyncio.create_task(_read(stream, seen)), asyncio.create_task(_watch_processes(seen))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await listener.disconnect()
    assert b"here" in seen["socket"]
    assert b"here" in seen["stream"]


async def _read(stream: aiohttp.ClientResponse, seen: Seen) -> None:
    async for piece in stream.content.iter_any():
        seen["stream"] += piece


async def _watch_processes(seen: Seen) -> None:
    known: set[bytes] = set()
    while True:
        new = _command_lines() - known
        known |= new
        seen["ps"] += b"\n".join(new)
        await asyncio.sleep(0.01)


def _command_lines() -> set[bytes]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.add(path.read_bytes())
    return found


async def look_around(session: aiohttp.ClientSession, seen: Seen, node: Node, job_ids: list[str]) -> None:
    for route in ROUTES:
        if route.method == "GET" and not route.streams:
            for job_id in job_ids if "{job_id}" in route.path else [""]:
                path = route.path.replace("{job_id}", job_id).replace("{path:[\\s\\S]+}", "stdout")
                await answer(session, seen, "GET", path.replace("{name}", "lab"))
    await answer(session, seen, "GET", "/api/v1/events")


def leaks(seen: Seen, *secrets: str) -> set[str]:
    """Where something was seen that should not be."""
    return {where for where, content in seen.items() if any(one.encode() in content for one in secrets)}


def files_below(*folders: Path) -> Seen:
    """All of them, whoever may read them."""
    found: Seen = defaultdict(bytes)
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                found[str(path.relative_to(folder))] += path.read_bytes()
    return found


def open_to_others(folder: Path, name: str) -> list[Path]:
    return [path for path in folder.rglob(name) if path.stat().st_mode & 0o077]


async def test_secrets_are_seen_nowhere(
    service: Callable[..., Node], planted: Planted, tmp_path: Path
) -> None:
    programs = pretenders.install(tmp_path / "scheduler", "openpbs", "history")
    (tmp_path / "lab" / "control").mkdir(parents=True)
    path = f"{programs}:{os.environ['PATH']}"
    node = service(env={"PATH": path, "JOBMGR_PUBLIC_URL": "http://jobs.example:8080"})

    seen = await jobs_with_secrets(node, planted, tmp_path / "lab")

    seen |= files_below(tmp_path / "node", tmp_path / "lab", tmp_path / "scheduler")
    assert leaks(seen, *SECRETS, planted.shown_once) == set()
    # What was looked at is what there is to see.
    assert planted.file("key").encode() in seen["GET /api/v1/jobs/here/spec"]
    assert planted.file("key").encode() in seen["jobs.db"] + seen["jobs.db-wal"]
    assert planted.file("site").encode() not in seen["ps"]
    assert b"LICENCE" in seen["GET /api/v1/jobs/here/spec"]
    # And what opens doors is for its owner only.
    (job_token,) = (tmp_path / "lab").rglob("job-token")
    assert job_token.read_text().startswith("jmj_there.1.")
    assert open_to_others(tmp_path / "lab", "job-token") == []
    assert open_to_others(tmp_path / "node", "job-key") == []
    key = (tmp_path / "node" / "job-key").read_text()
    token = job_token.read_text().strip()
    del seen[str(job_token.relative_to(tmp_path / "lab"))], seen["job-key"]
    assert leaks(seen, key, token, f"{token.rpartition('.')[0]}.") == set()


async def test_password_of_the_database_is_seen_nowhere(
    service: Callable[..., Node], planted: Planted, postgresql: Cluster, postgresql_url: str, tmp_path: Path
) -> None:
    name = urlsplit(postgresql_url).path.removeprefix("/")
    postgresql.execute(f"CREATE ROLE {ROLE} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    rules = postgresql.directory / "data" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"local all {ROLE} scram-sha-256\n{before}")
    postgresql.execute("SELECT pg_reload_conf()")
    url = postgresql_url.replace("postgres@", f"{ROLE}@")
    node = service(url, {"JOBMGR_DATABASE_PASSWORD": planted.file("password")})
    try:
        seen = await jobs_with_secrets(node, planted)
    finally:
        rules.write_text(before)
        postgresql.execute("SELECT pg_reload_conf()", f"DROP ROLE {ROLE}")

    seen |= files_below(tmp_path / "node")
    seen["dump"] = dump(postgresql, name)
    assert leaks(seen, *SECRETS, planted.shown_once) == set()
    assert planted.file("key").encode() in seen["dump"]


def dump(cluster: Cluster, database: str) -> bytes:
    command = [str(cluster.binaries / "pg_dump"), "-h", str(cluster.directory), "-U", "postgres", database]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("hole", "where"),
    [
        ("stored", {"jobs.db", "jobs.db-wal", "GET /api/v1/jobs/here/spec"}),
        ("logged", {"log"}),
        ("shown", {"ps"}),
    ],
)
async def test_leak_is_found(
    service: Callable[..., Node], planted: Planted, tmp_path: Path, hole: str, where: set[str]
) -> None:
    assert hole in leaky.HOLES
    node = service(wrapper=(sys.executable, "-m", "tests.service.leaky", hole))

    seen = await jobs_with_secrets(node, planted)

    seen |= files_below(tmp_path / "node")
    found = leaks(seen, *SECRETS)
    assert found
    assert found <= where


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_job_tells_of_itself_as_the_documents_say(service: Callable[..., Node]) -> None:
    node = service()
    await node.start()
    example = Path(__file__).parents[2] / "docs" / "security.md"
    (command,) = (
        block
        for block in example.read_text().split("```")[1::2]
        if "JOBMGR_JOB_TOKEN_FILE" in block and "curl" in block
    )

    async with node.client as client:
        job_id = await client.submit(["sh", "-ec", command.removeprefix("sh\n")])
        job = await client.wait(job_id)

    assert (job.status, job.description) == ("completed", "half way")

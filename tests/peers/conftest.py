"""The original's unchanged programs beside a real service, with a stand-in for ansysedt."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from benchmarks.peers import environment
from benchmarks.peers.pyedb import PEER
from benchmarks.skip import Skipped
from tests.api.conftest import api, manager  # noqa: F401 -- fixtures
from tests.cli.conftest import Commands, serving
from tests.hfss.installed import install
from tests.patience import eventually
from tests.peers.original import Original

# The project says what the solver does: a script, which sees the solver's arguments; a folder only completes.
SOLVER = 'for project; do :; done\n[ -d "$project" ] || . "$project"\n'
ENDED = frozenset({"completed", "failed", "cancelled"})


@pytest.fixture(scope="session")
def interpreter() -> Path:
    """The Python of an environment with the original in it."""
    try:
        return environment.make("pyedb", PEER.installs)
    except Skipped as reason:
        pytest.skip(f"pyedb cannot be installed: {reason}")


@pytest.fixture(scope="session")
def ansys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An installation of ANSYS, which everybody on this machine finds by its variable."""
    root = tmp_path_factory.mktemp("ansys") / "v252"
    root.mkdir()
    install(root, SOLVER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANSYSEM_ROOT252", str(root))
        yield root


@pytest.fixture
def original(interpreter: Path, ansys: Path, tmp_path: Path) -> Original:
    """The original, in an empty directory."""
    return Original(interpreter, tmp_path, ansys)


class Service:
    """A running `jobmgr serve`, as the original's clients see it."""

    def __init__(self, commands: Commands, url: str) -> None:
        self.commands = commands
        self.url = url

    @property
    def pid(self) -> int:
        """Its process."""
        return int(json.loads((self.commands.home / "service.json").read_bytes())["pid"])

    @property
    def address(self) -> tuple[str, ...]:
        """The options by which the original's programs are told where it is."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return "--host", host, "--port", port

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        """One request, which has to succeed; what was answered."""
        async with (
            aiohttp.ClientSession(self.url) as session,
            session.request(method, path, **options) as answer,
        ):
            assert answer.status == 200, (method, path, answer.status, await answer.text())
            return await answer.json()

    async def jobs_of(self, *projects: Path) -> list[dict[str, Any]]:
        """The jobs of these projects as `/api/jobs` shows them, by project, once all of them have ended."""
        wanted = {str(project) for project in projects}

        async def ended() -> list[dict[str, Any]]:
            found = [
                job
                for job in await self.ask("GET", "/api/jobs")
                if (job["config"] or {}).get("project_path") in wanted
            ]
            all_there = {job["config"]["project_path"] for job in found} == wanted
            return found if all_there and all(job["status"] in ENDED for job in found) else []

        found: list[dict[str, Any]] = await eventually(ended)
        return sorted(found, key=lambda job: str(job["config"]["project_path"]))


@pytest.fixture(scope="session")
def service(ansys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service, which finds the same installation of ANSYS."""
    commands = Commands(tmp_path_factory.mktemp("home"))
    with serving(commands, "--max-concurrent-jobs", "4") as url:
        yield Service(commands, url)


def project(file: Path, script: str = "") -> Path:
    """A project whose solver does what `script` says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(script)
    return file


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What the original's program called an error."""
    return [line for line in done.stderr.splitlines() if "ERROR" in line or "Traceback" in line]

"""Ways to this machine: straight, and over a real SSH server of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.transports.local import LocalTransport
from jobmgr.transports.transport import Transport
from tests.patience import eventually
from tests.transports.sshd import SshServer, find_program, make_key

MakeServer = Callable[..., SshServer]


@pytest.fixture(scope="session")
def ssh_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's key, which servers let in."""
    return make_key(tmp_path_factory.mktemp("user") / "key")


@pytest.fixture(scope="session")
def sshd_program() -> str:
    """OpenSSH's server."""
    pytest.importorskip("asyncssh", reason="asyncssh is not installed (pip install 'jobmgr[ssh]')")
    program = find_program()
    if program is None:
        pytest.skip("OpenSSH's server is not installed (no sshd on the PATH or in /usr/sbin)")
    return program


@pytest.fixture(scope="session")
def ssh_server(
    sshd_program: str, ssh_key: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshServer]:
    """A server with ordinary settings, for tests that leave it as it is."""
    server = SshServer(sshd_program, tmp_path_factory.mktemp("sshd") / "host", ssh_key)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_server(sshd_program: str, ssh_key: Path, tmp_path: Path) -> Iterator[MakeServer]:
    """Starts a server with further lines of configuration; all are stopped at the end."""
    servers: list[SshServer] = []

    def make(*lines: str) -> SshServer:
        server = SshServer(sshd_program, tmp_path / f"host{len(servers)}", ssh_key, *lines)
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who runs the tests may have an agent with keys of their own."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture(params=["local", "ssh"])
def transport_kind(request: pytest.FixtureRequest) -> str:
    """Both ways, one after the other."""
    return str(request.param)


@pytest_asyncio.fixture
async def transport(transport_kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    """An unused way; fails the test after which it leaves a file, a task or a child behind."""
    server = request.getfixturevalue("ssh_server") if transport_kind == "ssh" else None
    tasks, files = asyncio.all_tasks(), open_files()
    transport: Transport
    if server is None:
        transport = LocalTransport({**os.environ, "JOBMGR_TOKEN": "secret", "PGPASSWORD": "secret"})
    else:
        from jobmgr.transports.ssh.connection import Connection
        from jobmgr.transports.ssh.transport import SshTransport

        transport = SshTransport(Connection(server.host()))
    yield transport
    await transport.close()
    await eventually(lambda: asyncio.all_tasks() <= tasks | {asyncio.current_task()})
    await eventually(lambda: open_files() <= files)


def open_files() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))

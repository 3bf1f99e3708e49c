"""Nobody passes for the service's own user who is not, on the port and on the Unix socket."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.api.server import Server
from jobmgr.service import JobManager
from tests.api.conftest import TOKEN
from tests.security.guards import FORWARDED, PEER, REQUIRED_TOKEN, SOCKET_MODE, UNIX_PEER, rests_on

STRANGER_UID = 12345
# Becomes the user of its first argument, if there is one, sends the request on its standard input to host and port, or
# to a path, and prints the answer's head.
_CLIENT = """
import os, socket, sys
_, uid, *where = sys.argv
if uid:
    os.setgid(int(uid)); os.setuid(int(uid))
client = socket.socket(socket.AF_UNIX) if len(where) == 1 else socket.socket()
client.connect(where[0] if len(where) == 1 else (where[0], int(where[1])))
client.sendall(sys.stdin.buffer.read())
print(client.recv(12).decode())
"""
# What proxies, balancers and their clouds add, in spellings that get through one or another of them.
FORWARDS = (
    "Forwarded: for=127.0.0.1",
    "forwarded:",
    "FORWARDED: for=_hidden",
    "X-Forwarded-For: 127.0.0.1",
    "x-forwarded-for: 127.0.0.1, 127.0.0.1",
    "X-FORWARDED-FOR: ::1",
    "X_Forwarded_For: 127.0.0.1",
    "X-Forwarded-Host: localhost",
    "X-Forwarded-Proto: http",
    "X-Forwarded-Port: 80",
    "X-Forwarded-Server: here",
    "X-Forwarded: 127.0.0.1",
    "X-Forwarded-Prefix: /",
    "X-Real-IP: 127.0.0.1",
    "X-Client-IP: 127.0.0.1",
    "True-Client-IP: 127.0.0.1",
    "CF-Connecting-IP: 127.0.0.1",
    "X-Original-URL: /",
    "Via: 1.1 here",
    "via:",
    "Accept: */*\r\nVia: 1.1 a\r\nVia: 1.1 b",
    "X-Forwarded-For: 10.0.0.1\r\nx-forwarded-for: 127.0.0.1",
)

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can start a client as another user")


@dataclass(frozen=True)
class Door:
    """A way to the service."""

    family: int
    address: str | tuple[str, int]

    async def status(self, *headers: str) -> int:
        """What a request with these lines is answered."""
        return int((await asyncio.to_thread(self._ask, request(*headers))).split()[1])

    def _ask(self, data: bytes) -> bytes:
        with socket.socket(self.family) as client:
            client.settimeout(20)
            client.connect(self.address)
            client.sendall(data)
            return client.recv(12)


def request(*headers: str) -> bytes:
    return "\r\n".join(["GET /api/v1/jobs HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


@pytest.fixture
def path() -> Iterator[Path]:
    # What a stranger does at the file must not already fail at the directories of the tests.
    with tempfile.TemporaryDirectory(prefix="jobmgr-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "socket"


@pytest_asyncio.fixture
async def server(manager: JobManager, path: Path) -> AsyncIterator[Server]:
    async with Server(
        manager, host="127.0.0.1", port=0, token=TOKEN, socket_path=path, allowed_hosts=["localhost"]
    ) as server:
        yield server


@pytest_asyncio.fixture
async def strict(manager: JobManager, path: Path) -> AsyncIterator[Server]:
    """One that requires tokens."""
    async with Server(
        manager,
        host="127.0.0.1",
        port=0,
        token=TOKEN,
        socket_path=path,
        allowed_hosts=["localhost"],
        require_token=True,
    ) as server:
        yield server


@pytest.fixture(params=["ipv4", "ipv6 mapped", "unix"])
def door(request: pytest.FixtureRequest, server: Server, path: Path) -> Door:
    port = int(server.url.rsplit(":", 1)[1])
    doors = {
        "ipv4": Door(socket.AF_INET, ("127.0.0.1", port)),
        "ipv6 mapped": Door(socket.AF_INET6, ("::ffff:127.0.0.1", port)),
        "unix": Door(socket.AF_UNIX, str(path)),
    }
    return doors[request.param]


@rests_on(FORWARDED)
async def test_what_comes_through_a_proxy_is_nobody(door: Door) -> None:
    answers = {forward: await door.status(forward) for forward in FORWARDS}

    assert set(answers.values()) == {401}, answers


@rests_on(FORWARDED)
async def test_what_comes_through_a_proxy_at_the_ipv6_loopback_is_nobody(manager: JobManager) -> None:
    try:
        server = await Server(
            manager, host="::1", port=0, token=TOKEN, allowed_hosts=["localhost"]
        ).__aenter__()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    door = Door(socket.AF_INET6, ("::1", int(server.url.rsplit(":", 1)[1])))
    try:
        answers = {forward: await door.status(forward) for forward in FORWARDS}
    finally:
        await server.__aexit__(None, None, None)

    assert set(answers.values()) == {401}, answers


async def stranger(*where: str) -> str:
    """What another user of this machine is answered there."""
    return await answered(*where, uid=str(STRANGER_UID))


async def answered(*where: str, uid: str = "", within: Sequence[str] = ()) -> str:
    """The first bytes of what a client is answered there, or why there are none; it is started by `within`."""
    # The interpreter of a virtual environment may lie where strangers cannot read.
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    done = await asyncio.to_thread(
        subprocess.run,
        [*within, python, "-I", "-c", _CLIENT, uid, *where],
        input=request(),
        capture_output=True,
        timeout=30,
        check=False,
        cwd="/",
    )
    return (done.stdout or done.stderr).decode().strip().splitlines()[-1]


@needs_root
@rests_on(PEER)
async def test_another_user_of_this_machine_is_nobody_at_the_port(server: Server) -> None:
    assert await stranger("127.0.0.1", server.url.rsplit(":", 1)[1]) == "HTTP/1.1 401"


@needs_root
@rests_on(UNIX_PEER)
async def test_another_user_of_this_machine_is_nobody_at_the_socket(server: Server, path: Path) -> None:
    # As if the mode had been given up.
    await asyncio.to_thread(path.chmod, 0o666)

    assert await stranger(str(path)) == "HTTP/1.1 401"


@needs_root
@rests_on(SOCKET_MODE)
async def test_another_user_of_this_machine_does_not_even_reach_the_socket(
    server: Server, path: Path
) -> None:
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
    assert "PermissionError" in await stranger(str(path))


@rests_on(REQUIRED_TOKEN)
async def test_where_tokens_are_required_a_connection_of_the_own_user_is_nobody(
    strict: Server, path: Path
) -> None:
    port = Door(socket.AF_INET, ("127.0.0.1", int(strict.url.rsplit(":", 1)[1])))
    file = Door(socket.AF_UNIX, str(path))

    assert [await port.status(), await file.status()] == [401, 401]
    assert await port.status(f"Authorization: Bearer {TOKEN}") == 200


@pytest.fixture(params=["unmapped", "--map-root-user", "--map-user=1000"])
def namespace(request: pytest.FixtureRequest) -> list[str]:
    """A command that runs another one in a user namespace of its own, where its user is called otherwise."""
    unshare = ["unshare", "--user", *([] if request.param == "unmapped" else [request.param])]
    try:
        subprocess.run([*unshare, "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine makes no such user namespace: {error}")
    return unshare


# Without the guard it is let in: what the document says of those whose setting this is not.
@rests_on(REQUIRED_TOKEN)
@pytest.mark.parametrize("way", ["port", "socket"])
async def test_where_tokens_are_required_the_own_user_in_a_user_namespace_is_nobody(
    strict: Server, path: Path, namespace: list[str], way: str
) -> None:
    where = ["127.0.0.1", strict.url.rsplit(":", 1)[1]] if way == "port" else [str(path)]

    assert await answered(*where, within=namespace) == "HTTP/1.1 401"

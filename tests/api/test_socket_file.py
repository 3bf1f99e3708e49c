"""The Unix socket beside the port, and its file."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from jobmgr.api.server import Server
from jobmgr.api.socket_file import listening
from jobmgr.client import Client
from jobmgr.errors import AddressUnavailable, NobodyListens, RemoteError
from jobmgr.service import JobManager
from tests.api.conftest import TOKEN


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def left_behind(path: Path) -> None:
    """The socket of a program that is gone."""
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))


async def test_own_user_is_let_in_over_the_socket(manager: JobManager, path: Path) -> None:
    async with Server(manager, host="127.0.0.1", port=0, token=TOKEN, socket_path=path):
        async with Client(f"unix:{path}") as client:
            job_id = await client.submit(["true"], draft=True)
        async with Client(f"unix://{path}", patience_s=0) as client:
            assert (await client.get(job_id)).job_id == job_id

    assert os.listdir(path.parent) == ["home"]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_the_socket_is_its_owners_wherever_the_port_is(
    manager: JobManager, path: Path, host: str
) -> None:
    async with (
        Server(manager, host=host, port=0, token=TOKEN, socket_path=path),
        Client(f"unix:{path}", token="") as client,
    ):
        assert await client.queues()


async def test_a_socket_shuts_nobody_out_of_the_port(manager: JobManager, path: Path) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": "jobs.example.org:8080"}
    async with (
        Server(manager, host="0.0.0.0", port=0, token=TOKEN, socket_path=path) as server,
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{server.url}/api/v1/queues") as answer,
    ):
        assert answer.status == 200


async def test_where_tokens_are_required_the_owner_needs_one_too(manager: JobManager, path: Path) -> None:
    async with Server(
        manager, host="127.0.0.1", port=0, token=TOKEN, socket_path=path, require_token=True
    ) as server:
        for url in (f"unix:{path}", server.url):
            async with Client(url, token="", patience_s=0) as client:
                with pytest.raises(RemoteError) as refused:
                    await client.queues()
            async with Client(url, token=TOKEN) as client:
                assert await client.queues()
            assert refused.value.status == 401


async def test_socket_that_is_not_there_is_nobody(path: Path) -> None:
    async with Client(f"unix:{path}", patience_s=0) as client:
        with pytest.raises(NobodyListens, match=f"unix:{path}"):
            await client.queues()


def test_socket_is_its_owners_only(path: Path) -> None:
    old = os.umask(0)
    try:
        with listening(path):
            assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_socket_of_a_program_that_is_gone_is_replaced(path: Path) -> None:
    left_behind(path)

    with listening(path) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        listener.accept()[0].close()

    assert not path.exists()


def test_socket_at_which_somebody_listens_is_left_alone(path: Path) -> None:
    with listening(path) as first:
        with pytest.raises(AddressUnavailable, match=r"a program listens there.*--socket"), listening(path):
            pass
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            first.accept()[0].close()


def test_file_of_somebody_else_is_left_alone(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(AddressUnavailable, match="no socket"), listening(path):
        pass
    assert path.read_text() == "mine"

    path.unlink()
    path.symlink_to("elsewhere")
    with pytest.raises(AddressUnavailable, match="no socket"), listening(path):
        pass
    assert not (path.parent / "elsewhere").exists()

    path.unlink()
    path.symlink_to("dead")
    left_behind(path.parent / "dead")
    with pytest.raises(AddressUnavailable, match="no socket"), listening(path):
        pass
    assert (path.parent / "dead").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can leave a socket of another user")
def test_socket_of_another_user_is_left_alone(path: Path) -> None:
    left_behind(path)
    os.chown(path, 12345, 12345)

    with pytest.raises(AddressUnavailable, match="another user"), listening(path):
        pass

    assert path.exists()


def test_socket_that_somebody_put_in_the_place_of_ours_stays(path: Path) -> None:
    with listening(path):
        path.unlink()
        left_behind(path)

    assert path.exists()


@pytest.mark.parametrize("name", ["x" * 200, "no/such/folder", "a\0b"])
def test_path_that_no_socket_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AddressUnavailable, match="--socket"), listening(tmp_path / name):
        pass


def test_of_many_who_find_a_dead_socket_one_gets_it(path: Path) -> None:
    left_behind(path)
    program = (
        "import sys; from pathlib import Path; from jobmgr.api.socket_file import listening\n"
        "sys.stdin.readline()\n"
        "with listening(Path(sys.argv[1])): print('mine', flush=True); sys.stdin.readline()"
    )
    several = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(4)
    ]
    for one in several:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()

    said = [one.stdout.readline() for one in several if one.stdout is not None]

    assert sorted(said) == ["", "", "", "mine\n"]
    for one in several:
        one.communicate("end\n", timeout=30)

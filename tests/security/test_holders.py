"""What keepers and wardens are told by others than their service."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.executors import gate
from jobmgr.executors.messages import Message, pack
from jobmgr.service import JobManager
from tests.api.conftest import eventually
from tests.security.guards import PEER_OF_HOLDERS, WHOLE_MESSAGES, rests_on
from tests.security.test_doors import STRANGER_UID, needs_root

# Becomes the user of its first argument, if there is one, sends its standard input to a socket, and prints the answer.
_CLIENT = """
import os, socket, sys
_, uid, path = sys.argv
if uid:
    os.setgid(int(uid)); os.setuid(int(uid))
client = socket.socket(socket.AF_UNIX)
client.settimeout(20)
client.connect(path)
try:
    client.sendall(sys.stdin.buffer.read())
    sys.stdout.buffer.write(client.recv(65536))
except ConnectionError:
    pass
"""


async def told(path: str, message: Message, *, uid: str = "") -> str:
    """What whoever holds attempts answers; nothing if the connection is ended, or nobody is there."""
    # The interpreter of a virtual environment may lie where strangers cannot read.
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    done = await asyncio.to_thread(
        subprocess.run,
        [python, "-I", "-c", _CLIENT, uid, path],
        input=pack(message),
        capture_output=True,
        timeout=30,
        check=False,
        cwd="/",
    )
    assert b"PermissionError" not in done.stderr
    # The length stands before it.
    return done.stdout.decode(errors="replace")


@pytest_asyncio.fixture
async def attempt() -> AsyncIterator[gate.Content]:
    """The gate of an attempt that runs, while no service does: it would come back to a keeper that hung up on it."""
    # What a stranger does at the sockets must not already fail at the directories of the tests.
    with tempfile.TemporaryDirectory(prefix="jobmgr-", dir="/tmp") as folder:
        database = f"sqlite:///{folder}/jobs.db"
        async with JobManager(database=database, work_dir=folder) as manager:
            job_id = await manager.submit(["sleep", "600"])

            async def is_running() -> bool:
                return (await manager.get(job_id)).status == "running"

            await eventually(is_running)
        found = gate.read(f"{folder}/control/{job_id}/1")
        assert found is not None
        yield found
        Path(found["holder"]["socket"]).parent.chmod(0o700)
        async with JobManager(database=database, work_dir=folder) as manager:
            await manager.cancel(job_id)
            await manager.wait(job_id, 30)


@needs_root
@rests_on(PEER_OF_HOLDERS)
@pytest.mark.parametrize("who", ["keeper", "warden"])
async def test_another_user_of_this_machine_gives_no_orders(attempt: gate.Content, who: str) -> None:
    holder = attempt["holder"]
    path = Path(holder["socket"] if who == "keeper" else holder["warden"]["socket"])
    # As if the modes had been given up.
    for each, mode in ((path, 0o666), (path.parent, 0o755), (path.parent.parent, 0o755)):
        await asyncio.to_thread(each.chmod, mode)

    assert await told(str(path), {"op": "attach", "token": attempt["token"]}, uid=str(STRANGER_UID)) == ""


@rests_on(WHOLE_MESSAGES)
@pytest.mark.parametrize("who", ["keeper", "warden"])
async def test_a_message_that_says_too_little_ends_no_holder(attempt: gate.Content, who: str) -> None:
    holder = attempt["holder"]
    path = holder["socket"] if who == "keeper" else holder["warden"]["socket"]

    assert await told(path, {"op": "attach"}) == ""
    assert attempt["token"] in await told(path, {"op": "attach", "token": attempt["token"]})

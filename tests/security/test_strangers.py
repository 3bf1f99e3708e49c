"""A second user of the same machine, without a token: nothing, over every route, event streams and Socket.IO."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys

import pytest

from jobmgr.api.routes import ROUTES
from tests.api.conftest import Api
from tests.api.test_guard import STRANGER_UID, needs_root
from tests.security.guards import OWN_USER, SAME_TOKEN, rests_on

# Asks, as another user, for what it reads from its standard input, and writes what was answered.
_CLIENT = """
import http.client, json, os, sys
os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
answers = []
for method, path, headers, body in json.load(sys.stdin):
    connection = http.client.HTTPConnection(sys.argv[2], int(sys.argv[3]), timeout=20)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    is_endless = answer.headers["Content-Type"] == "text/event-stream" or answer.status == 101
    answers.append([answer.status, "" if is_endless else answer.read().decode(errors="replace")])
    connection.close()
print(json.dumps(answers))
"""
_JSON = {"Content-Type": "application/json"}
_UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
Asked = tuple[str, str, dict[str, str], str | None]


async def ask(url: str, asked: list[Asked]) -> list[tuple[int, str]]:
    host, port = url.removeprefix("http://").split(":")
    # The interpreter of a virtual environment may lie where strangers cannot read.
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable

    def run() -> str:
        command = [python, "-I", "-c", _CLIENT, str(STRANGER_UID), host, port]
        done = subprocess.run(
            command,
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd="/",
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return [(status, body) for status, body in json.loads(await asyncio.to_thread(run))]


@needs_root
@rests_on(OWN_USER)
async def test_stranger_gets_nothing_on_any_route(api: Api) -> None:
    await api.submit("true", job_id="mine", name="secret", draft=True)
    asked: list[Asked] = []
    for route in ROUTES:
        if not route.is_open:
            path = route.path.replace("{job_id}", "mine").replace("{path:[\\s\\S]+}", "stdout")
            body = None if route.method == "GET" else "{}"
            asked.append((route.method, path.replace("{name}", "default"), _JSON if body else {}, body))

    answers = await ask(api.url, asked)

    for (method, path, *_), (status, body) in zip(asked, answers, strict=True):
        assert status == 401, (method, path, body)
        assert "secret" not in body
    job = await api.manager.get("mine")
    assert (job.v, job.status) == (1, "pending")


@needs_root
@rests_on(OWN_USER)
async def test_stranger_hears_nothing(api: Api) -> None:
    stream = {"Accept": "text/event-stream"}
    asked: list[Asked] = [
        ("GET", "/api/v1/events", stream, None),
        ("GET", "/api/v1/events?after=0", stream, None),
        ("GET", "/socket.io/?EIO=4&transport=polling", {}, None),
        ("POST", "/socket.io/?EIO=4&transport=polling", {"Content-Type": "text/plain"}, "40"),
        ("GET", "/socket.io/?EIO=4&transport=websocket", _UPGRADE, None),
    ]

    answers = await ask(api.url, asked)

    assert [status for status, _ in answers] == [401] * len(asked)


@needs_root
@rests_on(SAME_TOKEN)
@pytest.mark.parametrize("shown", ["Bearer ", "Bearer wrong", "bearer", "Bearer None"])
async def test_stranger_gains_nothing_with_what_is_no_token(api: Api, shown: str) -> None:
    ((status, _),) = await ask(api.url, [("GET", "/api/v1/jobs", {"Authorization": shown}, None)])

    assert status == 401

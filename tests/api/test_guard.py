"""Who is let in: the service's own user, whoever shows the token, and no other site's page."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

from jobmgr.api.app import make_app
from jobmgr.api.browser import Browsers
from jobmgr.api.guard import Guard, is_loopback, own_hosts, own_uid
from jobmgr.api.limits import Limits
from jobmgr.api.server import Server
from jobmgr.service import JobManager
from tests.api.conftest import OWNER, TOKEN, Api, eventually, serving
from tests.patience import is_ended

BEARER = {"Authorization": f"Bearer {TOKEN}"}
JOB = {"command": ["true"], "draft": True}
STRANGER_UID = 12345

# Prints the status of a GET with the headers `name=value` given, as another user.
CLIENT = """
import http.client, os, sys
os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
connection = http.client.HTTPConnection(sys.argv[2], int(sys.argv[3]))
connection.request("GET", "/api/v1/jobs", headers=dict(argument.split("=", 1) for argument in sys.argv[4:]))
print(connection.getresponse().status)
"""
HASTY_REQUESTS = 50
# Asks and is gone before anybody can look at whose connection it was.
HASTY_CLIENT = f"""
import os, socket, sys
os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
for _ in range({HASTY_REQUESTS}):
    connection = socket.create_connection((sys.argv[2], int(sys.argv[3])))
    connection.sendall(b"POST /api/v1/jobs/mine/cancel HTTP/1.1\\r\\nHost: here\\r\\n\\r\\n")
    connection.close()
"""

needs_root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can start a client as another user"
)


def run_as_stranger(program: str, url: str, headers: Mapping[str, str] | None = None) -> str:
    """Run `program` as a user who is not the service's; answers what it printed."""
    host, port = url.removeprefix("http://").split(":")
    # The interpreter of a virtual environment may lie where strangers cannot read.
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    arguments = [f"{name}={value}" for name, value in (headers or {}).items()]
    command = [python, "-I", "-c", program, str(STRANGER_UID), host, port, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest_asyncio.fixture
async def token_api(manager: JobManager) -> AsyncIterator[Api]:
    """The service bound to an address that others can reach."""
    async with (
        Server(manager, host="0.0.0.0", port=0, token=TOKEN) as server,
        aiohttp.ClientSession() as session,
    ):
        yield Api(manager, server.url, session)


async def test_own_user_needs_no_token(api: Api) -> None:
    assert (await api.get("/api/v1/jobs")).status == 200


async def test_own_user_is_let_in_through_an_ipv6_socket(api: Api) -> None:
    port = int(api.url.rsplit(":", 1)[1])

    def ask() -> bytes:
        with socket.socket(socket.AF_INET6) as client:
            client.settimeout(10)
            client.connect(("::ffff:127.0.0.1", port))
            client.sendall(f"GET /api/v1/jobs HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            return client.recv(1000)

    assert b" 200 " in await asyncio.to_thread(ask)


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
async def test_own_user_is_let_in_at_the_ipv6_loopback(manager: JobManager) -> None:
    try:
        server = await Server(manager, host="::1", port=0, token=TOKEN).__aenter__()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/api/v1/jobs") as response:
        assert response.status == 200
    await server.__aexit__(None, None, None)


@needs_root
async def test_other_user_needs_the_token(api: Api) -> None:
    assert await asyncio.to_thread(run_as_stranger, CLIENT, api.url) == "401"
    assert (
        await asyncio.to_thread(run_as_stranger, CLIENT, api.url, {"Authorization": "Bearer wrong"}) == "401"
    )
    assert await asyncio.to_thread(run_as_stranger, CLIENT, api.url, BEARER) == "200"


@needs_root
async def test_other_user_gains_nothing_by_hanging_up(manager: JobManager) -> None:
    # The kernel shows a socket without an owner as root's, which is who this service runs as.
    tried, admitted = [], []

    @web.middleware
    async def before(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        finally:
            tried.append(request.path)

    @web.middleware
    async def behind(request: web.Request, handler: Handler) -> web.StreamResponse:
        admitted.append(request.path)
        return await handler(request)

    async def all_tried() -> bool:
        return len(tried) == HASTY_REQUESTS

    app = make_app(manager, Guard(TOKEN, own_uid(), loopback=True, browsers=Browsers(), owner=OWNER))
    app.middlewares.insert(0, before)
    app.middlewares.append(behind)
    async with serving(app) as url:
        await asyncio.to_thread(run_as_stranger, HASTY_CLIENT, url)
        await eventually(all_tried)

    assert admitted == []


@pytest.mark.skipif(own_uid() is None, reason="this system does not tell whose connection it is")
async def test_peer_that_was_not_found_is_looked_for_again(api: Api) -> None:
    assert (await api.get("/healthz")).status == 200
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    # The connection is open already, and nothing more can be opened, the kernel's table neither.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        refused = await api.get("/api/v1/jobs")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    admitted = await api.get("/api/v1/jobs")

    refused.problem(401, "token_required")
    assert admitted.status == 200


async def test_connections_of_strangers_give_way(manager: JobManager) -> None:
    async with (
        Server(manager, host="127.0.0.1", port=0, token=TOKEN, limits=Limits(most_connections=4)) as server,
        aiohttp.ClientSession() as session,
    ):
        port = int(server.url.rsplit(":", 1)[1])
        assert (await session.get(f"{server.url}/api/v1/jobs")).status == 200
        strangers = []
        for _ in range(6):
            strangers.append(await asyncio.open_connection("127.0.0.1", port))
            # Its answer says that the connection was taken up.
            strangers[-1][1].write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in await strangers[-1][0].readline()
        assert (await session.get(f"{server.url}/api/v1/jobs")).status == 200

        ended = [await is_ended(reader) for reader, _ in strangers]
        for _, writer in strangers:
            writer.close()

    assert ended == [True] * 3 + [False] * 3


async def test_forwarded_request_needs_the_token(api: Api) -> None:
    for name in ("Forwarded", "X-Forwarded-For", "x-forwarded-host", "X-Forwarded-Proto", "Via", "X-Real-IP"):
        answer = await api.get("/api/v1/jobs", headers={name: "1"})
        answer.problem(401, "token_required")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")

    assert (await api.get("/api/v1/jobs", headers={"X-Forwarded-For": "1", **BEARER})).status == 200
    assert (await api.get("/api/v1/jobs")).status == 200


async def test_reachable_service_always_asks_for_the_token(token_api: Api) -> None:
    (await token_api.get("/api/v1/jobs")).problem(401, "token_required")
    (await token_api.post("/api/v1/jobs", json=JOB)).problem(401, "token_required")

    assert (await token_api.get("/api/v1/jobs", headers=BEARER)).status == 200
    assert (await token_api.get("/api/v1/jobs", headers={"Authorization": f"bearer {TOKEN}"})).status == 200
    assert (await token_api.get("/api/v1/jobs", headers={**BEARER, "Host": "cluster:8080"})).status == 200


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN[:-1]}",
        "Bearer é",
    ],
)
async def test_wrong_token_is_refused(token_api: Api, wrong: str) -> None:
    answer = await token_api.get("/api/v1/jobs", headers={"Authorization": wrong})
    answer.problem(401, "token_unknown")


async def test_empty_token_lets_nobody_in(manager: JobManager) -> None:
    app = make_app(manager, Guard("", None, loopback=True, browsers=Browsers(), owner=OWNER))
    async with serving(app) as url, aiohttp.ClientSession(headers={"Authorization": "Bearer "}) as session:
        response = await session.get(f"{url}/api/v1/jobs")

    assert response.status == 401


async def test_health_is_open_to_everybody(token_api: Api) -> None:
    assert (await token_api.get("/healthz")).json == {"status": "ok"}
    assert (await token_api.get("/healthz", headers={"Host": "elsewhere"})).status == 200
    (await token_api.get("/readyz")).problem(401, "token_required")


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.evil.example:{port}", "[::1]"]
)
async def test_name_of_another_is_refused(api: Api, host: str) -> None:
    port = api.url.rsplit(":", 1)[1]

    answer = await api.get("/api/v1/jobs", headers={"Host": host.format(port=port)})

    answer.problem(421, "wrong_host")


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "[::1]:{port}"])
async def test_own_names_are_known(api: Api, host: str) -> None:
    port = api.url.rsplit(":", 1)[1]

    assert (await api.get("/api/v1/jobs", headers={"Host": host.format(port=port)})).status == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1", "file://"]
)
async def test_page_of_another_site_is_refused(api: Api, origin: str) -> None:
    headers = {"Origin": origin}

    (await api.get("/api/v1/jobs", headers=headers)).problem(403, "wrong_origin")
    after_ours = CIMultiDict([("Origin", api.url), ("Origin", origin)])
    (await api.get("/api/v1/jobs", headers=after_ours)).problem(403, "wrong_origin")
    (await api.post("/api/v1/jobs", json=JOB, headers=headers)).problem(403, "wrong_origin")
    (await api.post("/api/v1/jobs/x/cancel", headers=headers)).problem(403, "wrong_origin")
    (await api.get("/socket.io/?EIO=4&transport=polling", headers=headers)).problem(403, "wrong_origin")
    assert await api.count() == 0


async def test_own_page_is_let_in(api: Api) -> None:
    for name in ("127.0.0.1", "localhost"):
        url = api.url.replace("127.0.0.1", name)
        headers = {"Host": url.removeprefix("http://"), "Origin": url, "Sec-Fetch-Site": "same-origin"}
        answer = await api.post("/api/v1/jobs", json=JOB, headers=headers)
        assert answer.status == 201


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_change_asked_by_another_site_is_refused(api: Api, site: str) -> None:
    job_id = await api.submit("true", draft=True)

    answer = await api.post(f"/api/v1/jobs/{job_id}/cancel", headers={"Sec-Fetch-Site": site})

    answer.problem(403, "wrong_origin")
    assert (await api.manager.get(job_id)).status == "pending"


async def test_answers_carry_hardening_headers(api: Api) -> None:
    for path in ("/api/v1/jobs", "/healthz", "/nothing", "/openapi.json"):
        headers = (await api.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers


async def test_socket_handshake_meets_the_guard(token_api: Api) -> None:
    path = "/socket.io/?EIO=4&transport=polling"

    (await token_api.get(path)).problem(401, "token_required")
    assert (await token_api.get(path, headers=BEARER)).status == 200


def test_hosts_of_a_bind_address() -> None:
    assert own_hosts("127.0.0.1", 8080) == {"127.0.0.1:8080", "localhost:8080", "[::1]:8080"}
    assert "127.0.0.2:8080" in own_hosts("127.0.0.2", 8080)
    assert {"localhost", "localhost:80"} <= own_hosts("localhost", 80)
    assert own_hosts("0.0.0.0", 8080) == frozenset()
    assert own_hosts("127.0.0.1", 8080, frozenset({"jobs"})) == {
        "jobs",
        "127.0.0.1:8080",
        "localhost:8080",
        "[::1]:8080",
    }
    assert {"jobs", "10.0.0.1:8080"} <= own_hosts("10.0.0.1", 8080, frozenset({"jobs"}))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.com", False),
        ("localhost.evil.example", False),
    ],
)
def test_loopback_addresses_are_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback

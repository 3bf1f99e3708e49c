"""Logs and files over REST of jobs that ran at a host over SSH."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio
from yarl import URL

from jobmgr.client import Client
from jobmgr.errors import LoginRefused
from jobmgr.hfss import HFSSSimulationConfig, SchedulerOptions
from jobmgr.hfss.job import new_job
from jobmgr.store import sites
from tests.api.conftest import TOKEN, Api, eventually
from tests.hfss.installed import install_solver, log_of, make_project
from tests.transports.conftest import MakeServer
from tests.transports.proxy import Proxy
from tests.transports.sshd import SshServer, make_key

BYTES = bytes(range(256)) * 4
MEBIBYTE = 1024**2


async def put(api: Api, server: SshServer, work_dir: Path, name: str = "far", **ssh: Any) -> None:
    """Make `name` a site at that server."""
    host = server.host()
    kept = ("user", "port", "key_file", "known_hosts_file", "config_file")
    given = {field: getattr(host, field) for field in kept}
    fields = {"kind": "shell", "host": host.name, "work_dir": str(work_dir), "ssh": {**given, **ssh}}
    answer = await api.request("PUT", f"/api/v1/sites/{name}", json=fields)
    assert answer.status == 200, answer


@pytest.fixture
def server(make_server: MakeServer) -> SshServer:
    """A host."""
    return make_server()


@pytest_asyncio.fixture
async def far(api: Api, server: SshServer, tmp_path: Path) -> Api:
    """The service, with the site `far` there, whose work directory is in `tmp_path`."""
    await put(api, server, tmp_path / "far")
    assert (await api.post("/api/v1/sites/far/test")).json["is_well"]
    return api


@pytest_asyncio.fixture
async def client(api: Api) -> AsyncIterator[Client]:
    async with Client(api.url, TOKEN, patience_s=600) as client:
        yield client


async def ran(api: Api, script: str) -> str:
    """The address of a job that ran there; its files do not lie where those of this machine do."""
    job = await api.run("sh", "-c", script, site="far")
    assert job.exit_code == 0, job
    assert not (api.manager.parts.runs / job.job_id).exists()
    return f"/api/v1/jobs/{job.job_id}"


async def is_answered(api: Api, path: str) -> bool:
    return (await api.get(path)).status == 200


async def holds(words: str, said: Callable[[], Awaitable[str]]) -> bool:
    return words in await said()


async def test_sites_at_one_host_are_reached_over_one_connection(
    api: Api, server: SshServer, tmp_path: Path
) -> None:
    async with Proxy(server.port) as proxy:
        server.trust_at(proxy.port)
        for name in ("one", "two"):
            await put(api, server, tmp_path / name, name, port=proxy.port)
            assert (await api.post(f"/api/v1/sites/{name}/test")).json["is_well"]
            assert (await api.run("true", site=name)).exit_code == 0
        at_first = proxy.connections
        # With settings of its own it goes its own way.
        await put(api, server, tmp_path / "one", "one", port=proxy.port, sessions=4)
        for name in ("one", "two"):
            assert (await api.run("true", site=name)).exit_code == 0

        assert (at_first, proxy.connections) == (1, 2)


async def test_log_is_read_in_pieces(far: Api, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(BYTES)
    log = await ran(far, f"cat {tmp_path}/source; seq 3 >&2") + "/logs/"

    whole = await far.get(f"{log}stdout")
    window = await far.get(f"{log}stdout?offset=10&limit=5")
    behind = await far.get(f"{log}stdout?offset=9999999")
    tail = await far.get(f"{log}stderr?tail=2")
    part = await far.get(f"{log}stdout", headers={"Range": "bytes=-24"})
    head = await far.request("HEAD", f"{log}stdout")

    assert (whole.status, whole.body, whole.headers["X-Log-Size"]) == (200, BYTES, "1024")
    assert (window.body, window.headers["X-Log-Offset"]) == (BYTES[10:15], "10")
    assert (behind.body, behind.headers["X-Log-Size"]) == (b"", "1024")
    assert (tail.body, tail.headers["X-Log-Offset"]) == (b"2\n3\n", "2")
    assert (part.status, part.body, part.headers["Content-Range"]) == (
        206,
        BYTES[-24:],
        "bytes 1000-1023/1024",
    )
    assert (head.headers["Content-Length"], head.body) == ("1024", b"")
    (await far.get(f"{log}stdout", headers={"Range": "bytes=1024-"})).problem(416, "range_outside")


async def test_window_larger_than_a_command_answers_is_whole(far: Api) -> None:
    log = await ran(far, "seq 300000") + "/logs/stdout"
    whole = b"".join(b"%d\n" % number for number in range(1, 300_001))

    answer = await far.get(f"{log}?limit={16 * MEBIBYTE}")
    tail = await far.get(f"{log}?tail=200000&limit={16 * MEBIBYTE}")

    assert len(whole) > MEBIBYTE
    assert answer.body == whole
    assert tail.body == whole[whole.index(b"\n100001\n") + 1 :]


async def test_progress_is_read_from_the_log_of_a_run_there(far: Api, client: Client, tmp_path: Path) -> None:
    edt = install_solver(tmp_path / "v252")
    project = make_project(tmp_path / "my study" / "antenna.aedt")
    # A plain host limits no times.
    options = SchedulerOptions(time="unlimited")
    config = HFSSSimulationConfig(
        ansys_edt_path=edt, project_path=project, jobid="one", scheduler_options=options
    )
    await far.manager.store_jobs([replace(new_job(config, user="ann"), site="far")])
    assert (await client.wait("one", 60)).exit_code == 0
    (log_of(project).parent.parent / "antenna.aedb.batchinfo.9").mkdir()
    other = log_of(project).parent.parent / "antenna.aedb.batchinfo.9" / "antenna.log"
    other.write_bytes(log_of(project).read_bytes().replace(b"-jobid one ", b"-jobid two "))

    told = await client.progress("one")

    assert told.line == "converged after 3 passes, 24,000 tetrahedra, delta S 0.04, sweep 3/3"
    assert told.log == str(log_of(project))
    assert told.state is not None
    assert told.state["log_parser"]["is_completed"]


async def test_files_are_listed_and_downloaded(far: Api, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(BYTES)
    files = await ran(far, f"mkdir deep && cp {tmp_path}/source deep/a && : >empty") + "/files"

    listed = (await far.get(files)).json["files"]
    whole = await far.get(f"{files}/deep/a")
    empty = await far.get(f"{files}/empty")
    head = await far.request("HEAD", f"{files}/deep/a")
    parts = [
        await far.get(f"{files}/deep/a", headers={"Range": asked})
        for asked in ("bytes=0-3", "bytes=1000-", "bytes=-24", "bytes=-5000")
    ]

    assert {entry["path"]: entry["size_bytes"] for entry in listed} == {
        "deep/a": 1024, "empty": 0, "stderr": 0, "stdout": 0,
    }  # fmt: skip
    assert (whole.status, whole.body, empty.status, empty.body) == (200, BYTES, 200, b"")
    assert whole.headers["Content-Disposition"] == "attachment; filename*=UTF-8''a"
    assert (head.headers["Content-Length"], head.body) == ("1024", b"")
    assert [part.body for part in parts] == [BYTES[:4], BYTES[1000:], BYTES[-24:], BYTES]
    for asked in ("bytes=1024-", "bytes=-0"):
        (await far.get(f"{files}/deep/a", headers={"Range": asked})).problem(416, "range_outside")


async def test_huge_file_is_never_in_memory(far: Api) -> None:
    path = await ran(far, "truncate -s 3G big") + "/files/big"
    before = psutil.Process().memory_info().rss

    async with far.session.get(far.url + path) as response:
        assert response.content_length == 3 * 1024**3
        await response.content.readexactly(8 * MEBIBYTE)
        response.close()
    part = await far.get(path, headers={"Range": f"bytes={3 * 1024**3 - 10}-"})

    assert part.body == bytes(10)
    assert psutil.Process().memory_info().rss - before < 100 * MEBIBYTE


async def test_nothing_but_regular_files_of_the_run_directory_is_served(far: Api, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    files = await ran(far, f"ln -s {secret} link; ln -s / root; mkfifo pipe; mkdir d; ln -s .. up") + "/files"

    for path in ("link", f"root{secret}", "pipe", "d", "nothing", "stdout/x", "up/1/link", "root/dev/zero"):
        answer = await far.get(f"{files}/{path}")
        answer.problem(404, "file_not_found")
        assert b"secret" not in answer.body.replace(str(secret).encode(), b"")
    for path in ("..%2F..%2Fsecret", "%2Fetc%2Fpasswd", "a%00b", "..%2F1%2Fstdout"):
        async with far.session.get(URL(f"{far.url}{files}/{path}", encoded=True)) as response:
            assert response.status == 422, path
    listed = (await far.get(files)).json["files"]
    assert {entry["path"] for entry in listed} == {"stdout", "stderr"}


async def test_log_is_followed_while_the_job_runs(far: Api, client: Client, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    job_id = await far.submit("sh", "-c", f"echo one; cat {go}; echo two", site="far")

    async with aclosing(client.follow_log(job_id)) as pieces:
        first = await anext(pieces)
        go.write_text("")
        rest = [piece async for piece in pieces]

    assert (first, b"".join(rest)) == (b"one\n", b"two\n")


async def test_attempt_that_has_not_started_there_has_no_log_yet(far: Api, server: SshServer) -> None:
    server.stop()
    job_id = await far.submit("echo", "here", site="far")

    async def is_claimed() -> bool:
        return (await far.manager.get(job_id)).attempt == 1

    await eventually(is_claimed)

    answer = await far.get(f"/api/v1/jobs/{job_id}/logs/stdout")

    assert "has not started yet at far" in answer.problem(404, "file_not_found")
    server.start()
    await far.manager.wait(job_id, 60)
    assert (await far.get(f"/api/v1/jobs/{job_id}/logs/stdout")).body == b"here\n"


async def test_site_that_is_down_is_told_at_once_with_what_to_do(far: Api, server: SshServer) -> None:
    job = await ran(far, "echo here")
    server.stop()

    for path in ("/logs/stdout", "/files", "/files/stdout"):
        answer = await far.get(job + path)
        said = answer.problem(503, "site_unreachable")
        assert "`jobmgr site test far` tries the way there step by step" in said
        assert answer.headers["Retry-After"] == "1"
    assert (await far.get(job)).status == 200

    server.start()

    await eventually(lambda: is_answered(far, f"{job}/logs/stdout"))


async def test_follower_waits_for_a_site_that_is_down(far: Api, server: SshServer, client: Client) -> None:
    job = await ran(far, "echo here")
    server.stop()
    (await far.get(f"{job}/logs/stdout")).problem(503, "site_unreachable")

    async def follow() -> bytes:
        return b"".join([piece async for piece in client.follow_log(job.rpartition("/")[2])])

    following = asyncio.create_task(follow())
    server.start()

    assert await following == b"here\n"


async def test_follower_is_told_what_only_a_person_can_change(
    far: Api, server: SshServer, client: Client, tmp_path: Path
) -> None:
    job = await ran(far, "echo here")
    await put(far, server, tmp_path / "far", key_file=str(make_key(tmp_path / "other")))

    async def is_refused() -> bool:
        return (await far.get(f"{job}/logs/stdout")).status == 503

    await eventually(is_refused)

    with pytest.raises(LoginRefused, match="has to work without a question"):
        await anext(client.follow_log(job.rpartition("/")[2]))


async def test_download_breaks_off_when_the_way_there_does(far: Api, server: SshServer) -> None:
    path = await ran(far, "truncate -s 1G big") + "/files/big"

    async with far.session.get(far.url + path) as response:
        await response.content.readexactly(MEBIBYTE)
        server.stop()
        # What was on its way comes, and no more.
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()

    server.start()


async def test_site_with_another_work_directory_by_now_still_has_its_old_files(
    far: Api, server: SshServer, tmp_path: Path
) -> None:
    job = await ran(far, "echo here")

    await put(far, server, tmp_path / "other")

    # Who asks while the site is let go and taken up again is told so; after its trial it was.
    assert (await far.post("/api/v1/sites/far/test")).json["is_well"]
    assert (await far.get(f"{job}/logs/stdout")).body == b"here\n"


async def test_site_of_this_machine_is_read_without_commands(api: Api, tmp_path: Path) -> None:
    fields = {"kind": "shell", "work_dir": str(tmp_path / "far")}
    await api.request("PUT", "/api/v1/sites/far", json=fields)
    assert (await api.post("/api/v1/sites/far/test")).json["is_well"]
    job = await ran(api, "echo here")

    assert (await api.get(f"{job}/logs/stdout")).body == b"here\n"
    assert len((await api.get(f"{job}/files")).json["files"]) == 2


async def test_site_that_this_service_does_not_serve_is_told_so(far: Api) -> None:
    job = await ran(far, "echo here")
    site = await far.manager.database.read(sites.get, "far")
    await far.manager.database.write(sites.put, replace(site, work_dir=None))

    async def said() -> str:
        return str((await far.get(f"{job}/logs/stdout")).body)

    await eventually(lambda: holds("this service does not serve the site far", said))
    (await far.get(f"{job}/logs/stdout")).problem(503, "executor_unavailable")

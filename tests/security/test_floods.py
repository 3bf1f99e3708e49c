"""Who is slow on purpose, or asks without end, takes little, and not for long."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import sqlalchemy as sa

from jobmgr.api.app import make_app
from jobmgr.api.browser import Browsers
from jobmgr.api.guard import Guard
from jobmgr.api.limits import Limits
from jobmgr.api.server import Server
from jobmgr.api.throttle import Throttle
from jobmgr.domain.access import Principal, Role
from jobmgr.domain.user import write_api_token
from jobmgr.hfss import HFSSSimulationConfig
from jobmgr.manager import progress
from jobmgr.manager.job_tokens import JobTokens
from jobmgr.manager.reading import Readings
from jobmgr.manager.turns import AT_ONCE
from jobmgr.service import JobManager
from jobmgr.store.backend import READERS
from tests.api.conftest import OWNER, TOKEN, Api, serving
from tests.api.test_users import House, bearer
from tests.hfss.installed import install, make_project
from tests.patience import eventually
from tests.security.guards import (
    BODY_IN_TIME,
    FEW_LOOKS,
    GUESSES,
    KNOWN_TOKENS,
    OWN_LINE,
    OWN_SHARE,
    PATIENCE,
    PIECES,
    RATE,
    SHARE,
    TURNS,
    WAITING,
    rests_on,
)

# How long the service is waited for until it counts as patient.
PATIENT_S = 3.0
HASTY = Limits(idle_s=0.2, stall_s=0.2, body_s=0.2, body_bytes_per_s=1_000_000)


@pytest_asyncio.fixture
async def port(manager: JobManager) -> AsyncIterator[int]:
    """A service that waits for nobody."""
    async with Server(manager, host="127.0.0.1", port=0, token=TOKEN, limits=HASTY) as server:
        yield int(server.url.rsplit(":", 1)[1])


async def trickle(port: int, head: bytes, drop: bytes, wanted: bytes | None = None) -> bytes:
    """Send `head`, and then `drop` now and then, until `wanted` comes or there is an end; answers what came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    answer = asyncio.create_task(reader.read() if wanted is None else reader.readuntil(wanted))
    try:
        async with asyncio.timeout(PATIENT_S):
            while not answer.done():
                writer.write(drop)
                await asyncio.wait([answer], timeout=0.02)
            return await answer
    except TimeoutError:
        pytest.fail("the service waits for ever")
    except ConnectionError:
        return b""
    finally:
        answer.cancel()
        writer.transport.abort()


@rests_on(PATIENCE)
async def test_headers_that_trickle_end_the_connection(port: int) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"

    nothing, half = await asyncio.gather(trickle(port, b"", b""), trickle(port, head, b"X: x\r\n"))

    assert (nothing, half) == (b"", b"")


@rests_on(BODY_IN_TIME)
async def test_a_body_that_trickles_is_answered_408(port: int) -> None:
    bodies = (
        (b"Content-Type: application/json\r\nContent-Length: 1000000", b" "),
        (b"Content-Type: application/x-ndjson\r\nContent-Length: 1000000", b" "),
        (b"Content-Type: application/json\r\nTransfer-Encoding: chunked", b"1\r\n \r\n"),
    )
    head = f"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost:{port}\r\n".encode()

    answers = await asyncio.gather(
        *(trickle(port, head + kind + b"\r\n\r\n", drop, b"body_too_slow") for kind, drop in bodies)
    )

    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)


@rests_on(PATIENCE)
async def test_who_reads_nothing_does_not_keep_what_waits_for_him(port: int, manager: JobManager) -> None:
    job = await manager.wait(await manager.submit(["truncate", "-s", "1G", "big"]), 30)
    # A reader with such a small buffer takes nothing more from its socket.
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)

    writer.write(
        f"GET /api/v1/jobs/{job.job_id}/files/big HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
    )
    assert await reader.read(1)
    try:
        await eventually(lambda: not _established(port), PATIENT_S)
    finally:
        writer.transport.abort()


def _established(port: int) -> bool:
    with open("/proc/net/tcp", encoding="ascii") as table:
        return any(
            row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "01" for row in list(table)[1:]
        )


MEBIBYTE = 1024 * 1024


@rests_on(PIECES)
async def test_who_reads_a_log_slowly_does_not_keep_all_of_it(port: int, manager: JobManager) -> None:
    script = "yes 0123456789abcde | head -c 16777216"
    job = await manager.wait(await manager.submit(["sh", "-c", script]), 30)
    head = (
        f"GET /api/v1/jobs/{job.job_id}/logs/stdout?limit=16777216 HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"
    )
    lines = [socket.socket() for _ in range(4)]

    tracemalloc.start()
    try:
        for line in lines:
            # Else the kernel takes most of it.
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.connect(("127.0.0.1", port))
            line.setblocking(False)
            line.sendall(head.encode())
            assert await asyncio.get_running_loop().sock_recv(line, 12) == b"HTTP/1.1 200"
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        for line in lines:
            line.close()

    assert held < len(lines) * 6 * MEBIBYTE


CROWDED = Limits(most_connections=6)


class Crowd(House):
    """The service, and event streams that stay open."""

    def __init__(self, manager: JobManager, url: str, session: aiohttp.ClientSession) -> None:
        super().__init__(manager, url, session)
        self.streams: list[aiohttp.ClientResponse] = []

    async def listen(self, token: str) -> aiohttp.ClientResponse:
        headers = {"Accept": "text/event-stream", **bearer(token)}
        stream = await self.session.get(f"{self.url}/api/v1/events", headers=headers)
        self.streams.append(stream)
        await stream.content.readuntil(b"\n\n")
        return stream


@pytest_asyncio.fixture
async def crowded(manager: JobManager) -> AsyncIterator[tuple[Crowd, list[str]]]:
    """A service that holds six connections, and the API tokens of two users."""
    async with (
        Server(manager, host="127.0.0.1", port=0, token=TOKEN, limits=CROWDED) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as session,
    ):
        crowd = Crowd(manager, server.url, session)
        yield crowd, [await crowd.add(name) for name in ("ann", "bob")]
        for stream in crowd.streams:
            stream.close()


async def gets_in(api: Api, token: str) -> bool:
    try:
        return await ask(api, token) == 200
    except aiohttp.ClientConnectionError:
        return False


@rests_on(SHARE)
async def test_one_token_does_not_lock_out_everybody_else(crowded: tuple[Crowd, list[str]]) -> None:
    api, (ann, bob) = crowded
    kept = await api.listen(bob)

    for _ in range(8):
        try:
            await api.listen(ann)
        except aiohttp.ClientConnectionError:
            pytest.fail("the new one was shut out")

    assert [await gets_in(api, token) for token in (TOKEN, bob)] == [True, True]
    assert not kept.content.at_eof()
    assert kept.content.exception() is None


@rests_on(OWN_SHARE)
async def test_tokens_do_not_take_the_owners_connections(crowded: tuple[Crowd, list[str]]) -> None:
    api, tokens = crowded
    own = [await api.listen(TOKEN) for _ in range(5)]

    for token in tokens:
        for _ in range(3):
            await api.listen(token)

    assert [stream.content.exception() for stream in own] == [None] * 5


@pytest_asyncio.fixture
async def limited(manager: JobManager) -> AsyncIterator[Api]:
    """A service that knows two API tokens, each of which is good for ten requests at once."""
    principals = {name: Principal(name, Role.USER, token_id=name) for name in ("ann", "bob")}

    async def by_token(shown: str) -> Principal | None:
        return principals.get(shown)

    limits = Limits(requests_per_s=1, failures_per_s=0.1)
    guard = Guard(TOKEN, None, False, Browsers(), OWNER, by_token, throttle=Throttle(limits))
    async with serving(make_app(manager, guard, limits=limits)) as url, aiohttp.ClientSession() as session:
        yield Api(manager, url, session)


async def ask(api: Api, token: str, path: str = "/api/v1/queues") -> int:
    answer = await api.get(path, headers={"Authorization": f"Bearer {token}"})
    if answer.status == 429:
        answer.problem(429, "too_many_requests")
        assert int(answer.headers["Retry-After"]) >= 1
    return answer.status


@rests_on(RATE)
async def test_a_token_is_good_for_so_many_requests(limited: Api) -> None:
    flood = [await ask(limited, "ann") for _ in range(20)]

    assert flood[:10] == [200] * 10
    assert 429 in flood
    assert await ask(limited, "bob") == 200
    assert [await ask(limited, TOKEN) for _ in range(15)] == [200] * 15


async def over_one_websocket(manager: JobManager, flood: Sequence[str], answers: str) -> list[str]:
    """Send `flood`, with a token that is good for ten requests; as many answers, which begin so."""
    found: list[str] = []
    async with (
        Server(manager, host="127.0.0.1", port=0, token=TOKEN, limits=Limits(requests_per_s=1)) as server,
        aiohttp.ClientSession() as session,
    ):
        ann = await House(manager, server.url, session).add("ann")
        url = f"{server.url}/socket.io/?EIO=4&transport=websocket"
        async with session.ws_connect(url, headers=bearer(ann)) as websocket, asyncio.timeout(30):
            for packet in flood:
                await websocket.send_str(packet)
            while len(found) < len(flood):
                text = await websocket.receive_str()
                found += [text] if text.startswith(answers) else []
    return found


@rests_on(RATE)
async def test_a_token_is_good_for_so_many_subscriptions(manager: JobManager) -> None:
    subscribe = '421["subscribe",{"rooms":["events"]}]'

    answers = await over_one_websocket(manager, ["40", *[subscribe] * 15], "4")

    assert "too_many_requests" not in answers[1]
    assert "too_many_requests" in answers[-1]


@rests_on(RATE)
async def test_a_token_is_good_for_so_many_times_to_be_refused(manager: JobManager) -> None:
    answers = await over_one_websocket(manager, ['40{"rooms":["job:none"]}'] * 15, "44")

    assert "not_found" in answers[0]
    assert "too_many_requests" in answers[-1]


@rests_on(GUESSES)
async def test_a_token_is_not_guessed_for_long(limited: Api) -> None:
    assert await ask(limited, "ann") == 200

    guesses = [await ask(limited, f"guess {number}") for number in range(20)]

    assert guesses[:10] == [401] * 10
    assert guesses[-1] == 429
    # Of another one that would have to be looked up nobody knows whether it is right.
    assert await ask(limited, "bob") == 429


@rests_on(KNOWN_TOKENS)
async def test_wrong_tokens_keep_no_right_ones_out(manager: JobManager) -> None:
    tokens = JobTokens(manager.database, b"key")
    manager.parts.job_tokens = tokens
    limits = Limits(failures_per_s=0.1)
    async with (
        Server(manager, host="127.0.0.1", port=0, token=TOKEN, limits=limits, require_token=True) as server,
        aiohttp.ClientSession() as session,
    ):
        api = Api(manager, server.url, session)
        owner = {"Authorization": f"Bearer {TOKEN}"}
        asked = {"user": manager.user}
        ours, another = [
            (await api.post("/api/v1/tokens", json=asked, headers=owner)).json["token"] for _ in range(2)
        ]
        job = await manager.submit(["sleep", "60"])
        (attempt,) = await eventually(lambda: manager.attempts(job))
        assert await ask(api, ours) == 200

        guesses = [await ask(api, f"guess {number}") for number in range(20)]

        assert guesses[-1] == 429
        # Shown for the first time, as each callback of a job is.
        assert await ask(api, another) == 200
        assert await ask(api, tokens.of(job, 1, attempt.token), f"/api/v1/jobs/{job}") == 200
        assert await ask(api, ours) == 200
        assert await ask(api, TOKEN) == 200


@rests_on(FEW_LOOKS)
async def test_flood_of_guesses_is_no_flood_for_the_database(manager: JobManager) -> None:
    looks: list[str] = []

    def look(_connection: object, _cursor: object, text: str, *_: object) -> None:
        if "api_tokens.hash" in text:
            looks.append(text)

    limits = Limits(failures_per_s=0.1)
    async with (
        Server(manager, host="127.0.0.1", port=0, token=TOKEN, limits=limits, require_token=True) as server,
        aiohttp.ClientSession() as session,
    ):
        api = Api(manager, server.url, session)
        sa.event.listen(sa.Engine, "before_cursor_execute", look)
        try:
            guesses = [await ask(api, write_api_token("0" * 12, f"{number:043}")) for number in range(200)]
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", look)

    assert guesses[-1] == 429
    # Ten are looked up; then there is one look each second, and nothing here takes a minute.
    assert 0 < len(looks) < 70


@rests_on(GUESSES)
async def test_tokens_of_jobs_are_not_guessed_for_long(manager: JobManager) -> None:
    manager.parts.job_tokens = JobTokens(manager.database, b"key")
    forged = JobTokens(manager.database, b"another key")
    async with (
        Server(manager, host="0.0.0.0", port=0, token=TOKEN, limits=Limits(failures_per_s=0.1)) as server,
        aiohttp.ClientSession() as session,
    ):
        guesses = [
            await ask(Api(manager, server.url, session), forged.of("j", number, "a" * 32))
            for number in range(20)
        ]

    assert guesses[:10] == [401] * 10
    assert guesses[-1] == 429


class Flood:
    """Questions of one token that the database does not get done with, until it `may_go_on`."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.at_work = 0
        self.answers: list[asyncio.Task[int]] = []

    def look(self, _connection: object, _cursor: object, text: str, values: object, *_: object) -> None:
        # In the thread of a reader. Of events, who follows them reads so many at a time.
        if "*slow*" in str(values) or ("events.seq >" in text and "2000" in str(values)):
            self.at_work += 1
            self.may_go_on.wait(60)

    async def pour(self, api: Api, token: str, requests: int) -> None:
        """Ask so often."""
        path = "/api/v1/jobs?name=*slow*&total=true"
        self.answers = [asyncio.create_task(ask(api, token, path)) for _ in range(requests)]
        await self.spread()

    async def spread(self) -> None:
        """Wait until all that can be at work are."""
        await eventually(lambda: self.at_work >= AT_ONCE)
        with contextlib.suppress(AssertionError):
            await eventually(lambda: self.at_work >= READERS, 1.0)

    async def end(self) -> list[int]:
        self.may_go_on.set()
        return await asyncio.gather(*self.answers)


@pytest_asyncio.fixture
async def flood() -> AsyncIterator[Flood]:
    # No engine runs before, or after.
    found = Flood()
    sa.event.listen(sa.Engine, "before_cursor_execute", found.look)
    yield found
    sa.event.remove(sa.Engine, "before_cursor_execute", found.look)


@pytest_asyncio.fixture
async def asked(flood: Flood, manager: JobManager) -> AsyncIterator[tuple[House, str]]:
    """A service where five questions of a token may wait, and a viewer's token."""
    limits = Limits(most_waiting=5)
    async with (
        Server(manager, host="127.0.0.1", port=0, token=TOKEN, limits=limits) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        house = House(manager, server.url, session)
        token = await house.add("guard", role="viewer")
        assert await ask(house, token) == 200
        yield house, token
        await flood.end()


@rests_on(TURNS)
async def test_questions_of_one_token_do_not_keep_the_owner_waiting(
    asked: tuple[House, str], flood: Flood
) -> None:
    house, token = asked
    await flood.pour(house, token, READERS + 2)

    try:
        async with asyncio.timeout(PATIENT_S):
            ready = await ask(house, TOKEN, "/readyz")
    except TimeoutError:
        pytest.fail("the owner waits behind the flood")

    assert ready == 200
    assert flood.at_work == AT_ONCE
    assert not any(answer.done() for answer in flood.answers)
    assert await flood.end() == [200] * (READERS + 2)


async def opened(api: Api, path: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
    return await api.session.get(api.url + path, headers=headers)


@rests_on(TURNS)
async def test_streams_of_old_events_do_not_keep_the_owner_waiting(
    asked: tuple[House, str], flood: Flood
) -> None:
    house, token = asked
    headers = {"Accept": "text/event-stream", **bearer(token)}
    await house.submit("true", draft=True)

    # Some have no answer before others are done.
    path = "/api/v1/events?after=0"
    streams = [asyncio.create_task(opened(house, path, headers)) for _ in range(READERS + 1)]
    await flood.spread()
    try:
        async with asyncio.timeout(PATIENT_S):
            ready = await ask(house, TOKEN, "/readyz")
    except TimeoutError:
        pytest.fail("the owner waits behind the streams")
    finally:
        await flood.end()
        for stream in await asyncio.gather(*streams):
            stream.close()

    assert ready == 200
    assert flood.at_work >= AT_ONCE


@rests_on(OWN_LINE)
async def test_who_watches_a_simulation_does_not_wait_for_others_who_do(
    asked: tuple[House, str], flood: Flood, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, token = asked
    program, project = install(tmp_path / "v252", "exit 0"), make_project(tmp_path / "antenna.aedt")
    await house.manager.simulate(
        HFSSSimulationConfig(ansys_edt_path=program, project_path=project, jobid="J1")
    )

    async def has_ended() -> bool:
        return (await house.manager.get("J1")).status.is_terminal

    await eventually(has_ended)
    monkeypatch.setattr(progress, "LOCAL", "elsewhere")  # Of a site's job all have the same look.
    lately, is_first = Readings.lately, iter([True])

    async def looking(*arguments: Any) -> Any:
        if next(is_first, False):
            await flood.pour(house, token, READERS + 2)
        return await lately(*arguments)

    monkeypatch.setattr(Readings, "lately", looking)
    path = "/api/v1/jobs/J1/progress"
    watching = asyncio.create_task(ask(house, token, path))
    await eventually(lambda: flood.at_work >= AT_ONCE)
    await flood.spread()

    try:
        async with asyncio.timeout(PATIENT_S):
            found = await ask(house, TOKEN, path)
    except TimeoutError:
        pytest.fail("the owner waits behind whoever watches the same simulation")
    finally:
        await flood.end()
        watched = await watching

    assert (found, watched) == (200, 200)


@rests_on(WAITING)
async def test_only_so_many_questions_of_one_token_wait(asked: tuple[House, str], flood: Flood) -> None:
    house, token = asked

    await flood.pour(house, token, 20)
    try:
        await eventually(
            lambda: sum(answer.done() for answer in flood.answers) == 20 - AT_ONCE - 5, PATIENT_S
        )
    except AssertionError:
        pytest.fail("more wait")

    assert await ask(house, TOKEN, "/readyz") == 200
    assert sorted(await flood.end()) == [200] * (AT_ONCE + 5) + [429] * (20 - AT_ONCE - 5)
    assert await ask(house, token) == 200

"""Socket.IO with the real client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import socketio
from yarl import URL

from jobmgr.api.server import Server
from jobmgr.service import JobManager
from tests.api.conftest import TIMEOUT_S, TOKEN, Api, eventually

NAMES = (
    "job_queued",
    "job_started",
    "job_scheduled",
    "job_completed",
    "job_cancelling",
    "job_cancelled",
    "job_priority",
    "limits_updated",
    "reset",
)


class Listener:
    """A connected client and all it was sent."""

    def __init__(self) -> None:
        self.client = socketio.AsyncClient(reconnection=False)
        self.messages: list[tuple[str, Any]] = []
        for name in NAMES:
            self.client.on(name, self._keep(name))

    def _keep(self, name: str) -> Any:
        async def keep(data: Any) -> None:
            self.messages.append((name, data))

        return keep

    async def of(self, job_id: str, last: str) -> list[tuple[str, Any]]:
        """The messages about a job, once the one called `last` is there."""

        async def found() -> list[tuple[str, Any]]:
            about = [(name, data) for name, data in self.messages if data.get("job_id") == job_id]
            return about if last in [name for name, _ in about] else []

        messages = await eventually(found)
        assert isinstance(messages, list)
        return messages


@pytest_asyncio.fixture(params=["websocket", "polling"])
async def listener(api: Api, request: pytest.FixtureRequest) -> AsyncIterator[Listener]:
    found = Listener()
    await found.client.connect(api.url, transports=[request.param])
    yield found
    await found.client.disconnect()


async def test_job_is_told_from_queue_to_end(api: Api, listener: Listener) -> None:
    job = await api.run("sh", "-c", "exit 3", name="n", priority=2)

    told = await listener.of(job.job_id, "job_completed")

    assert [name for name, _ in told] == ["job_queued", "job_started", "job_completed"]
    queued, started, completed = (data for _, data in told)
    assert queued["queue_position"] >= 1
    assert {name: queued[name] for name in ("priority", "name", "queue")} == {
        "priority": 2,
        "name": "n",
        "queue": "default",
    }
    assert job.started_at is not None
    assert started["start_time"].startswith(job.started_at.strftime("%Y-%m-%dT%H:%M:%S"))
    assert (completed["status"], completed["return_code"], completed["error"]["code"]) == (
        "failed",
        3,
        "exit_code",
    )
    assert completed["end_time"]


async def test_cancelled_job_is_told(api: Api, listener: Listener) -> None:
    job_id = await api.submit("true", draft=True)
    await api.post(f"/api/v1/jobs/{job_id}/cancel")

    told = await listener.of(job_id, "job_cancelled")

    assert [name for name, _ in told] == ["job_cancelled"]
    assert told[0][1]["status"] == "cancelled"


async def test_job_that_is_queued_later_is_told_in_full(api: Api, listener: Listener) -> None:
    await api.patch("/api/v1/queues/slow", json={"paused": True})
    job_id = await api.submit("true", name="later", priority=5, draft=True, queue="slow")
    await api.post(f"/api/v1/jobs/{job_id}/execute")

    ((_, data),) = await listener.of(job_id, "job_queued")

    assert data == {
        "job_id": job_id,
        "status": "queued",
        "priority": 5,
        "name": "later",
        "queue": "slow",
        "queue_position": 1,
    }


async def test_changed_limits_are_told(api: Api, listener: Listener) -> None:
    await api.patch("/api/v1/limits", json={"max_concurrent_jobs": 3})

    async def told() -> Any:
        return [data for name, data in listener.messages if name == "limits_updated"]

    (data,) = await eventually(told)
    assert data["old_limits"] == {"max_concurrent_jobs": 2}
    assert data["new_limits"]["max_concurrent_jobs"] == 3
    assert set(data["new_limits"]) == {
        "max_concurrent_jobs",
        "max_cpu_percent",
        "min_memory_gb",
        "min_disk_gb",
    }


async def test_everybody_is_told_and_latecomers_hear_the_rest(api: Api, listener: Listener) -> None:
    other = Listener()
    await other.client.connect(api.url, transports=["websocket"])
    first = await api.run("true")
    await other.of(first.job_id, "job_completed")
    await listener.of(first.job_id, "job_completed")
    await other.client.disconnect()
    again = Listener()
    await again.client.connect(api.url, transports=["websocket"])

    second = await api.run("true")

    told = await again.of(second.job_id, "job_completed")
    assert told[0][0] == "job_queued"
    assert {data["job_id"] for _, data in again.messages} == {second.job_id}
    await listener.of(second.job_id, "job_completed")
    await again.client.disconnect()


async def test_log_is_followed_only_while_somebody_listens(api: Api) -> None:
    feed = api.manager.feed
    assert feed.followers == 0
    listener = Listener()
    await listener.client.connect(api.url, transports=["websocket"])

    async def is_followed() -> bool:
        return feed.followers == 1

    async def is_not_followed() -> bool:
        return feed.followers == 0

    await eventually(is_followed)
    await listener.client.disconnect()
    await eventually(is_not_followed)


async def test_client_without_token_is_refused(manager: JobManager) -> None:
    listener = Listener()
    async with Server(manager, host="0.0.0.0", port=0, token=TOKEN) as server:
        with pytest.raises(socketio.exceptions.ConnectionError):
            await listener.client.connect(server.url, transports=["websocket"])
        await listener.client.connect(
            server.url, transports=["websocket"], headers={"Authorization": f"Bearer {TOKEN}"}
        )
        assert listener.client.connected
        await listener.client.disconnect()


async def test_page_of_another_site_gets_no_socket(api: Api) -> None:
    url = f"{api.url}/socket.io/?EIO=4&transport=websocket"

    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await api.session.ws_connect(url, origin="http://evil.example")

    assert caught.value.status == 403


async def test_shutdown_ends_sockets_at_once(manager: JobManager, monkeypatch: pytest.MonkeyPatch) -> None:
    # They are not waited for until they are cut.
    monkeypatch.setattr("jobmgr.api.server._SHUTDOWN_S", 10 * TIMEOUT_S)
    server = Server(manager, host="127.0.0.1", port=0, token=TOKEN)
    listeners = [Listener() for _ in range(3)]
    async with server:
        for listener in listeners:
            await listener.client.connect(server.url, transports=["websocket"])
        async with asyncio.timeout(TIMEOUT_S):
            await server.__aexit__(None, None, None)

    async with asyncio.timeout(TIMEOUT_S):
        for listener in listeners:
            await listener.client.wait()


async def test_client_that_gets_its_websocket_meanwhile_misses_nothing(api: Api) -> None:
    await api.patch("/api/v1/queues/slow", json={"paused": True})
    listeners = [Listener() for _ in range(5)]
    submitted: list[str] = []
    enough = asyncio.Event()

    async def submit() -> None:
        while not enough.is_set() or len(submitted) < 200:
            submitted.append(await api.submit("true", queue="slow"))

    submitting = asyncio.create_task(submit())
    for listener in listeners:
        # Begins with polling, as browsers do, and is told of jobs in both ways.
        await listener.client.connect(api.url)
        assert listener.client.transport() == "websocket"
    enough.set()
    await submitting

    for listener in listeners:
        await listener.of(submitted[-1], "job_queued")
        told = [data["job_id"] for _, data in listener.messages]
        assert told == submitted[-len(told) :]
        await listener.client.disconnect()


NO_PACKETS = [
    "zzz",
    "",
    "b?",
    "4" + "[" * 60_000,
    '42["connect",{}]',
    '42["disconnect"]',
    "42[]",
    "2",
    "5",
    "9",
]


@pytest.mark.parametrize("first", [(), ("40",)], ids=["at once", "later"])
@pytest.mark.parametrize("packet", NO_PACKETS)
async def test_what_is_no_packet_ends_a_websocket(
    api: Api, caplog: pytest.LogCaptureFixture, first: tuple[str, ...], packet: str
) -> None:
    async with api.session.ws_connect(f"{api.url}/socket.io/?EIO=4&transport=websocket") as websocket:
        for text in (*first, packet):
            await websocket.send_str(text)
        async with asyncio.timeout(TIMEOUT_S):
            async for _ in websocket:
                pass

    lines = [record for record in caplog.records if record.name.startswith("jobmgr.api")]
    assert [record.levelname for record in lines] == ["WARNING"]
    assert lines[0].exc_info is None


@pytest.mark.parametrize("packet", ["zzz", "", "2probe"])
async def test_what_is_no_upgrade_ends_in_no_error(
    api: Api, caplog: pytest.LogCaptureFixture, packet: str
) -> None:
    sid = json.loads((await api.get("/socket.io/?EIO=4&transport=polling")).body[1:])["sid"]
    url = f"{api.url}/socket.io/?EIO=4&transport=websocket&sid={sid}"
    async with api.session.ws_connect(url) as websocket:
        await websocket.send_str(packet)
        await websocket.send_str("zzz")
        async with asyncio.timeout(TIMEOUT_S):
            async for _ in websocket:
                pass
    then = await api.get(f"/socket.io/?EIO=4&transport=polling&sid={sid}")

    assert then.status == 400
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("packet", ["1", "d=", b"\xff", *NO_PACKETS[:1], *NO_PACKETS[2:]])
async def test_what_is_no_packet_ends_who_polls(
    api: Api, caplog: pytest.LogCaptureFixture, packet: str | bytes
) -> None:
    polling = "/socket.io/?EIO=4&transport=polling"
    sid = json.loads((await api.get(polling)).body[1:])["sid"]
    await api.post(f"{polling}&sid={sid}", data=packet)

    then = await api.post(f"{polling}&sid={sid}", data="40")

    assert then.status == 400
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_who_polls_may_send_much_at_once(api: Api) -> None:
    """Clients put all that gathered into one turn."""
    client = socketio.AsyncClient(reconnection=False)
    await client.connect(api.url, transports=["polling"])
    answered: list[int] = []

    for number in range(60):
        await client.emit(
            "subscribe", {"rooms": ["events"]}, callback=lambda _, number=number: answered.append(number)
        )

    async def all_answered() -> bool:
        return len(answered) == 60

    await eventually(all_answered)
    await client.disconnect()

    assert sorted(answered) == list(range(60))


async def test_log_tells_where_a_client_is_whose_first_connection_is_over(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    polling = f"{api.url}/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        first = await session.get(polling)
        sid = json.loads((await first.read())[1:])["sid"]
        await session.post(f"{polling}&sid={sid}", data="zzz")

    assert "a Socket.IO client at 127.0.0.1 is not understood" in caplog.text


@pytest.mark.parametrize(
    "query", ["%2573id=OTHER&sid=OWN", "sid=OWN%2526", "sid=OTHER&%2573id=OWN", "%2573id=OWN"]
)
async def test_session_that_can_be_read_in_two_ways_is_refused(api: Api, query: str) -> None:
    polling = "/socket.io/?EIO=4&transport=polling"
    own, other = [json.loads((await api.get(polling)).body[1:])["sid"] for _ in range(2)]
    # As it stands: nothing decodes it on the way.
    path = f"{polling}&{query.replace('OWN', own).replace('OTHER', other)}"

    async with api.session.post(URL(api.url + path, encoded=True), data="40") as answer:
        told = await answer.json()

    assert (answer.status, told["code"]) == (400, "ambiguous_session")


async def test_compressed_websocket_is_told_everything(api: Api) -> None:
    url = f"{api.url}/socket.io/?EIO=4&transport=websocket"
    async with api.session.ws_connect(url, compress=15) as websocket:
        assert websocket.compress
        await websocket.receive_str()
        await websocket.send_str("40")
        assert (await websocket.receive_str()).startswith("40")
        job = await api.run("true")
        told: list[Any] = []
        async with asyncio.timeout(TIMEOUT_S):
            while "job_completed" not in [name for name, _ in told]:
                text = await websocket.receive_str()
                told += [json.loads(text[2:])] if text.startswith("42") else []
        # A frame that the library compresses comes after those that are not.
        await websocket.send_str('421["subscribe",{"rooms":["job:' + job.job_id + '"]}]')
        answer = await websocket.receive_str()

    assert [name for name, _ in told] == ["job_queued", "job_started", "job_completed"]
    assert json.loads(answer.removeprefix("431"))[0]["rooms"] == [f"job:{job.job_id}"]

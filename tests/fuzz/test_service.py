"""A running service, and requests that nobody should send: answered, refused, or hung up on; never a bug."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_from_bytes, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.cli.conftest import Commands, serving
from tests.fuzz import garbage

_WITHIN_S = 30.0
_LOG_LINE = re.compile(r"|\d{4}-\d\d-\d\d [\d:,]+ (?:INFO|WARNING) jobmgr\S*: [^\x00-\x1f\x7f-\x9f]*")
_PARAMETERS = st.sampled_from(
    [
        "limit",
        "status",
        "name",
        "tag",
        "ids",
        "user",
        "queue",
        "site",
        "cursor",
        "order",
        "total",
        "after",
        "job",
        "x",
    ]
)
_PATHS = [
    b"/api/v1/jobs", b"/api/v1/jobs/JOB", b"/api/v1/jobs/JOB/logs/stdout", b"/api/v1/jobs/JOB/files/stdout",
    b"/api/v1/jobs/JOB/events", b"/api/v1/events", b"/api/v1/queues/default", b"/api/v1/limits", b"/jobs", b"/queue",
    b"/api/v1/jobs/JOB/files/%2e%2e/x", b"/socket.io/", b"/docs", b"/api/v1/sites/local", b"/api/v1/cluster/local",
]  # fmt: skip
_HEADERS = st.sampled_from(
    [
        "Range",
        "Last-Event-ID",
        "Idempotency-Key",
        "Accept",
        "Content-Type",
        "If-Range",
        "Origin",
        "Content-Encoding",
    ]
)
_OPEN = "/socket.io/?EIO=4&transport=polling"
_PACKETS = [
    b"40", b'40{"rooms":["events"]}', b'42["subscribe",{"rooms":["job:x"]}]', b'420["subscribe",{"rooms":["events"]}]',
    b'451-["x",{"_placeholder":true,"num":0}]', b"bAAAA", b"41", b"3", b"5", b"44", b"40\x1e40",
]  # fmt: skip

_WEBSOCKET = b"\r\n".join(
    (
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1", b"Host: 127.0.0.1", b"Upgrade: websocket",
        b"Connection: Upgrade", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13", b"", b"",
    )
)  # fmt: skip


class Door:
    """A connection to the service; what it hangs up on is opened anew. Its log says whether it stumbled."""

    def __init__(self, url: str, log: Path, job_id: str) -> None:
        self.job_id = job_id
        self._log = log
        self._address = (urlsplit(url).hostname or "", urlsplit(url).port or 0)

    def ask(
        self, method: str, path: str, headers: dict[str, bytes] | None = None, body: bytes | None = None
    ) -> int:
        """The status of the answer; 0 if it hung up."""
        # Streams have no end, so of each answer only the head is read.
        connection = http.client.HTTPConnection(*self._address, timeout=_WITHIN_S)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            try:
                connection.endheaders(body)
                return connection.getresponse().status
            except (http.client.HTTPException, OSError):
                return 0

    def poll(self, query: str = "", body: bytes | None = None) -> bytes:
        """One turn of Engine.IO's polling."""
        connection = http.client.HTTPConnection(*self._address, timeout=_WITHIN_S)
        with contextlib.closing(connection):
            kind = {"Content-Type": "text/plain;charset=UTF-8"}
            connection.request("GET" if body is None else "POST", _OPEN + query, body, kind if body else {})
            return connection.getresponse().read()

    def send(self, data: bytes) -> bytes:
        """The beginning of what comes back for these bytes."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(self._address, timeout=_WITHIN_S) as connection,
        ):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(65536)
        return b""

    def assert_sound(self) -> None:
        """It answers, and nothing in its log is a bug."""
        assert self.ask("GET", "/readyz") == 200
        log = self._log.read_text()
        assert " ERROR " not in log, log[-4000:]
        assert [line for line in log.split("\n") if not _LOG_LINE.fullmatch(line)] == []


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    commands = Commands(tmp_path_factory.mktemp("home"))
    with serving(commands) as url:
        yield Door(url, commands.home / "service.log", commands.submit("--wait", "--", "echo", "here"))


def _printable(text: bytes) -> bytes:
    """As a header can hold it at all."""
    return bytes(byte for byte in text if byte >= 32 and byte != 127)[:4000]


@pytest.mark.share(0.5)
@given(
    path=garbage.broken(_PATHS),
    query=st.lists(st.tuples(_PARAMETERS, garbage.broken([b"1", b"failed", b"e:1", b"a*"])), max_size=3),
    headers=st.dictionaries(
        _HEADERS, garbage.broken([b"bytes=0-4", b"text/event-stream", b"e:1"]), max_size=2
    ),
)
def test_a_read_is_answered(
    door: Door, path: bytes, query: list[tuple[str, bytes]], headers: dict[str, bytes]
) -> None:
    where = "/" + quote_from_bytes(path.replace(b"JOB", door.job_id.encode())[:3000].lstrip(b"/"), safe="/%")
    asked = "&".join(f"{name}={quote_from_bytes(value[:1000])}" for name, value in query)

    status = door.ask(
        "GET",
        f"{where}?{asked}" if asked else where,
        {name: _printable(one) for name, one in headers.items()},
    )

    assert status < 500
    door.assert_sound()


@pytest.mark.share(0.5)
@given(
    method=st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]),
    path=garbage.broken(_PATHS),
    body=garbage.json_bytes(
        {"command": ["true"], "draft": True}, {"jobs": [{"command": ["x"], "draft": True}]}
    ),
    kind=st.sampled_from([b"application/json", b"application/x-ndjson", b"text/plain"]),
    key=st.none() | garbage.broken([b"key-1"]),
)
def test_a_change_is_answered(
    door: Door, method: str, path: bytes, body: bytes, kind: bytes, key: bytes | None
) -> None:
    where = "/" + quote_from_bytes(path.replace(b"JOB", door.job_id.encode())[:3000].lstrip(b"/"), safe="/%")
    headers = {"Content-Type": kind} | ({} if key is None else {"Idempotency-Key": _printable(key)})

    assert door.ask(method, where, headers, body) < 500
    door.assert_sound()


@pytest.mark.share(0.25)
@given(payload=garbage.broken(_PACKETS), query=garbage.broken([b"", b"&t=1", b"&sid=x"]))
def test_packets_of_a_socket_are_heard_or_ended(door: Door, payload: bytes, query: bytes) -> None:
    # Python's Engine.IO answers these, which only servers send, when their sender has gone.
    assume(not re.search(rb"(?:^|\x1e)[026]", payload))
    opened = door.poll()
    sid = json.loads(opened[1:])["sid"]

    door.poll(f"&sid={sid}", b"40")
    with contextlib.suppress(http.client.HTTPException, OSError):
        door.poll(f"&sid={sid}", payload)
    with contextlib.suppress(http.client.HTTPException, OSError):
        door.poll(quote_from_bytes(query, safe="&=")[:1000], b"40")

    door.assert_sound()


@pytest.mark.share(0.5)
@given(
    data=garbage.broken(
        [
            b"GET /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"POST /api/v1/jobs HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}   \r\n0\r\n\r\n",
            _WEBSOCKET + b"\x81\x85abcd",
            _WEBSOCKET + b'\x81\x82\0\0\0\x0040\x81\x8c\0\0\0\x0042["a","b"]',
        ]
    )
)
def test_any_bytes_are_answered_or_hung_up_on(door: Door, data: bytes) -> None:
    assert b" 500 " not in door.send(data)[:30]
    door.assert_sound()

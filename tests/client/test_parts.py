"""The client's pure parts: which service is meant, jobs as lines, streams of events."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmgr.client import bulk
from jobmgr.client.address import Address, find_service
from jobmgr.client.listener import is_listening_alone
from jobmgr.client.sse import Message, Parser
from jobmgr.domain.why import Reason
from jobmgr.errors import InvalidRequest, NoServiceRunning
from jobmgr.wire import translation
from jobmgr.wire.answers import WhyAnswer

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="/proc/net/tcp is Linux's")

STREAM = (
    b"retry: 2000\nid: e:1\n\n: alive\nid: e:2\n\nid: e:3\nevent: queued\ndata: {}\n\n"
    b"event: reset\r\ndata: a\r\ndata:b\r\n\r\ndata: \xc3\xa9\n\n"
)
MESSAGES = [Message("queued", "{}", "e:3"), Message("reset", "a\nb", "e:3"), Message("message", "é", "e:3")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_a_stream_may_be_cut_anywhere(cuts: list[int]) -> None:
    parser = Parser()
    edges = [0, *sorted(cuts), len(STREAM)]

    found = [message for start, end in pairwise(edges) for message in parser.feed(STREAM[start:end])]

    assert found == MESSAGES


def test_jobs_without_an_id_get_one_and_keep_their_text() -> None:
    lines = [
        b' {"command": ["a"], "x": 1.50}',
        b"{}",
        b'{"job_id": "mine"}',
        b'{"job_id": null}',
        b"no JSON",
        b"[1]",
    ]

    named, job_ids = bulk.with_ids(lines)

    first, second, *others = named
    assert others == lines[2:]
    assert first.endswith(b', "command": ["a"], "x": 1.50}'.replace(b", ", b",", 1))
    assert [json.loads(first)["job_id"], json.loads(second)["job_id"], "mine"] == job_ids
    assert json.loads(second).keys() == {"job_id"}


@pytest.mark.parametrize("value", ["\ud800", object(), {"a": {b"": object()}}])
def test_what_json_cannot_hold_is_refused_by_its_place(value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        bulk.encoded([{"command": ["true"]}, {"command": [value]}])

    assert caught.value.field == "jobs[1]"


def test_times_in_jobs_travel_as_text() -> None:
    (line,) = bulk.encoded([{"not_before": datetime(2026, 1, 31, 18, tzinfo=UTC)}])

    assert msgspec.json.decode(line) == {"not_before": "2026-01-31T18:00:00Z"}


async def test_a_body_is_sent_in_pieces() -> None:
    lines = [b"x" * 100_000] * 7
    told: list[tuple[int, int]] = []

    pieces = [piece async for piece in bulk.pieces(lines, lambda sent, total: told.append((sent, total)))]

    assert b"".join(pieces) == b"".join(line + b"\n" for line in lines)
    assert told == [(3, 7), (6, 7), (7, 7)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state directory with the token of its owner."""
    (tmp_path / "token").write_text("secret\n")
    return tmp_path


def left(home: Path, url: str, pid: int, socket: str | None = None) -> dict[str, str]:
    (home / "service.json").write_text(json.dumps({"url": url, "pid": pid, "socket": socket}))
    return {"JOBMGR_HOME": str(home)}


@pytest.fixture(params=["127.0.0.1", "0.0.0.0", "::1", "::"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A socket of this user that listens."""
    with socket.socket(socket.AF_INET6 if ":" in request.param else socket.AF_INET) as listener:
        try:
            listener.bind((request.param, 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        listener.listen()
        yield listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{'[::1]' if host == '::1' else '127.0.0.1'}:{port}"


def test_the_running_service_of_the_home_is_found_with_its_token(home: Path, listener: socket.socket) -> None:
    url = url_of(listener)
    environment = left(home, f"{url}/", os.getpid())

    assert find_service(None, None, environment)() == Address(url, "secret")


def test_the_token_is_not_shown_where_nobody_of_this_user_listens(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = url_of(listener)
    environment = left(home, url, os.getpid())

    found = [find_service(given, None, environment)() for given in (None, url, "http://127.0.0.1:1")]
    elsewhere = find_service(None, None, left(home, "http://192.0.2.1:9", os.getpid()))()

    if sys.platform == "linux":
        assert [address.token for address in (*found, elsewhere)] == [None] * 4


@needs_proc
@pytest.mark.parametrize("owners", [(7,), (7, 7), (7, 8), (8,), (65534,), ()])
def test_all_who_listen_have_to_be_the_user(tmp_path: Path, owners: tuple[int, ...]) -> None:
    # Recorded from Linux 6.18, the ids apart: python3 -m http.server 8080.
    row = "0: {}:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 {:5d} 0 4321 1 0 100 0 0 10 0\n"
    bound = ["0100007F", "00000000"]
    (tmp_path / "tcp").write_text("  sl  local_address\n" + "".join(map(row.format, bound, owners)))
    tables = {4: tmp_path / "tcp", 6: tmp_path / "no-tcp6"}

    assert is_listening_alone(7, "127.0.0.1", 8080, tables) is (owners in [(7,), (7, 7)])
    assert is_listening_alone(7, "localhost", 8080, tables) is (owners in [(7,), (7, 7)])
    assert not is_listening_alone(65534, "127.0.0.1", 8080, tables)
    assert not is_listening_alone(7, "127.0.0.1", 8081, tables)


def test_a_service_that_is_gone_is_not_meant(home: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    locate = find_service(None, None, left(home, "http://127.0.0.1:9", ended.pid))

    with pytest.raises(NoServiceRunning, match=str(home)):
        locate()


def test_a_service_that_was_started_again_elsewhere_is_found(home: Path) -> None:
    locate = find_service(None, None, left(home, "http://127.0.0.1:9", os.getpid()))

    before = locate()
    left(home, "http://127.0.0.1:10", os.getpid())

    assert (before.url, locate().url) == ("http://127.0.0.1:9", "http://127.0.0.1:10")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", '{"url": 1}', '{"url": "x", "pid": -1}', '{"url": "x", "pid": "y"}']
)
def test_a_damaged_service_file_is_ignored(home: Path, text: str) -> None:
    (home / "service.json").write_text(text)

    with pytest.raises(NoServiceRunning):
        find_service(None, None, {"JOBMGR_HOME": str(home)})()


def test_what_is_given_comes_before_the_running_service(home: Path, listener: socket.socket) -> None:
    environment = left(home, "http://127.0.0.1:9", os.getpid())
    url = url_of(listener)

    assert find_service(f"{url}/", None, environment)() == Address(url, None)
    assert (
        find_service(None, "t", environment | {"JOBMGR_URL": "http://localhost:2"})().url
        == "http://localhost:2"
    )
    assert find_service(None, "t", environment | {"JOBMGR_PORT": "7"})() == Address("http://127.0.0.1:9", "t")


def test_the_token_of_the_owner_is_shown_to_the_service_of_its_home_only(
    home: Path, listener: socket.socket
) -> None:
    url = url_of(listener)
    alive = left(home, url, os.getpid())
    with socket.create_server(("127.0.0.1", 0)) as other:
        foreign = [url_of(other), f"https://localhost:{url.rpartition(':')[2]}", url.replace("http", "https")]
        found = [find_service(each, None, alive)().token for each in (url, f"{url}/", *foreign)]
    (home / "service.json").unlink()

    assert found == ["secret", "secret", None, None, None]
    assert find_service(url, None, alive)().token is None


def test_the_token_of_the_owner_is_not_shown_to_other_hosts(home: Path) -> None:
    environment = {"JOBMGR_HOME": str(home)}

    assert find_service("https://example.org", None, environment)().token is None
    assert find_service("https://example.org", None, environment | {"JOBMGR_TOKEN": "t"})().token == "t"


@pytest.mark.parametrize("url", ["unix:{}/s", "unix://{}/s", "UNIX:{}/s"])
def test_a_socket_is_an_address_too(home: Path, url: str) -> None:
    url = url.format(home)
    environment = left(home, "http://127.0.0.1:9", os.getpid(), str(home / "s")) | {"JOBMGR_URL": url}

    before = find_service(None, None, environment)()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "s"))
        found = find_service(None, None, environment)()
        left(home, "http://127.0.0.1:9", os.getpid())
        foreign = find_service(None, None, environment)()

    assert (found.url, found.socket) == (url, str(home / "s"))
    # The owner's token is shown at the socket of the owner's own service only.
    assert (before.token, found.token, foreign.token) == (None, "secret", None)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a socket of another user")
def test_the_token_is_not_shown_at_the_socket_of_another_user(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "s"))
        os.chown(home / "s", 12345, 12345)
        environment = left(home, "http://127.0.0.1:9", os.getpid(), str(home / "s"))
        found = find_service(f"unix:{home}/s", None, environment)()

    assert found.token is None


@pytest.mark.parametrize(
    "url",
    [
        "/",
        "localhost:8080",
        "ftp://x",
        "http://",
        "http://x:port",
        "http://x:99999",
        "unix:",
        "unix:s",
        "unix://host/s",
    ],
)
def test_what_is_no_url_is_refused(home: Path, url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        find_service(url, None, {"JOBMGR_HOME": str(home)})

    assert caught.value.field == "url"


def test_reasons_arrive_as_they_were() -> None:
    expected_start = datetime(2026, 1, 31, 18, tzinfo=UTC)
    reasons = [Reason("scheduled", "it waits", expected_start), Reason("order", "before it: 1 job")]

    body = translation.encode(translation.why_answer("j", reasons))

    assert translation.to_reasons(msgspec.json.decode(body, type=WhyAnswer)) == reasons
    assert body.count(b"expected_start") == 1

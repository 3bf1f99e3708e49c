"""What the client is answered, when it is no service that answers: one of our own errors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmgr.client import Client, following
from jobmgr.client.problem import to_error
from jobmgr.client.sse import LONGEST_BYTES, Parser
from jobmgr.domain.job import EventPosition
from jobmgr.errors import AnswerNotUnderstood, EventsGone, JobmgrError
from jobmgr.wire.answers import ProblemAnswer
from tests.fuzz import garbage

AT = "2026-11-21T10:00:00.000000Z"
EVENT = {"seq": 3, "at": AT, "kind": "started", "job_id": "j", "user": "me", "v": 2, "status": "running"}
PROBLEM = {
    "type": "urn:x", "title": "t", "status": 404, "detail": "d", "code": "job_not_found", "field": "f", "epoch": "e",
    "seq": 3, "last": AT,
}  # fmt: skip
JOB: dict[str, Any] = {
    "job_id": "j", "name": "n", "description": "", "status": "running", "priority": 0, "queue": "q", "site": "local",
    "executor": None, "user": "me", "draft": False, "attempt": 1, "exit_code": None, "error": None, "created_at": AT,
    "due_at": None, "held_at": None, "deps_left": 0, "cancel_requested_at": None, "pause_requested_at": None,
    "queued_at": AT, "started_at": AT, "finished_at": None, "handle": None, "work_dir": None, "tags": [],
    "extended_properties": {}, "key": None, "v": 1, "kind": "command",
}  # fmt: skip
_STREAM = [
    b"id: e:3\nevent: job\ndata: " + msgspec.json.encode(EVENT) + b"\n\n",
    b": nothing to tell\n\n",
    b'event: reset\ndata: {"epoch": "e", "seq": 4}\n\n',
]
_HEADS = [
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nSet-Cookie: a=b\r\n\r\n",
]


@given(
    data=garbage.broken(_STREAM) | st.lists(garbage.broken(_STREAM), max_size=4).map(b"".join),
    cut=st.integers(0, 99),
)
def test_a_stream_says_the_same_in_pieces_as_at_once(data: bytes, cut: int) -> None:
    whole, pieces = Parser(), Parser()

    messages = list(whole.feed(data))

    assert [*pieces.feed(data[:cut]), *pieces.feed(data[cut:])] == messages
    for message in messages:
        with contextlib.suppress(AnswerNotUnderstood, EventsGone):
            assert following.event_of(message).seq >= -(2**63)


def test_a_line_without_an_end_is_not_kept() -> None:
    parser = Parser()
    with contextlib.suppress(AnswerNotUnderstood):
        for _ in range(LONGEST_BYTES // 65536 + 2):
            list(parser.feed(b"x" * 65536))
        raise AssertionError("a stream without an end was kept in memory")


def test_a_message_without_an_end_is_not_kept() -> None:
    parser = Parser()
    with contextlib.suppress(AnswerNotUnderstood):
        for _ in range(LONGEST_BYTES // 65536 + 2):
            list(parser.feed(b"data: " + b"x" * 65536 + b"\n"))
        raise AssertionError("a message without an end was kept in memory")


@given(body=garbage.json_bytes(PROBLEM))
def test_a_problem_is_one_of_our_errors_or_no_problem(body: bytes) -> None:
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        assert isinstance(to_error(msgspec.json.decode(body, type=ProblemAnswer), "j1"), JobmgrError)


@pytest.fixture
def forgotten_words() -> Iterator[None]:
    """What the client says is put into words, and then not kept by pytest: each holds the connection it is about."""

    def forget(record: logging.LogRecord) -> bool:
        return not record.getMessage()

    said = logging.getLogger("jobmgr.client.patience")
    said.addFilter(forget)
    yield
    said.removeFilter(forget)


async def _answered(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}", timeout_s=20, patience_s=0.0) as client:
            for ask in (client.get("j1"), client.spec("j1"), client.attempts("j1"), client.why("j1")):
                with contextlib.suppress(JobmgrError):
                    await ask
            with contextlib.suppress(JobmgrError):
                async for _ in client.follow_events(EventPosition("e", 1)):
                    pass


@pytest.mark.usefixtures("forgotten_words")
@given(
    head=garbage.broken(_HEADS),
    body=garbage.json_bytes(JOB, PROBLEM, {"reasons": []}) | garbage.broken(_STREAM),
)
def test_whatever_answers_the_client_says_so_in_its_own_words(head: bytes, body: bytes) -> None:
    asyncio.run(_answered(head + body))


@pytest.mark.usefixtures("forgotten_words")
@pytest.mark.share(0.25)
@given(job=garbage.spoilt(JOB))
def test_a_job_is_one_or_not_understood(job: Any) -> None:
    body = msgspec.json.encode(job) if _is_json(job) else b"null"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"

    asyncio.run(_answered(head + body))


def _is_json(value: Any) -> bool:
    try:
        msgspec.json.encode(value)
    except (ValueError, TypeError, UnicodeEncodeError, msgspec.MsgspecError):
        return False
    return True

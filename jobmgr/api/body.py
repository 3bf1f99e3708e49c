"""Reading request bodies: one struct, or many jobs as JSON or as lines of JSON."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
from aiohttp import HttpVersion11, web

from jobmgr.api import idempotency
from jobmgr.api.decoding import LARGE_BYTES, check_keys, decode, decode_types
from jobmgr.api.guard import NDJSON_TYPE
from jobmgr.api.keys import LIMITS
from jobmgr.api.problems import Refusal
from jobmgr.domain.job import NewJob
from jobmgr.errors import InvalidRequest
from jobmgr.wire.requests import MAX_BULK_JOBS, given
from jobmgr.wire.submission import JobSubmission, to_new_job

T = TypeVar("T")
P = ParamSpec("P")

MEBIBYTE = 1024 * 1024
MAX_BODY_BYTES = 8 * MEBIBYTE
MAX_LINES_BYTES = 64 * MEBIBYTE
# An empty object, however it is spaced.
_NOTHING_BYTES = 64
# Decoding goes on this many jobs at a time between looks at the other connections.
_STRIDE = 200


class _RawBulk(msgspec.Struct, forbid_unknown_fields=True):
    jobs: list[msgspec.Raw]


_SUBMISSION = msgspec.json.Decoder(JobSubmission)
_BULK = msgspec.json.Decoder(_RawBulk)
_JOBS_KEY = re.compile(rb'"jobs"\s*:')


async def expect_later(_request: web.Request) -> None:
    """aiohttp's handler of `Expect`, asked before the guard: nothing is promised there, and nobody is refused."""


async def invite(request: web.Request) -> None:
    """Tell a client that holds its body back that it is wanted now. Other expectations are none of ours.

    Source: RFC 9110, 10.1.1; of 1.0 it is ignored.
    """
    is_held_back = request.headers.get("Expect", "").lower() == "100-continue"
    if is_held_back and request.version >= HttpVersion11 and not request.content.at_eof():
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The answer itself has not begun.
        request.writer.output_size = 0


async def read_struct(request: web.Request, decoder: msgspec.json.Decoder[T]) -> T:
    """The struct that the body holds. Raises Refusal or InvalidRequest."""
    return await _in_turn(lambda data: decode(decoder, data), await _read(request))


def changes_in(body: msgspec.Struct) -> dict[str, Any]:
    """By name, what a body of changes says. Raises InvalidRequest if it says nothing."""
    changes = given(body)
    if not changes:
        raise InvalidRequest("", f"nothing to change; known fields: {', '.join(body.__struct_fields__)}")
    return changes


async def expect_nothing(request: web.Request) -> None:
    """Refuse a body that would be ignored; an empty object is taken for none."""
    if not request.body_exists:
        return
    size, told = 0, b""
    async for piece in _pieces(request):
        size += len(piece)
        told += piece.strip()[:_NOTHING_BYTES]
        # Nobody waits for the rest of what is refused anyway.
        if size > _NOTHING_BYTES or told not in (b"", b"{", b"{}"):
            raise InvalidRequest("", "this request takes no body")
    if told == b"{":
        raise InvalidRequest("", "this request takes no body")


async def read_jobs(request: web.Request, user: str) -> tuple[list[NewJob], bool]:
    """The submitted jobs of `user`, and whether they came as a bulk. Raises Refusal or InvalidRequest."""
    if request.content_type == NDJSON_TYPE:
        return await _decode_bulk(_read_lines(request), user), True
    data = await _read(request)
    if _is_bulk(data):
        outer = await asyncio.to_thread(_outer, data) if len(data) > LARGE_BYTES else _outer(data)
        return await _decode_bulk(_items(outer), user), True
    return [await _in_turn(_job, data, user, "")], False


def _is_bulk(data: bytes) -> bool:
    head = data[:64].split(b'"', 2)
    return len(head) == 3 and head[0].strip() == b"{" and head[1] == b"jobs"


def _outer(data: bytes) -> list[msgspec.Raw]:
    """The jobs of a bulk, each still as text, so that an error can name the one it is in."""
    jobs = decode_types(_BULK, data).jobs
    # Of two lists under this name, the first one would be lost without a word.
    if len(_JOBS_KEY.findall(data)) > 1:
        check_keys(data, "")
    return jobs


async def _decode_bulk(lines: AsyncIterator[bytes], user: str) -> list[NewJob]:
    jobs: list[NewJob] = []
    async for line in lines:
        if len(jobs) == MAX_BULK_JOBS:
            raise InvalidRequest("jobs", f"more than {MAX_BULK_JOBS} in one request; send them in several")
        jobs.append(await _in_turn(_job, line, user, f"jobs[{len(jobs)}]."))
        if len(jobs) % _STRIDE == 0:
            await asyncio.sleep(0)
    if not jobs:
        raise InvalidRequest("jobs", "is empty")
    return jobs


def _job(line: bytes, user: str, at: str) -> NewJob:
    return to_new_job(decode(_SUBMISSION, line, at), user=user, at=at)


async def _in_turn(
    read: Callable[Concatenate[bytes, P], T], data: bytes, *others: P.args, **named: P.kwargs
) -> T:
    """What `read` makes of `data`, in a thread if that takes long."""
    if len(data) <= LARGE_BYTES:
        return read(data, *others, **named)
    return await asyncio.to_thread(read, data, *others, **named)


async def _items(jobs: list[msgspec.Raw]) -> AsyncIterator[bytes]:
    for job in jobs:
        yield bytes(job)


async def _read(request: web.Request) -> bytes:
    # Refused before it is read, if it says how large it is.
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise _too_large(MAX_BODY_BYTES)
    data = bytearray()
    async for piece in _pieces(request):
        data += piece
        if len(data) > MAX_BODY_BYTES:
            raise _too_large(MAX_BODY_BYTES)
    return bytes(data)


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises Refusal (408) if it is waited for too long."""
    await invite(request)
    limits, loop = request.app[LIMITS], asyncio.get_running_loop()
    # What is done between the pieces is our own time.
    waited_s, size = 0.0, 0
    # A short body mostly comes with its head, and a timer would cost more than all else that is done with it.
    while not request.content.at_eof():
        piece = request.content.read_nowait()
        if not piece:
            begun = loop.time()
            try:
                async with asyncio.timeout(limits.body_s + size / limits.body_bytes_per_s - waited_s):
                    piece = await request.content.readany()
            except TimeoutError:
                raise too_slow() from None
            waited_s += loop.time() - begun
        size += len(piece)
        idempotency.add(request, piece)
        yield piece


async def _read_lines(request: web.Request) -> AsyncIterator[bytes]:
    size, begun = 0, bytearray()
    async for chunk in _pieces(request):
        size += len(chunk)
        if size > MAX_LINES_BYTES:
            raise _too_large(MAX_LINES_BYTES)
        *ended, rest = chunk.split(b"\n")
        if ended:
            ended[0] = bytes(begun) + ended[0]
            begun.clear()
        begun += rest
        if len(begun) > MAX_BODY_BYTES:
            raise _too_large(MAX_BODY_BYTES)
        for line in ended:
            if line.strip():
                yield line
    if begun.strip():
        yield bytes(begun)


def _too_large(limit_bytes: int) -> Refusal:
    return Refusal(
        413,
        "body_too_large",
        f"more than {limit_bytes // MEBIBYTE} MiB; many jobs are best sent as {NDJSON_TYPE}, one per line, "
        f"at most {MAX_BODY_BYTES // MEBIBYTE} MiB each and {MAX_LINES_BYTES // MEBIBYTE} MiB in all",
    )


def too_slow() -> Refusal:
    """The answer to a body that trickles."""
    return Refusal(
        408, "body_too_slow", "the body did not come in time; send it again", headers={"Connection": "close"}
    )

"""What jobs wrote: logs in pieces, files of the run directory as a list and as downloads. Bytes, never decoded."""

from __future__ import annotations

import logging
import os
from contextlib import aclosing
from typing import Literal
from urllib.parse import quote

from aiohttp import web

from jobmgr.api.idempotency import manager_of
from jobmgr.api.path import job_id_of
from jobmgr.api.problems import Refusal
from jobmgr.api.reply import reply
from jobmgr.api.window import CHUNK_BYTES, Portion, Range, read_from, read_range, read_tail
from jobmgr.errors import FileMissing, InvalidRequest, SiteError
from jobmgr.transports.directory import RunFile, Window
from jobmgr.wire.answers import FilesAnswer
from jobmgr.wire.requests import MAX_WINDOW_BYTES, AttemptQuery, LogQuery
from jobmgr.wire.translation import file_answer

logger = logging.getLogger(__name__)

LOG_TYPE = "text/plain"
FILE_TYPE = "application/octet-stream"


async def stdout(request: web.Request, query: LogQuery) -> web.StreamResponse:
    """What the job wrote to its standard output."""
    return await _log(request, query, "stdout")


async def stderr(request: web.Request, query: LogQuery) -> web.StreamResponse:
    """What the job wrote to its standard error."""
    return await _log(request, query, "stderr")


async def _log(
    request: web.Request, query: LogQuery, stream: Literal["stdout", "stderr"]
) -> web.StreamResponse:
    if query.tail is not None and query.offset is not None:
        raise InvalidRequest("tail", "cannot be combined with `offset`")
    wanted = Range.parse(request.headers.get("Range"))
    file = await manager_of(request).log_file(job_id_of(request), stream, query.attempt)
    async with aclosing(file):
        headers: dict[str, str] = {}
        if query.tail is not None:
            portion = await read_tail(file, query.tail, query.limit)
        elif query.offset is None and wanted is not None:
            portion = await read_range(file, wanted, MAX_WINDOW_BYTES)
            first = portion.first
            if not portion.length:
                raise _outside(first.size_bytes)
            headers["Content-Range"] = _content_range(first.offset, portion.length, first.size_bytes)
        else:
            portion = await read_from(file, query.offset or 0, query.limit)
        return await _answer(request, file, portion, headers)


async def _answer(
    request: web.Request, file: RunFile, portion: Portion, headers: dict[str, str]
) -> web.StreamResponse:
    headers |= {
        # No charset: jobs write what they like.
        "Content-Type": LOG_TYPE,
        "Accept-Ranges": "bytes",
        "X-Log-Offset": str(portion.first.offset),
        "X-Log-Size": str(portion.first.size_bytes),
    }
    status = 206 if "Content-Range" in headers else 200
    if portion.length == len(portion.first.data):
        return web.Response(body=portion.first.data, status=status, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    await _stream(request, response, file, portion)
    return response


async def files(request: web.Request, query: AttemptQuery) -> web.Response:
    """The files of a job's run directory."""
    found = await manager_of(request).files(job_id_of(request), query.attempt)
    return reply(FilesAnswer([file_answer(entry) for entry in found]))


async def download(request: web.Request, query: AttemptQuery) -> web.StreamResponse:
    """One file of a job's run directory."""
    # Not aiohttp's FileResponse: it would answer with `result.csv.gz`, if the job made one, for `result.csv`.
    file = await manager_of(request).file(job_id_of(request), request.match_info["path"], query.attempt)
    async with aclosing(file):
        wanted = Range.parse(request.headers.get("Range"))
        asked_at, asked_bytes = (0, None) if wanted is None else wanted.asked
        at_most = 0 if request.method == "HEAD" else CHUNK_BYTES
        first = await file.read(asked_at, at_most if asked_bytes is None else min(asked_bytes, at_most))
        offset, length, status = 0, first.size_bytes, 200
        headers = {
            "Content-Type": FILE_TYPE,
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(os.fsencode(file.name), safe='')}",
            "Accept-Ranges": "bytes",
        }
        if wanted is not None:
            offset, length = wanted.within(first.size_bytes)
            if not length:
                raise _outside(first.size_bytes)
            headers["Content-Range"] = _content_range(offset, length, first.size_bytes)
            status = 206
        response = web.StreamResponse(status=status, headers=headers)
        await _stream(request, response, file, Portion(first, length))
    return response


async def _stream(
    request: web.Request, response: web.StreamResponse, file: RunFile, portion: Portion
) -> None:
    response.content_length = portion.length
    await response.prepare(request)
    if request.method == "HEAD":
        return
    if not await _send(response, file, portion.first, portion.length) and request.transport is not None:
        # An answer that looks whole would be a lie.
        request.transport.abort()


async def _send(response: web.StreamResponse, file: RunFile, window: Window, length: int) -> bool:
    """Send `length` bytes, which begin with `window`; whether there were so many."""
    while length and window.data:
        await response.write(window.data)
        length -= len(window.data)
        if length:
            try:
                window = await file.read(window.end, min(length, CHUNK_BYTES))
            except (FileMissing, SiteError) as error:
                logger.warning("a download of %r breaks off: %s", file.name, error)
                return False
    if length:
        logger.warning("a download of %r breaks off: the job cut the file short", file.name)
    return not length


def _content_range(offset: int, length: int, size_bytes: int) -> str:
    return f"bytes {offset}-{offset + length - 1}/{size_bytes}"


def _outside(size_bytes: int) -> Refusal:
    return Refusal(
        416,
        "range_outside",
        f"the range lies outside the {size_bytes} bytes there are now",
        headers={"Content-Range": f"bytes */{size_bytes}"},
    )

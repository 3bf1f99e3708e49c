"""What jobs wrote: logs in pieces, files of the run directory as a list and as downloads. Bytes, never decoded."""

from __future__ import annotations

import asyncio
import os
from typing import Literal
from urllib.parse import quote

from aiohttp import web

from jobmgr.api.keys import MANAGER
from jobmgr.api.path import job_id_of
from jobmgr.api.problems import Refusal
from jobmgr.api.reply import reply
from jobmgr.api.window import Range, Window, open_regular, read_from, read_range, read_tail, size_of
from jobmgr.errors import InvalidRequest
from jobmgr.wire.answers import FilesAnswer
from jobmgr.wire.requests import MAX_WINDOW_BYTES, AttemptQuery, LogQuery
from jobmgr.wire.translation import file_answer

LOG_TYPE = "text/plain"
FILE_TYPE = "application/octet-stream"
_CHUNK_BYTES = 256 * 1024


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
    path = await request.app[MANAGER].log_file(job_id_of(request), stream, query.attempt)
    wanted = Range.parse(request.headers.get("Range"))
    if query.tail is not None:
        window = await asyncio.to_thread(read_tail, path, query.tail, query.limit)
    elif query.offset is None and wanted is not None:
        window = await asyncio.to_thread(read_range, path, wanted, MAX_WINDOW_BYTES)
        if not window.data:
            raise _outside(window.size_bytes)
        return _piece(
            window, 206, {"Content-Range": _content_range(window.offset, len(window.data), window.size_bytes)}
        )
    else:
        window = await asyncio.to_thread(read_from, path, query.offset or 0, query.limit)
    return _piece(window, 200, {})


def _piece(window: Window, status: int, headers: dict[str, str]) -> web.Response:
    headers |= {
        # No charset: jobs write what they like.
        "Content-Type": LOG_TYPE,
        "Accept-Ranges": "bytes",
        "X-Log-Offset": str(window.offset),
        "X-Log-Size": str(window.size_bytes),
    }
    return web.Response(body=window.data, status=status, headers=headers)


async def files(request: web.Request, query: AttemptQuery) -> web.Response:
    """The files of a job's run directory."""
    found = await request.app[MANAGER].files(job_id_of(request), query.attempt)
    return reply(FilesAnswer([file_answer(entry) for entry in found]))


async def download(request: web.Request, query: AttemptQuery) -> web.StreamResponse:
    """One file of a job's run directory."""
    # Not aiohttp's FileResponse: it would answer with `result.csv.gz`, if the job made one, for `result.csv`.
    path = await request.app[MANAGER].file(job_id_of(request), request.match_info["path"], query.attempt)
    file = await asyncio.to_thread(open_regular, path)
    try:
        size_bytes = await asyncio.to_thread(size_of, file)
        offset, length = 0, size_bytes
        headers = {
            "Content-Type": FILE_TYPE,
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(os.fsencode(path.name), safe='')}",
            "Accept-Ranges": "bytes",
        }
        status = 200
        if (wanted := Range.parse(request.headers.get("Range"))) is not None:
            offset, length = wanted.within(size_bytes)
            if not length:
                raise _outside(size_bytes)
            headers["Content-Range"] = _content_range(offset, length, size_bytes)
            status = 206
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = length
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        await asyncio.to_thread(file.seek, offset)
        while length and (chunk := await asyncio.to_thread(file.read, min(length, _CHUNK_BYTES))):
            await response.write(chunk)
            length -= len(chunk)
        if length and request.transport is not None:
            # The job cut its file short; an answer that looks whole would be a lie.
            request.transport.abort()
    finally:
        await asyncio.to_thread(file.close)
    return response


def _content_range(offset: int, length: int, size_bytes: int) -> str:
    return f"bytes {offset}-{offset + length - 1}/{size_bytes}"


def _outside(size_bytes: int) -> Refusal:
    return Refusal(
        416,
        "range_outside",
        f"the range lies outside the {size_bytes} bytes there are now",
        headers={"Content-Range": f"bytes */{size_bytes}"},
    )

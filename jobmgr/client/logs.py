"""Reading what a job wrote, also while it writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial

from jobmgr.client.connection import Connection, path
from jobmgr.client.following import follow as follow_events
from jobmgr.client.patience import TRANSIENT, Patience
from jobmgr.domain.job import EventPosition, Job
from jobmgr.domain.site import LOCAL
from jobmgr.errors import (
    EventsGone,
    FileMissing,
    HostKeyRefused,
    JobNotFound,
    LoginRefused,
    SiteSilent,
    SiteUnreachable,
)
from jobmgr.transports.directory import Window
from jobmgr.wire.answers import JobsAnswer
from jobmgr.wire.translation import to_job

# Output grows without events, so it is looked at: soon after it grew, then more and more rarely.
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 2.0
# At a site each look is a command on a machine that is shared with many.
FIRST_PAUSE_AT_SITE_S = 1.0
LONGEST_PAUSE_AT_SITE_S = 5.0
PIECE_BYTES = 4 * 1024 * 1024


async def read(
    connection: Connection,
    job_id: str,
    stream: str,
    *,
    offset: int | None = None,
    limit: int | None = None,
    tail: int | None = None,
    attempt: int | None = None,
) -> Window:
    """A window of a log. Raises FileMissing while the job has written none."""
    asked = {"offset": offset, "limit": limit, "tail": tail, "attempt": attempt}
    query = {name: str(value) for name, value in asked.items() if value is not None}
    async with connection.fetch(path("jobs", job_id, "logs", stream), query) as response:
        data = await response.read()
        start = int(response.headers.get("X-Log-Offset", offset or 0))
        return Window(data, start, int(response.headers.get("X-Log-Size", start + len(data))))


async def last_lines(read_window: Callable[..., Awaitable[Window]], lines: int) -> Window:
    """The last so many lines, however long they are; of more than 4 MiB the first part.

    `read_window` is `read` or `Client.log` for one log.
    """
    window = await read_window(tail=lines, limit=PIECE_BYTES)
    if window.offset == 0 or len(window.data) < PIECE_BYTES:
        return window
    # A newline at the end ends the last line.
    left, end = lines, window.end - 1
    while True:
        begin = max(0, end - PIECE_BYTES)
        data = (await read_window(offset=begin, limit=end - begin)).data
        at = len(data)
        while left and (at := data.rfind(b"\n", 0, at)) >= 0:
            left -= 1
        if not left or not begin:
            return await read_window(offset=begin + at + 1 if not left else 0, limit=PIECE_BYTES)
        end = begin


async def follow(
    connection: Connection,
    job_id: str,
    stream: str,
    *,
    tail: int | None,
    attempt: int | None,
    patience_s: float,
) -> AsyncGenerator[bytes, None]:
    """What the job writes until it has ended; see Client.follow_log.

    Raises FileMissing, in the service's words, for a job that ended without having started.
    """
    reader = _Reader(connection, job_id, stream, tail)
    patience = Patience(patience_s)
    wake = asyncio.Event()
    job, position = await _state(connection, job_id)
    watcher = asyncio.create_task(_watch(connection, job_id, position, patience_s, wake))
    first_s, longest_s = _pauses(job)
    pause_s = first_s
    try:
        while True:
            before = reader.taken
            try:
                async with aclosing(reader.rest_of(attempt or job.attempt)) as pieces:
                    async for piece in pieces:
                        yield piece
                if job.status.is_terminal and not job.attempt:
                    await read(connection, job_id, stream)
                if job.status.is_terminal or (attempt is not None and job.attempt > attempt):
                    return
                pause_s = first_s if reader.taken > before else min(pause_s * 2, longest_s)
                if await _woken(wake, pause_s) or pause_s == longest_s:
                    job, _ = await _state(connection, job_id)
                patience.recovered()
            except (HostKeyRefused, LoginRefused):
                raise  # Before a person has done something, they do not pass.
            except (*TRANSIENT, SiteUnreachable, SiteSilent) as error:
                await patience.wait_after(error)
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


def _pauses(job: Job) -> tuple[float, float]:
    if job.site == LOCAL:
        return FIRST_PAUSE_S, LONGEST_PAUSE_S
    return FIRST_PAUSE_AT_SITE_S, LONGEST_PAUSE_AT_SITE_S


class _Reader:
    """Where reading has come to: an attempt, and an offset in its log."""

    def __init__(self, connection: Connection, job_id: str, stream: str, tail: int | None) -> None:
        self._connection = connection
        self._job_id = job_id
        self._stream = stream
        self._tail = tail
        self._attempt = 0
        self._offset = 0
        self.taken = 0

    async def rest_of(self, attempt: int) -> AsyncGenerator[bytes, None]:
        """What there is and was not read yet: of the attempt read so far, then of `attempt`."""
        for number in sorted({self._attempt, attempt} - {0}):
            if number != self._attempt:
                self._attempt, self._offset = number, 0
            async with aclosing(self._rest()) as pieces:
                async for piece in pieces:
                    yield piece

    async def _rest(self) -> AsyncGenerator[bytes, None]:
        window_of = partial(read, self._connection, self._job_id, self._stream, attempt=self._attempt)
        while True:
            try:
                if self._tail is None:
                    window = await window_of(offset=self._offset)
                else:
                    window = await last_lines(window_of, self._tail)
            except FileMissing:
                return
            self._tail = None
            # A job may cut its log short; what it writes then begins at the beginning.
            self._offset = window.end if window.size_bytes >= window.offset else 0
            if window.data:
                self.taken += len(window.data)
                yield window.data
            if not window.data or window.end >= window.size_bytes:
                return


async def _state(connection: Connection, job_id: str) -> tuple[Job, EventPosition]:
    page = await connection.read(path("jobs"), JobsAnswer, {"ids": job_id, "limit": "1"})
    if not page.jobs:
        raise JobNotFound(job_id)
    return to_job(page.jobs[0]), EventPosition(page.epoch, page.seq)


async def _watch(
    connection: Connection, job_id: str, after: EventPosition, patience_s: float, wake: asyncio.Event
) -> None:
    """Set `wake` when something happened to the job. Without it the job is looked at every few seconds."""
    with contextlib.suppress(EventsGone, *TRANSIENT):
        async with aclosing(follow_events(connection, after, patience_s, job_id)) as events:
            async for _ in events:
                wake.set()


async def _woken(wake: asyncio.Event, pause_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(pause_s):
            await wake.wait()
    woken = wake.is_set()
    wake.clear()
    return woken

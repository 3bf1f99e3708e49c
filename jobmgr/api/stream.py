"""Server-sent events: the event log over one long answer, resumable by `Last-Event-ID`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from aiohttp import web

from jobmgr.api.idempotency import manager_of
from jobmgr.api.keys import STREAMS
from jobmgr.domain.access import Hearing
from jobmgr.domain.job import Event, EventPosition
from jobmgr.errors import EventsGone, StoreUnavailable
from jobmgr.manager.feed import Following
from jobmgr.manager.manager import Manager
from jobmgr.wire.translation import encode, event_answer

logger = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_S = 15.0
# The newest batches are what all followers who hear alike are sent at about the same time.
MAX_TEXTS = 8
_HEADERS = {"Content-Type": MEDIA_TYPE, "X-Accel-Buffering": "no"}


class Streams:
    """All open streams of an application; they end when it shuts down."""

    def __init__(self, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.heartbeat_s = heartbeat_s
        self._open: dict[Following, Hearing] = {}
        self._has_closed = False
        self._texts: dict[Hearing, dict[tuple[str, int, int], bytes]] = {}

    def text(self, batch: Sequence[Event], epoch: str, hearing: Hearing) -> bytes:
        """What is told of a batch to whoever hears so, as it is sent: made once for all of them."""
        # The log has no gap that is filled later, so first and last event say which are between.
        key = epoch, batch[0].seq, batch[-1].seq
        texts = self._texts.setdefault(hearing, {})
        text = texts.get(key)
        if text is None:
            if len(texts) >= MAX_TEXTS:
                del texts[next(iter(texts))]
            text = texts[key] = _text(hearing.heard(batch), epoch)
        return text

    @contextlib.asynccontextmanager
    async def follow(self, manager: Manager, after: EventPosition) -> AsyncIterator[Following]:
        """The batches of events after `after` until the application shuts down; an empty one at each heartbeat."""
        following = manager.follow(after, beat_s=self.heartbeat_s)
        hearing = self._open[following] = manager.hearing
        if self._has_closed:
            following.end()
        try:
            async with contextlib.aclosing(following):
                yield following
        finally:
            del self._open[following]
            if hearing not in self._open.values():
                self._texts.pop(hearing, None)

    async def close(self, _app: web.Application) -> None:
        """End all streams. Clients come again with the id of the last event they saw."""
        self._has_closed = True
        for following in self._open:
            following.end()


async def stream(request: web.Request, after: EventPosition | None, job_id: str | None) -> web.StreamResponse:
    """Answer with the events after `after` (None: from now on), of one job if given, for ever.

    Raises EventsGone while the answer has not begun; afterwards that is the event `reset`, and the end.
    """
    manager, streams = manager_of(request), request.app[STREAMS]
    after = after or await manager.event_position()
    async with streams.follow(manager, after) as batches:
        # Following has begun before the client learns that it has an answer, so what it reads then is older.
        await anext(batches)
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        try:
            await response.write(f"retry: 2000\nid: {after}\n\n".encode())
            await _send(response, manager, _Told(streams, manager.hearing, job_id), batches, after)
        except EventsGone as gone:
            data = {"epoch": gone.epoch, "seq": gone.seq, "detail": str(gone)}
            await response.write(_frame("reset", f"{gone.epoch}:{gone.seq}", data))
        except StoreUnavailable as error:
            # The end of the answer makes the reader come again.
            logger.warning("a stream of events ends: %s", error)
        except ConnectionError:
            # The reader is gone: nobody is left to tell.
            if request.transport is not None:
                request.transport.abort()
    return response


@dataclass(frozen=True, slots=True)
class _Told:
    """What one reader is told: what is for them, of one job if they asked for one."""

    streams: Streams
    hearing: Hearing
    job_id: str | None

    def text(self, batch: Sequence[Event], epoch: str) -> bytes:
        if self.job_id is None:
            return self.streams.text(batch, epoch, self.hearing)
        own = [event for event in batch if event.job_id == self.job_id]
        return _text(self.hearing.heard(own), epoch)


async def _send(
    response: web.StreamResponse,
    manager: Manager,
    told: _Told,
    batches: AsyncIterator[Sequence[Event]],
    after: EventPosition,
) -> None:
    async for batch in batches:
        if not await manager.is_current():
            # The end of the answer makes the reader come again, as whoever it is now.
            return
        if not batch:
            # The id moves on also for a reader who was sent nothing, so that it never falls behind.
            await response.write(f": alive\nid: {after}\n\n".encode())
            continue
        after = EventPosition(after.epoch, batch[-1].seq)
        if text := told.text(batch, after.epoch):
            await response.write(text)


def _text(batch: Sequence[Event], epoch: str) -> bytes:
    return b"".join(_frame(event.kind, f"{epoch}:{event.seq}", event_answer(event)) for event in batch)


def _frame(kind: str, position: str, data: object) -> bytes:
    return f"id: {position}\nevent: {kind}\ndata: ".encode() + encode(data) + b"\n\n"

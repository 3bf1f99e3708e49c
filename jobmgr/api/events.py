"""Events: a page of the log, or the log as it grows."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from jobmgr.api.idempotency import manager_of
from jobmgr.api.path import job_id_of
from jobmgr.api.query import parse_position
from jobmgr.api.reply import reply
from jobmgr.api.stream import MEDIA_TYPE, stream
from jobmgr.domain.job import Event, EventPosition
from jobmgr.errors import EventsGone
from jobmgr.wire.requests import EventsQuery, JobEventsQuery
from jobmgr.wire.translation import event_answer


async def events(request: web.Request, query: EventsQuery) -> web.StreamResponse:
    """A page of events, or with `Accept: text/event-stream` all that come."""
    manager = manager_of(request)
    if query.job is not None:
        await manager.get(query.job)
    if MEDIA_TYPE in request.headers.get("Accept", ""):
        # A browser that reconnects repeats the address it began with, and says here how far it came.
        last = request.headers.get("Last-Event-ID")
        after = await parse_position(last or query.after, manager, "Last-Event-ID" if last else "after")
        return await stream(request, after, query.job)
    after = await parse_position(query.after, manager)
    if query.job is not None:
        return await _page_of_job(request, query.job, after, query.limit)
    found, last_seq = await manager.event_page(after, query.limit)
    return await _page(request, found, after, last_seq)


async def job_events(request: web.Request, query: JobEventsQuery) -> web.StreamResponse:
    """A page of a job's events."""
    after = await parse_position(query.after, manager_of(request))
    return await _page_of_job(request, job_id_of(request), after, query.limit)


async def _page_of_job(
    request: web.Request, job_id: str, after: EventPosition | None, limit: int
) -> web.StreamResponse:
    if after is not None:
        now = await manager_of(request).event_position()
        if after.epoch != now.epoch:
            reason = "this position is of another database"
            raise EventsGone(reason, epoch=now.epoch, seq=now.seq)
    found = await manager_of(request).job_events(job_id, after.seq if after else 0, limit)
    return await _page(request, found, after, found[-1].seq if found else None)


async def _page(
    request: web.Request, found: Sequence[Event], after: EventPosition | None, last: int | None
) -> web.StreamResponse:
    # Those behind the last one that is shown may be none for whoever asks.
    now = await manager_of(request).event_position()
    seen = last if last is not None else after.seq if after else 0
    # A dict, not an EventsAnswer: each event has fields of its own beside those all have.
    return reply(
        {
            "events": [event_answer(event) for event in found],
            "epoch": now.epoch,
            "seq": now.seq,
            "next_after": f"{now.epoch}:{seen}",
        }
    )

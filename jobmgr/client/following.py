"""Events as they are committed, over broken connections and restarts of the service."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from jobmgr.client.connection import Connection, path
from jobmgr.client.patience import TRANSIENT, Patience
from jobmgr.client.sse import Message, Parser
from jobmgr.domain.job import Event, EventPosition
from jobmgr.errors import AnswerNotUnderstood, EventsGone, ServiceUnreachable
from jobmgr.wire.translation import to_event


class _Reset(msgspec.Struct):
    detail: str = "this reader was too slow for the stream"
    epoch: str = ""
    seq: int = 0


async def follow_once(
    connection: Connection, after: EventPosition, patience: Patience, job_id: str | None = None
) -> AsyncGenerator[Event, None]:
    """The events after `after` (of one job if given), until the connection breaks.

    Then ServiceUnreachable is raised: a stream has no plain end.

    Raises EventsGone when the service cannot continue from `after` or this reader was too slow for it, and
    AnswerNotUnderstood for what is no event.
    """
    query = {"after": str(after)} | ({} if job_id is None else {"job": job_id})
    parser = Parser()
    async with connection.stream(path("events"), query) as response:
        patience.answered()
        async for piece in response.content.iter_any():
            for message in parser.feed(piece):
                yield event_of(message)
    raise ServiceUnreachable(connection.url, "it ended the stream of events")


def event_of(message: Message) -> Event:
    """The event that `message` tells. Raises EventsGone for the message that says so, AnswerNotUnderstood."""
    try:
        if message.event != "reset":
            return to_event(msgspec.json.decode(message.data, type=dict[str, Any]))
        reset = msgspec.json.decode(message.data, type=_Reset)
    except (ValueError, RecursionError) as error:
        raise AnswerNotUnderstood(f"in its stream of events, {error}") from error
    raise EventsGone(reset.detail, epoch=reset.epoch, seq=reset.seq)


async def follow(
    connection: Connection, after: EventPosition, patience_s: float, job_id: str | None = None
) -> AsyncGenerator[Event, None]:
    """The events after `after`, each once and in order, without end.

    A broken connection is made again. Raises EventsGone as `follow_once` does, and ServiceUnreachable when
    the service does not come back within `patience_s`.
    """
    patience = Patience(patience_s)
    while True:
        try:
            async with aclosing(follow_once(connection, after, patience, job_id)) as events:
                async for event in events:
                    patience.recovered()
                    after = EventPosition(after.epoch, event.seq)
                    yield event
        except TRANSIENT as error:
            await patience.wait_after(error)
